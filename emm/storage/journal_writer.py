"""The writing end of the journal: one process appends commits to segments that it created.

Purpose: make a batch durable and give it its LSN. Invariants (spec J-rules): a commit is acknowledged
only after `sync`; every record states what was synced before it; a failure of append or sync poisons
the writer; after one idle second a mark proves the last commit; a seal ends a segment.
"""

from __future__ import annotations

import contextlib
import itertools
import queue
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence

from emm.codec.header import NUMBER_MAX
from emm.codec.journal import SegmentHeader, encode_record, next_chain, record_bytes
from emm.codec.pairs import Commit, decode_expand
from emm.errors import ClosedError, EmmError, ExistsError, FencedError, LimitError, StorageError
from emm.layout import BATCH_BYTES_MAX, COMMIT_PAYLOAD, RecordType
from emm.storage.names import segment_name
from emm.storage.recovery import Recovered
from emm.storage.segment_file import LoggedCommit, SegmentReader
from emm.vfs.protocol import Appender, Directory

LSN_MAX = (1 << 64) - 1
SEGMENT_BYTES_MAX = 64 << 20  # a segment that has grown past this is sealed; the next batch starts another
IDLE_SECONDS = 1.0

Batch = Sequence[tuple[RecordType, bytes]]


def now_us() -> int:
    """Microseconds since 1970 UTC."""
    return time.time_ns() // 1000


class JournalWriter:
    """Owns the open segment. Thread-safe: the idle marker runs beside the caller."""

    def __init__(self, directory: Directory, recovered: Recovered, uuid: bytes, nonce: bytes) -> None:
        self._directory = directory
        self._uuid = uuid
        self._nonce = nonce
        self.lsn = recovered.proven_lsn
        self.chain = recovered.chain
        self.floor_generation = recovered.floor_generation
        self.segment_next = recovered.segment_next
        self.logged_bytes = recovered.journal_bytes  # since the last checkpoint
        self._synced_through = recovered.proven_lsn
        self._previous_bytes = recovered.previous_bytes
        self._appender: Appender | None = None
        self._segment_bytes = 0
        self._marked = True
        self._failure: EmmError | None = None
        self._lock = threading.RLock()
        self._idle = _IdleMarker(self._mark_if_idle)
        if recovered.previous_bytes:  # a length is stated only of bytes that are durable
            directory.sync(segment_name(recovered.segment_next - 1))
        if not recovered.clean:
            self._log_again(recovered)
        self.lsn = recovered.lsn

    # --- logging --------------------------------------------------------------------------------

    def check_size(self, lengths: Iterable[int]) -> None:
        """Refuse payloads of these lengths as one batch that the format cannot hold, before any is made (S-4)."""
        size = sum(map(record_bytes, lengths)) + record_bytes(COMMIT_PAYLOAD.size)
        if size > BATCH_BYTES_MAX:
            raise LimitError(
                "a batch is too large; write it in parts",
                rule="S-4",
                expected=f"at most {BATCH_BYTES_MAX} bytes",
                found=size,
            )

    def append(self, batch: Batch, *, rank: int, n_pairs: int, surprise: float) -> int:
        """Log and sync one batch; returns its LSN. `rank` is the state's before the batch."""
        with self._lock:
            self._require_usable()
            lsn = self.lsn + 1
            if lsn > LSN_MAX:
                raise LimitError("the journal has used up its numbers", expected=f"lsn at most {LSN_MAX}", found=lsn)
            commit = Commit(now_us(), len(batch), n_pairs, surprise, bytes(32))
            chain = next_chain(self.chain, [(kind, lsn, payload) for kind, payload in batch], commit.encode())
            commit = Commit(commit.time_us, commit.n_records, n_pairs, surprise, chain)
            records = [*batch, (RecordType.COMMIT, commit.encode())]
            data = bytearray()  # a join would hold the records twice
            for kind, payload in records:
                data += encode_record(kind, lsn, self._synced_through, payload, self._uuid)
            if self._appender is None:
                self._start_segment(rank)
            self._write(data)
            self.lsn, self.chain, self._synced_through = lsn, chain, lsn
            self.logged_bytes += len(data)
            self._marked = False
            self._idle.touch()
            if self._segment_bytes > SEGMENT_BYTES_MAX:
                self.seal()
            return lsn

    def seal(self) -> None:
        """End the open segment, if there is one, with a seal; the next batch starts another."""
        with self._lock:
            self._require_usable()
            if self._appender is None:
                return
            self._write(encode_record(RecordType.SEAL, self.lsn, self.lsn, b"", self._uuid))
            self._appender.close()
            self._appender = None
            self._previous_bytes = self._segment_bytes
            self._marked = True

    def close(self) -> None:
        """Seal and stop the marker. A poisoned writer closes without touching the log."""
        self._idle.stop()
        with self._lock:
            try:
                if self._failure is None:
                    self.seal()
                    self._failure = ClosedError("the journal is closed")
            finally:
                if self._appender is not None:
                    with contextlib.suppress(EmmError):
                        self._appender.close()
                    self._appender = None

    # --- inside ---------------------------------------------------------------------------------

    def _require_usable(self) -> None:
        if self._failure is not None:
            raise ClosedError(f"this handle can no longer write: {self._failure}") from self._failure

    def _write(self, data: bytes | bytearray) -> None:
        assert self._appender is not None
        with self._poisoning():
            self._appender.append(data)
            self._appender.sync()
        self._segment_bytes += len(data)

    @contextlib.contextmanager
    def _poisoning(self) -> Iterator[None]:
        """Whatever ends this block early (an interrupt too) leaves the segment's end unknown: never write again."""
        try:
            yield
        except ExistsError as error:
            self._failure = FencedError("another writer has taken over this memory", rule="N-4", file=error.file)
            raise self._failure from None
        except EmmError as error:
            self._failure = error
            raise
        except BaseException as error:
            self._failure = StorageError(f"a write was broken off: {error!r}")
            raise

    def _start_segment(
        self, rank: int, records: Iterable[bytes] = (), chain: bytes | None = None, first_lsn: int | None = None
    ) -> None:
        """Publish a segment whole (header and any records), then keep it open for append."""
        if self.segment_next > NUMBER_MAX:
            raise LimitError("the journal has used up its names", rule="N-1", expected=NUMBER_MAX)
        name = segment_name(self.segment_next)
        header = SegmentHeader(
            self.segment_next,
            self.lsn + 1 if first_lsn is None else first_lsn,
            self.floor_generation,
            self._uuid,
            self._nonce,
            self.chain if chain is None else chain,
            self._previous_bytes,
            rank,
        ).encode()
        size = 0

        def chunks() -> Iterator[bytes]:
            nonlocal size
            for chunk in itertools.chain((header,), records):
                size += len(chunk)
                yield chunk

        with self._poisoning():
            self._directory.publish(name, chunks())
            self._appender = self._directory.open_append(name)
        self.segment_next += 1
        self._segment_bytes = size

    def _log_again(self, recovered: Recovered) -> None:
        """Write every commit beyond the last proof into a new segment that appears whole and synced (R-9).

        What recovery read may have been page cache only; after this it is durable. The segment also
        fences the torn tail: its header states where the valid bytes of the old one end.
        """
        places = recovered.unproven
        rank, chain = recovered.state.parameters.rank, recovered.chain
        commits: Iterator[LoggedCommit] = iter(())
        if places:
            rank, chain, commits = self._read_back(places[0].segment, places[0].lsn, places[-1].lsn)
        self._start_segment(rank, self._again(commits, recovered.lsn), chain, recovered.proven_lsn + 1)
        self._synced_through = recovered.lsn
        self.logged_bytes += self._segment_bytes

    def _again(self, commits: Iterable[LoggedCommit], lsn: int) -> Iterator[bytes]:
        """The records of these commits and a mark, as this writer logs them."""
        for logged in commits:
            for record in logged.records:
                yield encode_record(record.type, logged.lsn, self._synced_through, record.payload, self._uuid)
            yield encode_record(RecordType.COMMIT, logged.lsn, self._synced_through, logged.commit.encode(), self._uuid)
        yield encode_record(RecordType.MARK, lsn, lsn, b"", self._uuid)

    def _read_back(self, segment: int, first: int, last: int) -> tuple[int, bytes, Iterator[LoggedCommit]]:
        """(rank before, chain before, commits) of LSNs `first` to `last`, all in the last segment recovery read."""
        reader = SegmentReader(self._directory, segment, self._uuid)
        rank, chain = reader.header.rank, reader.header.chain
        commits = reader.commits()
        for logged in commits:
            if logged.lsn == first:
                wanted = itertools.takewhile(lambda each: each.lsn <= last, itertools.chain((logged,), commits))
                return rank, chain, wanted
            chain = logged.commit.chain
            rank = rank_after(logged, rank)
        raise FencedError("the journal changed while it was being taken over", file=reader.path, rule="R-9")

    def _mark_if_idle(self) -> None:
        with self._lock:
            if self._failure is None and self._appender is not None and not self._marked:
                self._write(encode_record(RecordType.MARK, self.lsn, self.lsn, b"", self._uuid))
                self._marked = True


def rank_after(logged: LoggedCommit, rank: int) -> int:
    """The rank after a commit, given the rank before it."""
    for record in logged.records:
        if record.type is RecordType.EXPAND:
            rank = decode_expand(record)
    return rank


class _IdleMarker:
    """A daemon thread that calls back once the writer has been idle for a second.

    It holds the writer weakly, so a memory that is dropped without `close` still gives its lock back.
    """

    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback = weakref.WeakMethod(callback, self._end)
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()  # its put may run inside garbage collection
        self._dirty = False
        self._stopped = False
        self._last = 0.0
        self._thread: threading.Thread | None = None

    def touch(self) -> None:
        self._last = time.monotonic()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="emm-idle-marker", daemon=True)
            self._thread.start()
        if not self._dirty:
            self._dirty = True
            self._wake.put(None)

    def stop(self) -> None:
        self._end()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _end(self, _: object = None) -> None:
        self._stopped = True
        self._wake.put(None)

    def _run(self) -> None:
        while not self._stopped:
            self._wake.get()
            while not self._stopped and (wait := self._last + IDLE_SECONDS - time.monotonic()) > 0:
                with contextlib.suppress(queue.Empty):
                    self._wake.get(timeout=wait)
            self._dirty = False
            callback = None if self._stopped else self._callback()
            if callback is not None:
                with contextlib.suppress(EmmError):  # the failure is kept and raised at the next write
                    callback()
            del callback
