"""The whole journal of a damaged memory: every segment's header, then what can be made of each segment.

Purpose: read only the segments that a check found damaged, and know of the others what their headers say. Invariants:
a replica's segment is used only where it is the same file (equal header, with its writer's nonce) or where it follows
from our own chain value; a header is taken only when a CRC-32 vouches for it or every field of it follows.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from emm.codec.journal import SegmentHeader, decode_segment_header
from emm.codec.snapshot import Head
from emm.errors import FormatError, StorageError
from emm.layout import SEGMENT_HEADER
from emm.repair.copies import MemoryCopy
from emm.repair.plan import From, Part
from emm.repair.segments import Expected, MendedSegment, Piece, SegmentMender
from emm.storage.names import segment_name
from emm.storage.segment_file import SegmentReader
from emm.verify.segments import RebuiltReader


@dataclass(slots=True)
class JournalMender:
    """Mends the segments of one memory, in ascending order."""

    own: MemoryCopy
    replica: MemoryCopy | None
    suspects: frozenset[int]
    heads: dict[int, Head]  # of our own snapshots, by generation
    key_dim: int
    dim: int
    distrusted: frozenset[int] = field(init=False, default=frozenset())  # whole, and not a continuation of the log
    headers: dict[int, tuple[SegmentHeader, list[Part]]] = field(init=False, default_factory=dict)
    mended: dict[int, MendedSegment] = field(init=False, default_factory=dict)

    def run(self) -> dict[int, MendedSegment]:
        """Segment number → what can be made of it, for every segment that is there or must have been."""
        numbers = self._numbers()
        for number in numbers:
            if number in self.distrusted:
                continue
            if number in self.own.headers:
                self.headers[number] = self.own.headers[number], []
            elif (found := self._flipped_header(number)) is not None:
                self.headers[number] = found
        for number in numbers:
            self.mended[number] = self._segment(number, last=number == numbers[-1])
        return self.mended

    def _numbers(self) -> range:
        present = self.own.listing.segments
        nexts = [head.lineage.segment_next for head in self.heads.values()]
        first = min([*present, *nexts], default=1)
        return range(first, max([*present, *(each - 1 for each in nexts)], default=0) + 1)

    # --- headers --------------------------------------------------------------------------------

    def _raw_header(self, number: int) -> bytes:
        try:
            size = self.own.directory.size(segment_name(number))
            return self.own.directory.read_at(segment_name(number), 0, min(SEGMENT_HEADER.size, size))
        except (StorageError, FormatError):
            return b""

    def _flipped_header(self, number: int) -> tuple[SegmentHeader, list[Part]] | None:
        """A header with one wrong bit: its CRC-32 says which, and its number and UUID confirm it."""
        raw = self._raw_header(number)
        for position in range(8 * len(raw) if len(raw) == SEGMENT_HEADER.size else 0):
            changed = bytearray(raw)
            changed[position // 8] ^= 1 << position % 8
            with contextlib.suppress(FormatError):
                header = decode_segment_header(bytes(changed))
                if header.segment == number and header.uuid == self.own.uuid:
                    detail = f"flip bit {position % 8} of byte {position // 8} back, as its CRC-32 says"
                    return header, [Part("segment header", From.BIT, detail, position // 8, 1)]
        return None

    def _other_header(self, number: int) -> tuple[SegmentHeader, list[Part]] | None:
        """The replica's header, or one whose every field follows, for a header that is beyond its own CRC."""
        before = self._before(number)
        theirs = None if self.replica is None else self.replica.headers.get(number)
        if theirs is not None and before is not None and (theirs.first_lsn, theirs.chain) == before[:2]:
            detail = "the replica's, which continues our chain value"
            return theirs, [Part("segment header", From.REPLICA, detail, 0, SEGMENT_HEADER.size)]
        return self._derived_header(number, before)

    def _derived_header(
        self, number: int, before: tuple[int, bytes, int, int] | None
    ) -> tuple[SegmentHeader, list[Part]] | None:
        raw = self._raw_header(number)
        if before is None or len(raw) < SEGMENT_HEADER.size:
            return None
        first_lsn, chain, rank, floor = before
        nonces = [SEGMENT_HEADER.unpack(raw)["writer_nonce"]]
        nonces += [head.lineage.writer_nonce for head in self.heads.values()]
        previous = self.mended.get(number - 1)
        lengths = [SEGMENT_HEADER.unpack(raw)["previous_bytes"], 0]
        lengths += [previous.size] if previous is not None else []
        for nonce in dict.fromkeys(nonces):
            for length in dict.fromkeys(lengths):
                header = SegmentHeader(number, first_lsn, floor, self.own.uuid, nonce, chain, length, rank)
                made = header.encode()
                if made[-4:] == raw[-4:] or made[:-4] == raw[:-4]:  # one vouches for the other
                    detail = "every field follows from the log before it, and its CRC-32 agrees"
                    return header, [Part("segment header", From.DERIVED, detail, 0, SEGMENT_HEADER.size)]
        return None

    def _before(self, number: int) -> tuple[int, bytes, int, int] | None:
        """(first LSN, chain, rank, floor) with which a segment must begin, as the log before it or a snapshot says."""
        for head in self.heads.values():
            if head.lineage.segment_next == number:
                lineage, rank = head.lineage, head.header.parameters.rank
                return head.header.lsn + 1, lineage.chain, rank, lineage.floor_generation
        previous = self.mended.get(number - 1)
        if previous is None or previous.header is None or not previous.complete or not previous.chain_end:
            return None
        return previous.live_last + 1, previous.chain_end, previous.header.rank, previous.header.floor_generation

    # --- segments -------------------------------------------------------------------------------

    def _segment(self, number: int, *, last: bool) -> MendedSegment:
        present = number in self.own.listing.segments
        if number not in self.headers:
            other = None if number in self.distrusted else self._other_header(number)
            if other is None:
                return MendedSegment(number, complete=False, own=present, unknown=not self._bounded(number))
            self.headers[number] = other
        header, parts = self.headers[number]
        if number not in self.suspects and present and not parts:
            return self._untouched(number, header)
        data = self.own.segment(number) or b""
        expected = self._expected(number, header, last)
        if not data and self.replica is not None:
            parts = [Part("file", From.REPLICA, "its segment continues our chain value", 0, None)]
        mended = SegmentMender(number, header, parts, data, self._same_file(number, header), expected).run()
        mended.own = present
        return mended

    def _untouched(self, number: int, header: SegmentHeader) -> MendedSegment:
        size = self.own.directory.size(segment_name(number))
        mended = MendedSegment(number, header, [Piece(0, size)])
        end = self._live_end(number)
        if end is not None:
            mended.live_last, mended.chain_end = end
            return mended
        reader = SegmentReader(self.own.directory, number, self.own.uuid)
        mended.live_last, mended.chain_end = header.first_lsn - 1, header.chain
        for logged in reader.commits():
            mended.live_last, mended.chain_end = logged.lsn, logged.commit.chain
        mended.sealed = reader.sealed
        return mended

    def _same_file(self, number: int, header: SegmentHeader) -> bytes | None:
        """The replica's bytes of this very segment: a header with its writer's nonce is no one else's."""
        if self.replica is None or self.replica.headers.get(number) != header:
            return None
        return self.replica.segment(number)

    def _live_end(self, number: int) -> tuple[int, bytes] | None:
        """(last live LSN, chain after it) of a segment, as the next one or a snapshot after it states them."""
        follower = self.headers.get(number + 1)
        if follower is not None:
            return follower[0].first_lsn - 1, follower[0].chain
        for head in self.heads.values():
            if head.lineage.segment_next == number + 1:
                return head.header.lsn, head.lineage.chain
        return None

    def _bounded(self, number: int) -> bool:
        """True when a later segment or snapshot says that this one was ended, even if not where."""
        return any(later > number for later in self.headers) or any(
            head.lineage.segment_next > number for head in self.heads.values()
        )

    def _expected(self, number: int, header: SegmentHeader, last: bool) -> Expected:
        follower = self.headers.get(number + 1)
        stated = follower[0].previous_bytes if follower is not None else 0
        ended = not stated and (
            follower is not None or any(head.lineage.segment_next == number + 1 for head in self.heads.values())
        )
        end = self._live_end(number)
        proven = max((head.header.lsn for head in self.heads.values()), default=0)
        at_least = max(proven, self.evidence(number, header, stated)) if last else 0
        return Expected(self.own.uuid, self.key_dim, self.dim, None if end is None else end[0], at_least, stated, ended)

    def evidence(self, number: int, header: SegmentHeader, previous_bytes: int) -> int:
        """The largest LSN that any valid record of a segment, also beyond its damage, proves durable."""
        if number not in self.own.listing.segments:
            return 0
        reader = RebuiltReader(self.own.directory, number, self.own.uuid, header)
        for _ in reader.commits(previous_bytes):
            pass
        offset = reader.valid_bytes if reader.damage is None or reader.damage.offset is None else reader.damage.offset
        return max(reader.proven_lsn, reader.evidence_beyond(min(offset, reader.size)))

    def segments(self) -> Iterator[MendedSegment]:
        """In ascending order."""
        return iter(self.mended[number] for number in sorted(self.mended))
