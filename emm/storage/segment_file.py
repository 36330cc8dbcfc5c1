"""Read a journal segment: commits in order, the first damage, and the proofs beyond it.

Purpose: tell "the writer died here" from "this was durable and is damaged" (spec J-, R-rules).
Invariants: one window of the file (1 MiB) or one record is in memory, plus the batch being assembled
(≤ 256 MiB); a read error is raised where the unread bytes are wanted, never taken for the end of the log; work is
bounded by a multiple of the file's size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from emm.codec.journal import (
    JournalRecord,
    SegmentHeader,
    decode_record,
    decode_segment_header,
    record_size,
)
from emm.codec.pairs import Commit, count_pairs, decode_commit
from emm.errors import ChecksumError, EmmError, FormatError, LimitError, TruncatedError
from emm.layout import BATCH_BYTES_MAX, RECORD_ALIGNMENT_BYTES, RECORD_HEADER, RECORD_MAGIC, SEGMENT_HEADER, RecordType
from emm.storage.names import segment_name
from emm.vfs.protocol import Directory

_MAGIC_BYTES = RECORD_MAGIC.to_bytes(4, "little")
_WINDOW_BYTES = 1 << 20
_RESYNC_FACTOR = 4  # evidence beyond damage is looked for with at most this many times the file's bytes of CRC work


@dataclass(frozen=True, slots=True)
class LoggedCommit:
    """One atomic batch as the journal holds it; `offset` to `end` are its bytes in the segment."""

    lsn: int
    records: tuple[JournalRecord, ...]
    commit: Commit
    segment: int
    offset: int
    end: int


@dataclass(slots=True)
class SegmentReader:
    """Reads one segment front to back. After `commits()` is exhausted the other fields are final."""

    directory: Directory
    segment: int
    uuid: bytes
    header: SegmentHeader = field(init=False)
    size: int = field(init=False)
    valid_bytes: int = field(init=False, default=SEGMENT_HEADER.size)  # end of the last commit, mark or seal
    last_lsn: int = field(init=False, default=0)  # of the last whole commit
    proven_lsn: int = field(init=False, default=0)  # largest proof among the valid records
    sealed: bool = field(init=False, default=False)
    damage: FormatError | None = field(init=False, default=None)  # why reading stopped before the end of the file
    _end: int = field(init=False)  # where what the segment says ends: its size, or the next one's `previous_bytes`
    _window: bytes = field(init=False, default=b"")  # bytes of the file from `_window_start` on, read ahead
    _window_start: int = field(init=False, default=0)
    _exact_until: int = field(init=False, default=0)  # no window is tried before this byte: one there failed

    def __post_init__(self) -> None:
        self.size = self._end = self.directory.size(self.name)
        try:
            self.header = decode_segment_header(
                self.directory.read_at(self.name, 0, min(SEGMENT_HEADER.size, self.size))
            )
            if self.header.segment != self.segment:
                raise FormatError(
                    "the segment's number is not its name's",
                    rule="N-2",
                    offset=16,
                    expected=self.segment,
                    found=self.header.segment,
                )
            if self.header.uuid != self.uuid:
                raise FormatError(
                    "the segment belongs to another memory",
                    rule="J-5",
                    offset=40,
                    expected=self.uuid.hex(),
                    found=self.header.uuid.hex(),
                )
        except EmmError as error:
            raise error.located(self.path) from None
        self.last_lsn = self.header.first_lsn - 1
        self.proven_lsn = self.header.first_lsn - 1

    @property
    def name(self) -> str:
        return segment_name(self.segment)

    @property
    def path(self) -> str:
        return f"{self.directory.url}/{self.name}"

    def _read(self, offset: int, length: int) -> memoryview:
        """Bytes of the file, out of a window read ahead where there is one: a commit takes four small reads.

        A window that cannot be read is no error: just what was asked for is read, or raises.
        """
        start = offset - self._window_start
        if not 0 <= start <= len(self._window) - length:
            ahead = min(_WINDOW_BYTES, self.size - offset)
            if length >= ahead or offset < self._exact_until:
                return memoryview(self.directory.read_at(self.name, offset, length))
            try:
                self._window = self.directory.read_at(self.name, offset, ahead)
            except EmmError:
                self._exact_until = offset + ahead
                return memoryview(self.directory.read_at(self.name, offset, length))
            self._window_start, start = offset, 0
        return memoryview(self._window)[start : start + length]

    def commits(self, previous_bytes: int = 0) -> Iterator[LoggedCommit]:
        """Whole commits in order, up to the first bytes that are not one.

        `previous_bytes` as the next segment states it: what lies beyond is a dead writer's and proves nothing (R-11).
        """
        batch: list[JournalRecord] = []
        batch_bytes = 0
        offset = SEGMENT_HEADER.size
        self._end = min(self.size, previous_bytes) if previous_bytes else self.size
        while offset < self._end:
            try:
                if self.sealed:
                    raise FormatError("bytes follow the seal", rule="J-11", offset=offset)
                record = self._record_at(offset)
                if offset + record.size > self._end:
                    raise FormatError(
                        "the next segment ends this one inside a record",
                        rule="R-11",
                        offset=offset,
                        expected=f"{self._end} bytes",
                        found=f"a record up to {offset + record.size}",
                    )
                self._check_order(record, batch)
                batch_bytes += record.size
                if batch_bytes > BATCH_BYTES_MAX:
                    raise LimitError(
                        "a batch is longer than the format allows",
                        rule="S-4",
                        offset=offset,
                        expected=BATCH_BYTES_MAX,
                        found=batch_bytes,
                    )
                commit = decode_commit(record) if record.type is RecordType.COMMIT else None
                if commit is not None:
                    _check_counts(commit, batch, offset)
            except FormatError as error:
                self.damage = error
                error.located(self.path)
                self._window = b""
                return
            offset += record.size
            self.proven_lsn = max(self.proven_lsn, record.synced_through)
            if commit is not None:
                start = batch[0].offset
                self.last_lsn = record.lsn
                self.valid_bytes = offset
                yield LoggedCommit(record.lsn, tuple(batch), commit, self.segment, start, offset)
                batch, batch_bytes = [], 0
            elif record.type in (RecordType.MARK, RecordType.SEAL):
                self.valid_bytes = offset
                self.sealed = record.type is RecordType.SEAL
                batch_bytes = 0
            else:
                batch.append(record)
        self._window = b""  # readers of other segments are alive
        if batch:
            self.damage = TruncatedError(
                "the last batch has no commit", rule="J-11", file=self.path, offset=batch[0].offset
            )

    def _record_at(self, offset: int) -> JournalRecord:
        available = self.size - offset
        header = self._read(offset, min(RECORD_HEADER.size, available))
        size = record_size(header, offset)
        if size > available:
            raise TruncatedError("a record is cut short", rule="J-6", offset=offset, expected=size, found=available)
        return decode_record(self._read(offset, size), offset, self.uuid)

    def _check_order(self, record: JournalRecord, batch: list[JournalRecord]) -> None:
        between = record.type in (RecordType.MARK, RecordType.SEAL)
        expected = self.last_lsn if between else self.last_lsn + 1
        if record.lsn != expected or (between and batch) or (record.type is RecordType.COMMIT and not batch):
            raise FormatError(
                "a record is out of order",
                rule="J-11",
                offset=record.offset,
                expected=f"lsn {expected}",
                found=f"{record.type.name.lower()} of lsn {record.lsn}",
            )
        if between and (record.payload or record.synced_through != record.lsn):
            raise FormatError(
                "a mark or seal has a payload or proves less than its LSN", rule="J-11", offset=record.offset
            )

    def evidence_beyond(self, offset: int) -> int:
        """The largest LSN that any valid record at or after `offset` proves durable; 0 for none.

        Looks at every 8-byte step (J-19), up to the `previous_bytes` that `commits` was given (R-11). A record's own
        LSN is no proof; what it says was synced is.
        """
        budget = _RESYNC_FACTOR * self.size + _WINDOW_BYTES
        best = 0
        start = -(-offset // RECORD_ALIGNMENT_BYTES) * RECORD_ALIGNMENT_BYTES
        while start < self._end:
            window = bytes(self._read(start, min(_WINDOW_BYTES, self._end - start)))
            inside = window.find(_MAGIC_BYTES)
            while 0 <= inside < len(window):
                step, checked = 1, 0
                if inside % RECORD_ALIGNMENT_BYTES == 0:
                    step, checked, proven = self._try_record(start + inside)
                    best, budget = max(best, proven), budget - checked
                    if budget < 0:
                        raise LimitError(
                            "too many overlapping records beyond the damage to examine",
                            rule="S-6",
                            file=self.path,
                            offset=start + inside,
                        )
                after = inside + step
                inside = window.find(_MAGIC_BYTES, after) if after < len(window) else after
            start += max(inside, -(-len(window) // RECORD_ALIGNMENT_BYTES) * RECORD_ALIGNMENT_BYTES)
        return best

    def _try_record(self, offset: int) -> tuple[int, int, int]:
        """(bytes to step over, bytes that a CRC was computed of, LSN proven) for a record magic at `offset`."""
        try:
            record = self._record_at(offset)
        except FormatError as error:
            whole = error.rule in ("J-8", "J-9", "J-10")  # the header's CRC fits, so the rest was read as well
            return 1, record_size(self._read(offset, RECORD_HEADER.size), offset) if whole else RECORD_HEADER.size, 0
        return record.size, record.size, record.synced_through  # what lies inside it is its payload, not evidence


def could_be_torn(damage: FormatError) -> bool:
    """True for bytes that a dying writer can leave (R-6): cut short, not arrived, or a batch without its commit.

    A record whose CRCs fit and which breaks another rule was written so, and is no torn tail.
    """
    return isinstance(damage, (TruncatedError, ChecksumError)) or damage.rule == "J-6"


def _check_counts(commit: Commit, batch: list[JournalRecord], offset: int) -> None:
    if commit.n_records != len(batch):
        raise FormatError(
            "a commit's count is not its batch's",
            rule="J-11",
            offset=offset,
            expected=commit.n_records,
            found=len(batch),
        )
    if commit.n_pairs != (n_pairs := sum(map(count_pairs, batch))):
        raise FormatError(
            "a commit counts other pairs than its batch holds",
            rule="J-16",
            offset=offset,
            expected=commit.n_pairs,
            found=n_pairs,
        )
