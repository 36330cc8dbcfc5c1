"""One open memory directory: its state, its journal, its newest snapshot, its lock.

Purpose: keep the order of every change in one place: apply, check, log, sync, acknowledge; seal,
publish, prune. Invariants: no logged record can fail to replay; when an append or a publish fails,
the session is broken and refuses everything after, and the directory keeps what was acknowledged; a
session belongs to the process that opened it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from emm.codec.header import NUMBER_MAX, payload_bytes
from emm.codec.journal import PAYLOAD_BYTES_MAX
from emm.codec.lineage import Lineage
from emm.codec.pairs import PairBatch, encode_expand, encode_pairs, encode_parameters, pair_bytes, pairs_per_record
from emm.codec.snapshot import Snapshot
from emm.errors import ClosedError, EmmError, InputError, LimitError
from emm.layout import PAIRS_HEADER, STATE_BYTES_MAX, Origin, RecordType
from emm.state import Float32Array, MatrixState, Parameters
from emm.storage.checkpoint import KEEP_DEFAULT, Pruned, checkpoint_due, prune
from emm.storage.history import History
from emm.storage.journal_writer import Batch, JournalWriter, now_us
from emm.storage.pair_index import PairIndex
from emm.storage.recovery import Recovered
from emm.storage.replay import Replayer
from emm.storage.snapshot_file import publish_snapshot
from emm.vfs.protocol import Directory, Lock

WRITE_COUNT_MAX = (1 << 64) - 1
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
        self.snapshot = replace(recovered.snapshot, state=recovered.state)  # the bytes it was read from are let go
        self.lsn = recovered.lsn
        self.replayed = recovered.replayed
        self.notices = list(recovered.notices)
        self.replayer = self._replayer(recovered)
        self._lock = lock
        self._pid = os.getpid()
        self._broken: str | None = None
        self._pair_index: PairIndex | None = None  # made when it is first asked, then kept up
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

    @property
    def forked(self) -> bool:
        """True in a child of the process that opened this: nothing here may be used, nor any lock waited for."""
        return self._pid != os.getpid()

    def require_open(self) -> None:
        if self._broken is not None:
            raise ClosedError(self._broken, file=self.directory.url)
        if self.forked:
            raise ClosedError("a memory cannot be used after fork; open it again in the child", file=self.directory.url)

    def require_writable(self) -> JournalWriter:
        self.require_open()
        if self._writer is None:
            raise InputError("the memory is open for reading only; open it with mode='a'", file=self.directory.url)
        return self._writer

    # --- changes that the journal holds ---------------------------------------------------------

    def commit_pairs(self, kind: RecordType, *batches: PairBatch) -> int:
        """Apply and log batches of pairs as one commit; returns its LSN (the present one for no pairs).

        Works on copies: a caller's array may be a view of M, which applying changes, or be written by another thread.
        """
        writer = self.require_writable()
        given = [batch for batch in batches if len(batch)]
        if not given:
            return self.lsn
        n_pairs = sum(map(len, given))
        key_dim, dim = self.parameters.key_dim, self.parameters.dim
        parts = [part for batch in given for part in self._split(kind, batch)]
        writer.check_size([PAIRS_HEADER.size + len(part) * pair_bytes(kind, key_dim, dim) for part in parts])
        own = [batch.copy() for batch in given]
        records = [(kind, encode_pairs(kind, part)) for batch in own for part in self._split(kind, batch)]
        lsn = self._commit(records, n_pairs, lambda: self._apply(kind, own))
        index, self._pair_index = self._pair_index, None
        if index is not None and index.lsn == lsn - 1:
            for batch in own:
                index.add(kind, batch, batch.rank, lsn)
            self._pair_index = index
        return lsn

    def expand_bare(self, rank: int) -> int:
        """Apply and log an expansion without pairs; returns its LSN."""
        return self._commit([(RecordType.EXPAND, encode_expand(rank))], 0, lambda: self.replayer.expand(rank))

    def configure(self, expand_at: float) -> int:
        """Log a new expansion threshold; returns its LSN."""
        records = [(RecordType.PARAMETERS, encode_parameters(expand_at))]
        return self._commit(records, 0, lambda: setattr(self.replayer, "expand_at", float(np.float32(expand_at))))

    def _commit(self, records: Batch, n_pairs: int, apply: Callable[[], Float32Array | None]) -> int:
        """Apply, log and sync; returns the LSN. `apply` returns the surprise per pair, if there is such a thing.

        State and log differ in between, so whatever breaks that off (an interrupt too) breaks the session. Only an
        `EmmError` out of `apply` is a refusal: it was raised before anything changed.
        """
        writer = self.require_writable()
        rank = self.parameters.rank
        applied = False
        try:
            surprise = apply()
            applied = True
            mean = 0.0 if surprise is None or not len(surprise) else float(np.mean(surprise, dtype=np.float64))
            mean = min(mean, float(np.finfo(np.float32).max))
            self.lsn = writer.append(records, rank=rank, n_pairs=n_pairs, surprise=mean)
        except BaseException as error:
            if applied or not isinstance(error, EmmError):
                self._broken = f"this handle can no longer be used, its last write failed: {error!r}"
            raise
        return self.lsn

    def _apply(self, kind: RecordType, batches: Sequence[PairBatch]) -> Float32Array:
        """Surprise per pair. The kernel takes one batch whole or not at all; this makes it so for several."""
        replayer = self.replayer if len(batches) == 1 else self.replayer.copy()
        found = [replayer.apply_pairs(kind, batch) for batch in batches]
        self.replayer = replayer
        return np.concatenate([each for each in found if each is not None] or [np.empty(0, np.float32)])

    def _split(self, kind: RecordType, batch: PairBatch) -> list[PairBatch]:
        """The batch in parts that fit a record each."""
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
        return [batch.rows(slice(start, start + step)) for start in range(0, len(batch), step)]

    # --- snapshots ------------------------------------------------------------------------------

    def checkpoint(self) -> int:
        """Publish the present state, unless the newest snapshot is that already; returns its generation."""
        self.require_writable()
        if self.lsn == self.snapshot.lsn and self.snapshot.generation == self._generation_last:
            return self.snapshot.generation
        return self._publish(Origin.CHECKPOINT)

    def checkpoint_if_due(self) -> None:
        if checkpoint_due(self.require_writable().logged_bytes, payload_bytes(self.parameters)):
            self.checkpoint()

    def install_resolved(self, resolved: Replayer) -> int:
        """Replace the state by one solved anew from pairs, durably; returns the generation published."""
        self.require_writable()
        return self._publish(Origin.RESOLVE, resolved.resolved(self.replayer.expand_at))

    def _publish(self, origin: Origin, resolved: Replayer | None = None) -> int:
        """Seal the segment, publish the state as the next generation, prune."""
        writer = self.require_writable()
        generation = self._generation_last + 1
        if generation > NUMBER_MAX:
            raise LimitError("the memory has used up its generations", rule="H-10", expected=NUMBER_MAX)
        floor = self._floor_generation if origin is Origin.CHECKPOINT else generation
        try:
            self.replayer = resolved or self.replayer
            if resolved is not None:
                self._pair_index = None  # older pairs now count as written at the new rank
            writer.seal()
            lineage = Lineage(
                write_count=min(self.replayer.write_count, WRITE_COUNT_MAX),
                time_us=now_us(),
                chain=writer.chain,
                parent_sha256=self._snapshot_sha256,
                writer_nonce=self._nonce,
                floor_generation=floor,
                segment_next=writer.segment_next,
                expand_at=self.replayer.expand_at,
                origin=origin,
            )
            snapshot = Snapshot(self.state, generation, self.lsn, self.snapshot.uuid, lineage, self.snapshot.metadata)
            self._snapshot_sha256 = publish_snapshot(self.directory, snapshot)
            self.snapshot = snapshot
            self._generation_last, self._floor_generation = generation, floor
            writer.floor_generation = floor
            writer.logged_bytes = 0
        except BaseException as error:
            self._broken = f"this handle can no longer be used, its last checkpoint failed: {error!r}"
            raise
        prune(self.directory)
        return generation

    def prune(self, *, keep: int = KEEP_DEFAULT, journal: bool = False) -> Pruned:
        self.require_writable()
        if journal:
            self._pair_index = None  # a pair whose commit was pruned must be vouched for, in this session too
        return prune(self.directory, keep=keep, journal=journal)

    def history(self) -> History:
        """The commits that the journal still holds."""
        return History(
            self.directory, self.snapshot.uuid, self.lsn, self.parameters, self.state.flags, self._floor_generation
        )

    def written_ranks(self, keys: Float32Array, values: Float32Array) -> list[int]:
        """As `PairIndex.ranks`; the journal is read once, not for each call."""
        if self._pair_index is None or self._pair_index.lsn != self.lsn:
            self._pair_index = self.history().pair_index()
        return self._pair_index.ranks(keys, values)

    # --- the end --------------------------------------------------------------------------------

    def close(self) -> None:
        """Checkpoint what was written, seal, give up the lock. Idempotent; a fork's copy changes nothing."""
        if self._broken == _CLOSED:
            return
        try:
            if self._writer is not None and not self.forked:
                try:
                    if self._broken is None:
                        self.checkpoint()
                finally:
                    self._writer.close()
        finally:
            self._broken = _CLOSED
            self._let_go()
            if self._lock is not None:
                self._lock.release()
            self.directory.close()

    def _let_go(self) -> None:
        """Drop the arrays: a mapped snapshot stays open as long as anything points into it."""
        nothing = np.empty((0, 0), np.float32)
        self.replayer.state = MatrixState(self.parameters, nothing, None, self.state.flags)
        self.snapshot = replace(self.snapshot, state=self.replayer.state)

    def _replayer(self, recovered: Recovered) -> Replayer:
        return Replayer(
            recovered.state,
            write_count=recovered.write_count,
            expand_at=recovered.expand_at,
            state_bytes_max=self.state_bytes_max,
        )
