"""Judge a journal: is what does not parse a torn tail, a leftover, or damage to what was durable?

Purpose: spec J- and R-rules as findings. Invariants: damage at or below the last proof is damage, with the
commits it touches; bytes beyond the last proof that do not parse are never called clean and never called
lost; a whole tail without a seal is clean with a finding. Judging reads nothing: `segments` has read all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from emm.errors import FormatError, LimitError, NotEmmError, UnsupportedError
from emm.layout import SEGMENT_HEADER
from emm.storage.segment_file import could_be_torn
from emm.verify.continuity import ContinuityCheck
from emm.verify.evidence import NOTHING_TOUCHED, Evidence
from emm.verify.finding import Finding, finding, from_error
from emm.verify.segments import Segment

_UUID_OFFSET = SEGMENT_HEADER.offset("uuid")


@dataclass(frozen=True, slots=True)
class JournalCheck:
    """Judges the segments of one memory, or of one file when there are no snapshots."""

    evidence: Evidence
    url: str

    def run(self) -> Iterator[Finding]:
        """Findings in the order of the log."""
        segments = self.evidence.segments
        continuity = ContinuityCheck(self.evidence, self.url)
        for index, segment in enumerate(segments):
            follower = segments[index + 1] if index + 1 < len(segments) else None
            yield from self._segment(segment, follower)
            if follower is not None:
                yield from continuity.between(segment, follower)
        yield from continuity.end()
        yield from continuity.snapshots()

    # --- one segment ----------------------------------------------------------------------------

    def _segment(self, segment: Segment, follower: Segment | None) -> Iterator[Finding]:
        if segment.header_error is not None:
            yield self._header_damage(segment, segment.header_error, self._end(segment, follower))
        if segment.read_error is not None:
            yield from_error("unreadable", segment.read_error, file=segment.file)
            return
        if segment.over_limit is not None:
            yield from_error("over-limit", segment.over_limit, file=segment.file)
            return
        if segment.header is None:
            return
        stated = segment.header.previous_bytes
        follows = any(each.number == segment.number - 1 for each in self.evidence.segments)
        if segment.header_error is None and 0 < stated < SEGMENT_HEADER.size and not follows:
            yield finding(
                "segment-header-damaged",
                "no segment before this one can have been so short",
                rule="R-11",
                file=segment.file,
                offset=SEGMENT_HEADER.offset("previous_bytes"),
                expected=f"0, or at least {SEGMENT_HEADER.size}",
                found=stated,
                repair=self.evidence.beyond(segment.number),
            )
        for lsn, error in segment.breaks:
            dead = follower is not None and follower.header is not None and lsn >= follower.header.first_lsn
            repair = NOTHING_TOUCHED if dead else self.evidence.containing(lsn)
            yield from_error("chain-broken", error, file=segment.file, lsns=(lsn, lsn), repair=repair)
        yield from self._end_of_segment(segment, follower)

    def _header_damage(self, segment: Segment, error: FormatError, end: int | None) -> Finding:
        repair = self.evidence.beyond(segment.number)
        lsns = None
        if segment.header is not None:
            first = segment.header.first_lsn
            lsns = (first, end if end is not None else None)
            whole = segment.damage is None and (end is None or segment.live_last >= end)
            if repair is None and whole and segment.header.chain:
                repair = "the header follows from the segment before it and its own records"
        code = "segment-header-damaged"
        if isinstance(error, UnsupportedError):
            code, repair = "unsupported", None
        elif error.rule == "N-2":  # whose records these are, and where the right ones went, cannot be told
            code, repair = "wrong-name", self.evidence.beyond(segment.number)
        elif error.rule == "J-5" and error.offset == _UUID_OFFSET:
            code = "foreign-file"
        elif isinstance(error, NotEmmError) and not self.evidence.snapshots and len(self.evidence.segments) == 1:
            code, repair = "not-emm", None
        where = {"file": segment.file, "offset": 0, "length": SEGMENT_HEADER.size}
        return from_error(code, error, **where, lsns=lsns, repair=repair)

    def _end(self, segment: Segment, follower: Segment | None) -> int | None:
        """The LSN that a segment must reach, as what comes after it states; None when nothing comes after."""
        if follower is not None and follower.header is not None and follower.number == segment.number + 1:
            return follower.header.first_lsn - 1
        ends = [
            each.head.header.lsn
            for each in self.evidence.snapshots
            if each.head is not None and each.head.lineage.segment_next == segment.number + 1
        ]
        return max(ends, default=None)

    def _end_of_segment(self, segment: Segment, follower: Segment | None) -> Iterator[Finding]:
        end = self._end(segment, follower)
        last = follower is None
        if end is None and last and self.evidence.proven_lsn > segment.live_last:
            end = self.evidence.proven_lsn
        if isinstance(segment.damage, (UnsupportedError, LimitError)):
            code = "over-limit" if isinstance(segment.damage, LimitError) else "unsupported"
            yield from_error(code, segment.damage, file=segment.file)
        elif end is not None and (gone := self._first_gone(segment, end)) <= end:
            yield self._commits_gone(segment, gone, end)
        elif end is not None:
            yield from self._after_the_end(segment, end, follower)
        elif segment.damage is not None and last and could_be_torn(segment.damage):
            yield _unparsed("torn-tail", segment, segment.damage, lsns=(segment.live_last + 1, None))
        elif segment.damage is not None:
            repair = NOTHING_TOUCHED if segment.sealed else self.evidence.beyond(segment.number)
            lsns = None if segment.sealed else (segment.live_last + 1, None)
            yield _unparsed("record-damaged", segment, segment.damage, lsns=lsns, repair=repair)
        if last and segment.damage is None and not segment.sealed and self._end(segment, None) is None:
            proven = self.evidence.proven_lsn
            yield finding(
                "unsealed-tail",
                "the last segment has no seal",
                rule="J-19",
                file=segment.file,
                offset=segment.size,
                lsns=(proven + 1, segment.last_lsn) if segment.last_lsn > proven else None,
            )

    def _first_gone(self, segment: Segment, end: int) -> int:
        """The first LSN that this segment should hold and does not; past `end` when it holds them all.

        What comes before a segment says where it begins, so that its own header alone is not believed.
        """
        assert segment.header is not None
        starts = [
            each.head.header.lsn + 1
            for each in self.evidence.snapshots
            if each.head is not None and each.head.lineage.segment_next == segment.number
        ]
        starts += [
            each.live_last + 1
            for each in self.evidence.segments
            if each.number == segment.number - 1
            and not (each.header_error or each.read_error or each.over_limit or each.damage)
        ]
        stated = segment.header.first_lsn
        first = min(starts, default=stated if stated <= end + 1 else end)
        return first if first < stated and first <= end else segment.live_last + 1

    def _commits_gone(self, segment: Segment, first: int, end: int) -> Finding:
        lsns = (first, end)
        repair = self.evidence.containing(end)
        if segment.damage is None:
            return finding(
                "commits-missing",
                "the segment ends before commits that were durable",
                rule="R-6",
                file=segment.file,
                offset=segment.size,
                lsns=lsns,
                expected=f"commits up to {end}",
                found=f"commits up to {first - 1}",
                repair=repair,
            )
        return _unparsed("record-damaged", segment, segment.damage, lsns=lsns, repair=repair)

    def _after_the_end(self, segment: Segment, end: int, follower: Segment | None) -> Iterator[Finding]:
        """Every commit that counts is whole; what about the bytes after them?

        A segment is ended by its seal, or by a successor that states its valid length (R-9, L-5).
        """
        stated = None if follower is None or follower.header_error is not None else follower.header
        adjacent = follower is not None and follower.number == segment.number + 1
        known = stated.previous_bytes if stated is not None and adjacent else 0
        if known and segment.valid_bytes >= known:
            if segment.size > known:
                yield finding(
                    "dead-bytes",
                    "leftovers of a writer that died, fenced off by the next segment",
                    file=segment.file,
                    offset=known,
                    length=segment.size - known,
                )
            return
        if segment.damage is not None:
            yield _unparsed("record-damaged", segment, segment.damage, repair=NOTHING_TOUCHED)
        elif known:
            yield finding(
                "commits-missing",
                "the segment is shorter than the next one's writer found it",
                rule="R-6",
                file=segment.file,
                offset=segment.size,
                expected=f"{known} bytes",
                found=f"{segment.valid_bytes} bytes",
                repair=NOTHING_TOUCHED,
            )
        elif not segment.sealed and (follower is None or (stated is not None and adjacent)):
            yield finding(
                "seal-missing",
                "the segment was ended, but its seal is gone",
                rule="J-19",
                file=segment.file,
                offset=segment.size,
                repair=NOTHING_TOUCHED,
            )
        elif follower is None and segment.live_last > end:
            yield finding(
                "log-contradicted",
                "the segment holds commits past the snapshot that ended it",
                rule="R-5",
                file=segment.file,
                lsns=(end + 1, segment.live_last),
            )


def _unparsed(code: str, segment: Segment, damage: FormatError, **details: Any) -> Finding:
    """Bytes that do not parse: from the end of the last whole batch, mark or seal to the end of the file."""
    start = segment.valid_bytes
    message = damage.message if damage.offset is None else f"{damage.message}, at byte {damage.offset}"
    error = {"rule": damage.rule, "expected": damage.expected, "found": damage.found}
    length = max(0, segment.size - start)
    return finding(code, message, file=segment.file, offset=start, length=length, **(error | details))
