"""Does the log go on from segment to segment, and do the snapshots agree with it?

Purpose: first LSNs, chain values, ranks, numbers and floors of a memory's files against each other (spec R-2,
R-4, R-5, L-5, J-12). Invariants: pure; a file that is damaged itself is compared with nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from emm.codec.journal import SegmentHeader
from emm.codec.snapshot import Head
from emm.layout import SEGMENT_HEADER
from emm.storage.names import segment_name, snapshot_name
from emm.verify.evidence import NOTHING_TOUCHED, Evidence
from emm.verify.finding import Finding, finding
from emm.verify.segments import Segment
from emm.verify.snapshot import SnapshotCheck


@dataclass(frozen=True, slots=True)
class ContinuityCheck:
    """Compares the segments and snapshots of one memory."""

    evidence: Evidence
    url: str

    def between(self, segment: Segment, follower: Segment) -> Iterator[Finding]:
        """From one segment to the next that is there."""
        readable = segment.header is not None and segment.read_error is None and segment.over_limit is None
        if readable and follower.header is not None and follower.header_error is None:
            yield from self._continuity(segment, follower, follower.header)
        yield from self._gap(segment, follower)

    def _continuity(self, segment: Segment, follower: Segment, header: SegmentHeader) -> Iterator[Finding]:
        first = header.first_lsn
        expected, found = [], []
        if first <= segment.proven_lsn:
            expected.append(f"first lsn above {segment.proven_lsn}")
            found.append(f"first lsn {first}")
        chain = self.evidence.chains.get(first - 1, header.chain)
        if header.chain != chain:
            expected.append(f"chain {chain.hex()[:16]}")
            found.append(f"chain {header.chain.hex()[:16]}")
        stated = segment.header if segment.header_error is None and segment.live_last == first - 1 else None
        same_floor = stated is not None and stated.floor_generation == header.floor_generation
        if same_floor and header.rank != segment.rank_end:  # a re-solve between them raises rank and floor together
            expected.append(f"rank {segment.rank_end}")
            found.append(f"rank {header.rank}")
        if expected:
            yield finding(
                "log-contradicted",
                "the segment does not continue the log",
                rule="R-5",
                file=follower.file,
                offset=SEGMENT_HEADER.offset("first_lsn"),
                lsns=(min(first, segment.proven_lsn), None),
                expected=", ".join(expected),
                found=", ".join(found),
                repair=self.evidence.beyond(follower.number),
            )

    def _gap(self, segment: Segment, follower: Segment) -> Iterator[Finding]:
        if follower.number == segment.number + 1:
            return
        first, last = segment.live_last + 1, None
        repair = self.evidence.beyond(follower.number - 1)
        if follower.header is not None:
            last = follower.header.first_lsn - 1
            if last < first and segment.header is not None:
                repair = NOTHING_TOUCHED
        yield self._missing_segments(segment.number + 1, follower.number - 1, (first, last), repair)

    def end(self) -> Iterator[Finding]:
        """Segments that a snapshot, or nothing else, says were there."""
        segments = self.evidence.segments
        heads = [each.head for each in self.evidence.snapshots if each.head is not None]
        if not segments:
            yield from self._whole_journal_gone(heads)
            return
        if heads and heads[-1].lineage.segment_next < segments[0].number:
            first, last = heads[-1].lineage.segment_next, segments[0].number - 1
            stated = segments[0].header
            lsns = (heads[-1].header.lsn + 1, None if stated is None else stated.first_lsn - 1)
            yield self._missing_segments(first, last, lsns, None)
        last = max((head.lineage.segment_next - 1 for head in heads), default=0)
        if last > segments[-1].number:
            lsn = max(head.header.lsn for head in heads)
            lsns = (segments[-1].live_last + 1, lsn)
            yield self._missing_segments(segments[-1].number + 1, last, lsns, self.evidence.beyond(last))

    def _whole_journal_gone(self, heads: list[Head]) -> Iterator[Finding]:
        """Pruning keeps the segments between two snapshots that it keeps (R-10); nothing removes them all."""
        if not heads or heads[0].lineage.segment_next == heads[-1].lineage.segment_next:
            return
        first, last = heads[0].lineage.segment_next, heads[-1].lineage.segment_next - 1
        lsns = (heads[0].header.lsn + 1, heads[-1].header.lsn)
        yield self._missing_segments(first, last, lsns, self.evidence.beyond(last))

    def _missing_segments(self, first: int, last: int, lsns: tuple[int, int | None], repair: str | None) -> Finding:
        names = segment_name(first) if first == last else f"{segment_name(first)} to {segment_name(last)}"
        return finding(
            "segment-missing",
            f"the journal segment {names} is gone",
            rule="R-2",
            file=f"{self.url}/{segment_name(first)}",
            lsns=lsns,
            repair=repair,
        )

    def snapshots(self) -> Iterator[Finding]:
        """Each snapshot against the journal, and the journal against the newest snapshot."""
        snapshots = self.evidence.snapshots
        for each in snapshots:
            yield from self._agreement(each)
        if not snapshots:
            return
        newest = max(each.number or 0 for each in snapshots)
        floors = [s.header.floor_generation for s in self.evidence.segments if s.header and s.header_error is None]
        if newest and max(floors, default=0) > newest:
            yield finding(
                "generation-missing",
                "the journal was written on top of a newer snapshot that is gone",
                rule="R-4",
                file=f"{self.url}/{snapshot_name(max(floors))}",
                expected=f"generation {max(floors)}",
                found=f"generation {newest}",
            )

    def _agreement(self, snapshot: SnapshotCheck) -> Iterator[Finding]:
        """A snapshot's LSN and chain against the journal's."""
        if snapshot.head is None:
            return
        header, lineage = snapshot.head.header, snapshot.head.lineage
        chain = self.evidence.chains.get(header.lsn)
        if chain is not None and chain != lineage.chain:
            yield finding(
                "chain-broken",
                "the snapshot's chain value is not the journal's",
                rule="J-12",
                file=snapshot.file,
                lsns=(header.lsn, header.lsn),
                expected=chain.hex()[:16],
                found=lineage.chain.hex()[:16],
            )
        for segment in self.evidence.segments:
            stated = segment.header if segment.header_error is None else None
            if stated is None or segment.number != lineage.segment_next:
                continue
            rank = header.parameters.rank
            continued_later = stated.floor_generation > header.generation  # a re-solve at this LSN raised the rank
            if stated.first_lsn == header.lsn + 1 and (stated.rank == rank or continued_later):
                continue
            yield finding(
                "log-contradicted",
                "the segment after a snapshot does not begin where the snapshot ends",
                rule="R-5",
                file=segment.file,
                offset=SEGMENT_HEADER.offset("first_lsn"),
                lsns=(min(stated.first_lsn, header.lsn + 1), None),
                expected=f"first lsn {header.lsn + 1}, rank {rank}",
                found=f"first lsn {stated.first_lsn}, rank {stated.rank}",
                repair=self.evidence.beyond(segment.number),
            )
