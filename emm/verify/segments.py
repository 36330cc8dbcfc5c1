"""Read every segment of a journal once and note what is there; judging comes after (`journal`).

Purpose: facts, independent of each other: which commits are whole, where reading stopped and why, what any
record proves durable. Invariants: a damaged segment header does not hide the records behind it; a read
error is a fact about the medium, never the end of the log; one batch is in memory at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from emm.codec.journal import SegmentHeader, decode_record, decode_segment_header
from emm.errors import CorruptionError, FormatError, LimitError, StorageError, TruncatedError
from emm.layout import RECORD_BYTES_MAX, SEGMENT_HEADER, RecordType
from emm.storage.journal_writer import rank_after
from emm.storage.names import segment_name
from emm.storage.recovery import check_chain
from emm.storage.segment_file import LoggedCommit, SegmentReader
from emm.vfs.local import holding
from emm.vfs.protocol import Directory


@dataclass(slots=True)
class RebuiltReader(SegmentReader):
    """Reads a segment whose header is damaged, with a header made from what surrounds it."""

    stated: SegmentHeader | None = None

    def __post_init__(self) -> None:
        assert self.stated is not None
        self.size = self.directory.size(self.name)
        self.header = self.stated
        self.last_lsn = self.stated.first_lsn - 1
        self.proven_lsn = 0


@dataclass(slots=True)
class Segment:
    """What one segment file holds."""

    number: int
    file: str
    size: int = 0
    header: SegmentHeader | None = None  # as read, or rebuilt when `header_error` is set
    header_error: FormatError | None = None
    read_error: StorageError | None = None
    last_lsn: int = 0  # of its last whole commit, dead ones included
    live_last: int = 0  # the same without dead ones
    rank_end: int = 0  # rank after commit `live_last`
    valid_bytes: int = 0
    sealed: bool = False
    damage: FormatError | None = None
    proven_lsn: int = 0  # the largest LSN that any of its valid records, also beyond the damage, proves
    over_limit: LimitError | None = None
    breaks: list[tuple[int, FormatError]] = field(default_factory=list)  # commits whose chain value is wrong
    live: list[tuple[int, int]] = field(default_factory=list)  # runs of whole, chained commits


@dataclass(slots=True)
class SegmentScan:
    """Reads segments in order and keeps what links them: chain values at the LSNs of interest."""

    directory: Directory
    uuid: bytes | None  # of the memory; None = believe the first segment header
    chains: dict[int, bytes] = field(default_factory=dict)  # LSN → chain value after that commit
    commits: int = field(init=False, default=0)

    def read_all(self, numbers: Iterable[int], interest: set[int]) -> Iterator[Segment]:
        """The segments in order. Chain values are kept for LSNs in `interest` and at segment boundaries."""
        opened = [self._open(number) for number in numbers]
        for index, (segment, reader) in enumerate(opened):
            follower = opened[index + 1][0] if index + 1 < len(opened) else None
            stated = follower.header if follower is not None else None
            boundary = stated.first_lsn if stated is not None else None
            adjacent = stated is not None and stated.segment == segment.number + 1
            previous_bytes = stated.previous_bytes if stated is not None and adjacent else 0
            damaged = segment.header_error is not None and segment.header_error.rule != "N-2"  # else it is another's
            if reader is None and damaged and self.uuid is not None:
                reader = self._rebuild(segment, self.uuid)
            if reader is not None:
                self._read(segment, reader, boundary, previous_bytes, interest)
            yield segment

    def _open(self, number: int) -> tuple[Segment, SegmentReader | None]:
        segment = Segment(number, f"{self.directory.url}/{segment_name(number)}")
        try:
            uuid = self._learn_uuid(number) if self.uuid is None else self.uuid
            with holding(self.directory, segment_name(number)):
                segment.size = self.directory.size(segment_name(number))
                reader = SegmentReader(self.directory, number, uuid)
        except StorageError as error:
            segment.read_error = error
            return segment, None
        except FormatError as error:
            segment.header_error = error
            return segment, None
        self.uuid = uuid
        segment.header = reader.header
        return segment, reader

    def _learn_uuid(self, number: int) -> bytes:
        size = self.directory.size(segment_name(number))
        return decode_segment_header(
            self.directory.read_at(segment_name(number), 0, min(SEGMENT_HEADER.size, size))
        ).uuid

    def _rebuild(self, segment: Segment, uuid: bytes) -> SegmentReader | None:
        """A reader for a segment without a header: the first record says the LSN, the segment before the chain."""
        size = min(RECORD_BYTES_MAX, segment.size - SEGMENT_HEADER.size)
        if size <= 0:
            return None
        try:
            data = self.directory.read_at(segment_name(segment.number), SEGMENT_HEADER.size, size)
            record = decode_record(data, SEGMENT_HEADER.size, uuid)
            between = record.type in (RecordType.MARK, RecordType.SEAL)
            first_lsn = record.lsn + 1 if between else record.lsn
            chain = self.chains.get(first_lsn - 1, b"")
            stated = SegmentHeader(segment.number, first_lsn, 1, uuid, bytes(16), chain, 0, 0)
            segment.header = stated
            return RebuiltReader(self.directory, segment.number, uuid, stated)
        except StorageError as error:
            segment.read_error = error
        except FormatError:
            pass
        return None

    def _read(
        self, segment: Segment, reader: SegmentReader, boundary: int | None, previous_bytes: int, interest: set[int]
    ) -> None:
        chain = reader.header.chain
        rank = reader.header.rank
        first_lsn = reader.header.first_lsn
        if chain:
            self.chains.setdefault(first_lsn - 1, chain)
        segment.live_last = first_lsn - 1
        try:
            for logged in reader.commits(previous_bytes):  # what lies beyond proves nothing
                live = boundary is None or logged.lsn < boundary
                self.commits += 1
                chained = self._chained(segment, chain, logged)
                if live:
                    if chained:
                        _extend(segment.live, logged.lsn)
                    rank = _rank_after(logged, rank)
                    segment.live_last = logged.lsn
                chain = logged.commit.chain
                if live and (logged.lsn in interest or logged.lsn + 1 == boundary):
                    self.chains[logged.lsn] = chain
            segment.proven_lsn = reader.proven_lsn
            if boundary is None and chain:
                self.chains[reader.last_lsn] = chain
            if reader.damage is not None:
                offset = reader.valid_bytes if reader.damage.offset is None else reader.damage.offset
                segment.proven_lsn = max(segment.proven_lsn, reader.evidence_beyond(min(offset, reader.size)))
        except LimitError as error:
            segment.over_limit = error
        except TruncatedError as error:  # the medium was shorter than its own size said
            segment.read_error = StorageError("the file shrank while it was read", file=error.file or segment.file)
        except StorageError as error:
            segment.read_error = error
        segment.last_lsn, segment.valid_bytes = reader.last_lsn, reader.valid_bytes
        segment.sealed, segment.damage, segment.rank_end = reader.sealed, reader.damage, rank

    def _chained(self, segment: Segment, chain: bytes, logged: LoggedCommit) -> bool:
        if not chain:  # behind a damaged header, with nothing before it: the first chain value is taken as it is
            return True
        try:
            check_chain(chain, logged)
        except CorruptionError as error:
            segment.breaks.append((logged.lsn, error))
            return False
        return True


def _rank_after(logged: LoggedCommit, rank: int) -> int:
    try:
        return rank_after(logged, rank)
    except FormatError:  # replay says so
        return rank


def _extend(runs: list[tuple[int, int]], lsn: int) -> None:
    if runs and runs[-1][1] == lsn - 1:
        runs[-1] = runs[-1][0], lsn
    else:
        runs.append((lsn, lsn))


def live_commits(
    directory: Directory,
    segments: list[Segment],
    uuid: bytes,
    after: int,
) -> Iterator[LoggedCommit]:
    """Whole live commits past LSN `after`, in order, from segments whose headers are whole."""
    for index, segment in enumerate(segments):
        header = segment.header
        if header is None or segment.read_error is not None or segment.live_last <= after:
            continue
        follower = segments[index + 1].header if index + 1 < len(segments) else None
        if segment.header_error is not None:
            reader: SegmentReader = RebuiltReader(directory, segment.number, uuid, header)
        else:
            reader = SegmentReader(directory, segment.number, uuid)
        for logged in reader.commits():
            if follower is not None and logged.lsn >= follower.first_lsn:
                break
            if logged.lsn > after:
                yield logged
