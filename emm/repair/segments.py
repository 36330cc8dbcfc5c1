"""Mend one journal segment: every record that can be had from its own bytes or a replica's, and where that ends.

Purpose: turn damaged bytes into pieces that make a whole segment again, or say which commits are gone. Invariants: a
commit counts only when its chain value follows (J-12); a piece is bytes of a copy or bytes that a checksum vouches
for; a tail that nobody can judge (R-6) is taken over as it is, never cut and never completed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from emm.codec.journal import JournalRecord, SegmentHeader, decode_record, encode_record, next_chain
from emm.codec.pairs import count_pairs, decode_commit
from emm.errors import FormatError
from emm.layout import SEGMENT_HEADER, RecordType
from emm.repair.plan import From, Part
from emm.repair.record_candidates import BARE_BYTES, Candidate, Surroundings, bare_record, candidates

_BARE = (RecordType.MARK, RecordType.SEAL)
_TAKEN_BACK_MAX = 256  # choices of one batch; each may search a record for a flipped bit


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of the mended segment: a range of our own file, or bytes made or found elsewhere."""

    offset: int  # in our own file
    length: int
    data: bytes | None = None  # None: our own bytes


@dataclass(slots=True)
class MendedSegment:
    """What can be made of one segment."""

    number: int
    header: SegmentHeader | None = None  # None: nothing can be made of it
    pieces: list[Piece] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    live_last: int = 0  # the last commit before a gap, dead ones not counted
    chain_end: bytes = b""  # after it
    complete: bool = True  # holds every live commit that it must hold
    exact: bool = True  # nothing was cut off or made that is not proven to be the original's
    torn: bool = False  # ends in bytes that nobody can judge
    sealed: bool = True  # ends in a seal
    stopped_at: int | None = None  # byte of the gap
    own: bool = True  # the file is there
    unknown: bool = False  # the file held commits past `live_last`, or may have: nothing says how many

    @property
    def size(self) -> int:
        return sum(piece.length for piece in self.pieces)

    @property
    def untouched(self) -> bool:
        """True when the file is taken over as it is."""
        return self.own and not self.parts


@dataclass(frozen=True, slots=True)
class Expected:
    """What the rest of the memory says about a segment."""

    uuid: bytes
    key_dim: int
    dim: int
    live_end: int | None  # its last live commit, where anything says so
    at_least: int  # a commit that is known to have been durable; of the last segment
    previous_bytes: int  # its valid length as the next segment states it; 0 = not stated
    ended: bool  # it is known to have been ended by a seal


class SegmentMender:
    """Walks one segment whose header is known."""

    def __init__(
        self,
        number: int,
        header: SegmentHeader,
        header_parts: list[Part],
        own: bytes,
        replica: bytes | None,
        expected: Expected,
    ) -> None:
        """`header_parts` say how the header was mended, if it was; `header` is the mended one."""
        self.mended = MendedSegment(number, header, live_last=header.first_lsn - 1, chain_end=header.chain)
        self._header_parts = header_parts
        self._own = own
        self._replica = replica or b""
        self._expected = expected
        self._end = min(len(own), expected.previous_bytes) if expected.previous_bytes else len(own)
        self._heard = own[: self._end]  # what lies beyond proves nothing
        self._limit = expected.previous_bytes or max(len(own), len(self._replica))
        self._borrowed = any(part.source is From.REPLICA for part in header_parts)
        self._due = expected.at_least if expected.live_end is None else expected.live_end
        self._lsn = header.first_lsn - 1  # of the last whole commit, dead ones included
        self._chain = header.chain
        self._sealed = False

    def run(self) -> MendedSegment:
        """The mended segment."""
        mended = self.mended
        assert mended.header is not None
        header_bytes = mended.header.encode() if self._header_parts else None
        mended.parts += self._header_parts
        mended.pieces.append(Piece(0, SEGMENT_HEADER.size, header_bytes))
        offset = SEGMENT_HEADER.size
        while offset < self._limit and not self._sealed:
            ahead = offset >= len(self._own) and self._lsn >= self._due and self._expected.live_end is None
            if ahead and not self._borrowed:
                break  # a replica that is ahead: nothing here says that those commits were this copy's
            taken = self._batch(offset, replica_first=False) or self._batch(offset, replica_first=True)
            if taken is None:
                break
            offset = self._accept(offset, taken)
        self._finish(offset)
        return mended

    # --- one batch, mark or seal ----------------------------------------------------------------

    def _batch(self, start: int, *, replica_first: bool) -> list[Candidate] | None:
        """The records from `start` to a commit whose chain follows, or one mark or seal; None for neither.

        Where a record may have been this or that, the chain decides: the last choice is taken back first.
        """
        taken: list[Candidate] = []
        ways = [self._records(start, taken, replica_first)]
        offset, again = start, 0
        while ways and again <= _TAKEN_BACK_MAX:
            found = next(ways[-1], None) if offset < self._limit else None
            if found is None:
                ways.pop()
                offset -= len(taken.pop().data) if taken else 0
                again += 1
                continue
            taken.append(found)
            if found.record.type in _BARE:
                return taken
            if found.record.type is RecordType.COMMIT:
                if self._follows(taken):
                    return taken
                taken.pop()
                again += 1
                continue
            offset += len(found.data)
            ways.append(self._records(offset, taken, replica_first))
        return None

    def _records(self, offset: int, taken: list[Candidate], replica_first: bool) -> Iterator[Candidate]:
        """What may have stood at `offset` behind the records taken so far, the most likely first."""
        batch = bool(taken)
        ours = self._whole(self._heard, offset, From.HEAD, "")
        theirs = self._whole(self._replica, offset, From.REPLICA, "the replica's record at the same place")
        for whole in (theirs, ours) if replica_first else (ours, theirs):
            if whole is not None and self._in_order(whole.record, batch):
                yield whole
        expected, header = self._expected, self.mended.header
        assert header is not None
        known = Surroundings(
            expected.uuid,
            expected.key_dim,
            expected.dim,
            self._lsn,
            self._chain,
            header.first_lsn,
            [each.record for each in taken],
        )
        doubtful = any(each.by_chain for each in taken)
        for each in candidates(self._heard, offset, known):
            fits = self._in_order(each.record, batch) and offset + len(each.data) <= self._limit
            if fits and not (doubtful and each.by_chain):
                yield each
        bare = bare_record(self._own, offset, self._end, known, ended=self._ends_at(known.lsn))
        if bare is not None:
            yield bare

    def _ends_at(self, lsn: int) -> bool:
        return self._expected.ended and self._expected.live_end is not None and lsn >= self._expected.live_end

    def _whole(self, data: bytes, offset: int, source: From, detail: str) -> Candidate | None:
        try:
            record = decode_record(memoryview(data)[offset:], offset, self._expected.uuid)
        except FormatError:
            return None
        return Candidate(record, data[offset : offset + record.size], source, detail)

    def _in_order(self, record: JournalRecord, batch: bool) -> bool:
        if record.type in _BARE:
            return not batch and record.lsn == record.synced_through == self._lsn and not record.payload
        return record.lsn == self._lsn + 1 and (record.type is not RecordType.COMMIT or batch)

    def _follows(self, taken: list[Candidate]) -> bool:
        """J-11, J-12 and J-16 for a batch with its commit."""
        *batch, last = [each.record for each in taken]
        try:
            commit = decode_commit(last)
        except FormatError:
            return False
        triples = [(each.type, each.lsn, each.payload) for each in batch]
        counts = len(batch), sum(map(count_pairs, batch))
        chain = next_chain(self._chain, triples, commit.encode())
        return (commit.n_records, commit.n_pairs) == counts and chain == commit.chain

    def _accept(self, offset: int, taken: list[Candidate]) -> int:
        live = self._expected.live_end is None or self._lsn < self._expected.live_end
        for each in taken:
            data = each.data
            own = self._own[offset : offset + len(data)] == data and offset + len(data) <= len(self._own)
            self.mended.pieces.append(Piece(offset, len(data), None if own else data))
            if not own and self._own:  # a file that is gone is told of as one part
                lsn = each.record.lsn
                what = each.record.type.name.lower() + ("" if each.record.type in _BARE else " record")
                part = Part(what, each.source, each.detail, offset, len(data), lsns=(lsn, lsn))
                self.mended.parts.append(part)
            offset += len(data)
        last = taken[-1].record
        if last.type is RecordType.COMMIT:
            self._lsn, self._chain = last.lsn, decode_commit(last).chain
            if live:
                self.mended.live_last, self.mended.chain_end = self._lsn, self._chain
        self._sealed = last.type is RecordType.SEAL
        return offset

    # --- the end --------------------------------------------------------------------------------

    def _finish(self, offset: int) -> None:
        mended, expected, size = self.mended, self._expected, len(self._own)
        mended.sealed = self._sealed
        rest = size - offset
        if mended.live_last < self._due:
            mended.complete, mended.stopped_at = False, offset
            return
        ours = rest == 0 and all(piece.data is None for piece in mended.pieces[1:])
        if self._borrowed and expected.live_end is None and not self._sealed and not ours:
            mended.unknown = True  # our own bytes are not this segment's, so they are no torn tail of it either
            mended.complete, mended.stopped_at = False, offset
        elif self._sealed or (offset >= self._limit and not expected.ended):
            self._after_the_end(offset, rest)
        elif expected.live_end is None:
            if rest > 0:
                mended.torn = True
                mended.pieces.append(Piece(offset, rest))
        else:  # what lies there is a dead writer's, or what a seal was
            what = "bytes after the last commit that counts are left out, and a seal ends the segment"
            if rest <= 0:
                what = "the seal that is gone, as what comes after the segment says"
            mended.parts.append(Part("tail", From.DERIVED, what, offset, max(rest, BARE_BYTES)))
            mended.exact = rest <= 0 and expected.ended
            mended.sealed = True
            mended.pieces.append(seal(offset, self._lsn, expected.uuid))

    def _after_the_end(self, offset: int, rest: int) -> None:
        if rest <= 0:
            return
        if self._expected.previous_bytes:  # leftovers, fenced off
            self.mended.pieces.append(Piece(offset, rest))
            return
        self.mended.parts.append(Part("tail", From.DERIVED, "bytes after the seal are left out", offset, rest))


def seal(offset: int, lsn: int, uuid: bytes) -> Piece:
    """A seal as a piece of a segment that has none."""
    data = encode_record(RecordType.SEAL, lsn, lsn, b"", uuid)
    return Piece(offset, len(data), data)


def merged_pieces(pieces: list[Piece]) -> Iterator[Piece]:
    """The same bytes with neighbouring ranges of our own file joined."""
    held: Piece | None = None
    for piece in pieces:
        if held is not None and held.data is None and piece.data is None and held.offset + held.length == piece.offset:
            held = Piece(held.offset, held.length + piece.length)
            continue
        if held is not None:
            yield held
        held = piece
    if held is not None:
        yield held
