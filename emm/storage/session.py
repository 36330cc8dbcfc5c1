"""One open memory directory: its state, its journal, its newest snapshot, its lock.

Purpose: keep the order of every change in one place: apply, check, log, sync, acknowledge; seal,
publish, prune. Invariants: no logged record can fail to replay; when an append or a publish fails,
the session is broken and refuses everything after, and the directory keeps what was acknowledged; a
session belongs to the process that opened it.
"""

from __future__ import annotations

import os

import numpy as np

from emm.codec.header import payload_regions
from emm.codec.journal import PAYLOAD_BYTES_MAX
from emm.codec.lineage import Lineage
from emm.codec.pairs import PairBatch, encode_expand, encode_pairs, encode_parameters, pairs_per_record
from emm.codec.snapshot import Snapshot
from emm.errors import ClosedError, InputError, LimitError
from emm.layout import STATE_BYTES_MAX, Origin, RecordType
from emm.state import MatrixState, Parameters
from emm.storage.checkpoint import KEEP_DEFAULT, Pruned, checkpoint_due, prune
from emm.storage.history import History
from emm.storage.journal_writer import Batch, JournalWriter, now_us
from emm.storage.recovery import Recovered
from emm.storage.replay import Replayer
from emm.storage.snapshot_file import publish_snapshot
from emm.vfs.protocol import Directory, Lock

_CLOSED = "the memory is closed"


class Session:
    """Reads and, with a lock, writes one memory directory. Not thread-safe; `Memory` serialises calls."""

    def __init__(
        self,
        directory: Directory,
        recovered: Recovered,
        lock: Lock | None,
        *,
        state_bytes_max: int = STATE_BYTES_MAX,
    ) -> None:
        self.directory = directory
        self.state_bytes_max = state_bytes_max
        self.snapshot = recovered.snapshot
        self.lsn = recovered.lsn
        self.replayed = recovered.replayed
        self.notices = list(recovered.notices)
        self.replayer = self._replayer(recovered)
        self._lock = lock
        self._pid = os.getpid()
        self._broken: str | None = None
        self._snapshot_sha256 = recovered.snapshot_sha256
        self._generation_last = recovered.generation_last
        self._floor_generation = recovered.floor_generation
        self._nonce = os.urandom(16)
        self._writer = None if lock is None else JournalWriter(directory, recovered, self.snapshot.uuid, self._nonce)

    @property
    def state(self) -> MatrixState:
        return self.replayer.state

    @property
    def parameters(self) -> Parameters:
        return self.replayer.state.parameters

    @property
    def mode(self) -> str:
        return "closed" if self._broken else "a" if self._writer else "r"

    def require_open(self) -> None:
        if self._broken is not None:
            raise ClosedError(self._broken, file=self.directory.url)
        if self._pid != os.getpid():
            raise ClosedError("a memory cannot be used after fork; open it again in the child", file=self.directory.url)

    def require_writable(self) -> JournalWriter:
        self.require_open()
        if self._writer is None:
            raise InputError("the memory is open for reading only; open it with mode='a'", file=self.directory.url)
        return self._writer

    # --- changes that the journal holds ---------------------------------------------------------

    def commit_pairs(self, kind: RecordType, batch: PairBatch) -> int:
        """Apply and log a batch of pairs as one commit; returns its LSN (the present one for no pairs)."""
        writer = self.require_writable()
        if not len(batch):
            return self.lsn
        records = self._split(kind, batch)
        writer.check_size(records)
        rank = self.parameters.rank
        surprise = self.replayer.apply_pairs(kind, batch)
        mean = 0.0 if surprise is None else float(np.mean(surprise, dtype=np.float64))
        return self._log(records, rank, len(batch), min(mean, float(np.finfo(np.float32).max)))

    def expand_bare(self, rank: int) -> int:
        """Apply and log an expansion without pairs; returns its LSN."""
        self.require_writable()
        before = self.parameters.rank
        self.replayer.expand(rank)
        return self._log([(RecordType.EXPAND, encode_expand(rank))], before, 0, 0.0)

    def configure(self, expand_at: float) -> int:
        """Log a new expansion threshold; returns its LSN."""
        self.require_writable()
        self.replayer.expand_at = float(np.float32(expand_at))
        return self._log([(RecordType.PARAMETERS, encode_parameters(expand_at))], self.parameters.rank, 0, 0.0)

    def _log(self, records: Batch, rank: int, n_pairs: int, surprise: float) -> int:
        try:
            self.lsn = self.require_writable().append(records, rank=rank, n_pairs=n_pairs, surprise=surprise)
        except BaseException as error:
            self._broken = f"this handle can no longer be used, its last write failed: {error}"
            raise
        return self.lsn

    def _split(self, kind: RecordType, batch: PairBatch) -> list[tuple[RecordType, bytes]]:
        key_dim, dim = self.parameters.key_dim, self.parameters.dim
        step = pairs_per_record(kind, key_dim, dim)
        if step == 0:
            raise LimitError(
                "one pair is larger than a journal record can be",
                rule="S-3",
                expected=f"at most {PAYLOAD_BYTES_MAX} bytes",
            )
        if kind is RecordType.FORGET and len(batch) > step:  # its keys are deflated together, so they share a record
            raise LimitError("too many keys for one forget", rule="S-3", expected=f"at most {step}", found=len(batch))
        return [
            (kind, encode_pairs(kind, batch.rows(slice(start, start + step)))) for start in range(0, len(batch), step)
        ]

    # --- snapshots ------------------------------------------------------------------------------

    def checkpoint(self) -> int:
        """Publish the present state, unless the newest snapshot is that already; returns its generation."""
        self.require_writable()
        if self.lsn == self.snapshot.lsn and self.snapshot.generation == self._generation_last:
            return self.snapshot.generation
        return self._publish(Origin.CHECKPOINT)

    def checkpoint_if_due(self) -> None:
        if checkpoint_due(self.require_writable().logged_bytes, state_bytes(self.parameters)):
            self.checkpoint()

    def install_resolved(self, resolved: Replayer) -> int:
        """Replace the state by one solved anew from pairs, durably; returns the generation published."""
        self.require_writable()
        resolved.expand_at = self.replayer.expand_at
        self.replayer = resolved
        return self._publish(Origin.RESOLVE)

    def _publish(self, origin: Origin) -> int:
        """Seal the segment, publish the state as the next generation, prune."""
        writer = self.require_writable()
        generation = self._generation_last + 1
        floor = self._floor_generation if origin is Origin.CHECKPOINT else generation
        try:
            writer.seal()
            lineage = Lineage(
                write_count=self.replayer.write_count,
                time_us=now_us(),
                chain=writer.chain,
                parent_sha256=self._snapshot_sha256,
                writer_nonce=self._nonce,
                floor_generation=floor,
                segment_next=writer.segment_next,
                expand_at=self.replayer.expand_at,
                origin=origin,
            )
            self.snapshot = Snapshot(
                self.state, generation, self.lsn, self.snapshot.uuid, lineage, self.snapshot.metadata
            )
            self._snapshot_sha256 = publish_snapshot(self.directory, self.snapshot)
        except BaseException as error:
            self._broken = f"this handle can no longer be used, its last checkpoint failed: {error}"
            raise
        self._generation_last, self._floor_generation = generation, floor
        writer.floor_generation = floor
        writer.logged_bytes = 0
        prune(self.directory)
        return generation

    def prune(self, *, keep: int = KEEP_DEFAULT, journal: bool = False) -> Pruned:
        self.require_writable()
        return prune(self.directory, keep=keep, journal=journal)

    def history(self) -> History:
        """The commits that the journal still holds."""
        return History(
            self.directory, self.snapshot.uuid, self.lsn, self.parameters, self.state.flags, self._floor_generation
        )

    # --- the end --------------------------------------------------------------------------------

    def close(self) -> None:
        """Checkpoint what was written, seal, give up the lock. Idempotent; a fork's copy changes nothing."""
        if self._broken == _CLOSED:
            return
        try:
            if self._writer is not None and self._pid == os.getpid():
                try:
                    if self._broken is None:
                        self.checkpoint()
                finally:
                    self._writer.close()
        finally:
            self._broken = _CLOSED
            if self._lock is not None:
                self._lock.release()
            self.directory.close()

    def _replayer(self, recovered: Recovered) -> Replayer:
        return Replayer(
            recovered.state,
            write_count=recovered.write_count,
            expand_at=recovered.expand_at,
            state_bytes_max=self.state_bytes_max,
        )


def state_bytes(parameters: Parameters) -> int:
    """Bytes of the state's payload, unpadded."""
    last = payload_regions(parameters)[-1]
    return last.offset + last.size
