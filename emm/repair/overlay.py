"""The mended journal as a directory, before it is written: what replay reads while a repair computes.

Purpose: one reader of segments for all, `storage.segment_file`, also over pieces. Invariants: read-only; a segment's
bytes are exactly those that its pieces give, in order; what has no pieces is not there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from emm.errors import MissingError, TruncatedError
from emm.repair.segments import Piece
from emm.storage.names import segment_name
from emm.storage.segment_file import LoggedCommit, SegmentReader
from emm.vfs import Directory, ReadOnly


class MendedJournal(ReadOnly):
    """`emm.vfs.protocol.Directory` over the pieces of segments; our own bytes are read when they are asked for."""

    refusal = "a mended journal is only read"

    def __init__(self, own: Directory, segments: Mapping[int, Sequence[Piece]]) -> None:
        self._own = own
        self._pieces = {segment_name(number): tuple(pieces) for number, pieces in segments.items()}

    @property
    def url(self) -> str:
        return self._own.url

    def list(self) -> list[str]:
        return sorted(self._pieces)

    def _of(self, name: str) -> tuple[Piece, ...]:
        if name not in self._pieces:
            raise MissingError("no such file or directory", file=f"{self.url}/{name}")
        return self._pieces[name]

    def size(self, name: str) -> int:
        return sum(piece.length for piece in self._of(name))

    def read_at(self, name: str, offset: int, length: int) -> bytes:
        parts, start = [], 0
        for piece in self._of(name):
            first, last = max(offset, start), min(offset + length, start + piece.length)
            if first < last and piece.data is not None:
                parts.append(piece.data[first - start : last - start])
            elif first < last:
                parts.append(self._own.read_at(name, piece.offset + first - start, last - first))
            start += piece.length
        data = b"".join(parts)
        if len(data) != length:
            raise TruncatedError(
                "the segment ends inside the bytes asked for", file=f"{self.url}/{name}", offset=offset
            )
        return data

    def read_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> Sequence[bytes]:
        return [self.read_at(name, offset, length) for offset, length in ranges]

    def map(self, name: str) -> memoryview:
        return memoryview(self.read_at(name, 0, self.size(name)))


def commits_after(journal: MendedJournal, uuid: bytes, segment: int, lsn: int) -> Iterator[LoggedCommit]:
    """Live commits past `lsn`, in order, from a segment on."""
    names = set(journal.list())
    reader = SegmentReader(journal, segment, uuid) if segment_name(segment) in names else None
    while reader is not None:
        segment += 1
        follower = SegmentReader(journal, segment, uuid) if segment_name(segment) in names else None
        for logged in reader.commits(0 if follower is None else follower.header.previous_bytes):
            if follower is not None and logged.lsn >= follower.header.first_lsn:
                break
            if logged.lsn > lsn:
                yield logged
        reader = follower
