"""`Memory`: one open matrix memory. Everything a caller does to it goes through here.

Purpose: check what a caller hands in, then let the session change state and journal together.
Invariants: when a mutating call returns, its effect is durable; when it raises before logging, the
memory is as it was. One handle belongs to one process; calls from several threads are serialised.
"""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from dataclasses import replace
from types import TracebackType

import numpy as np
import numpy.typing as npt

from emm import kernel
from emm.codec.header import parameter_fault, payload_bytes
from emm.codec.pairs import PairBatch
from emm.errors import EmmError, FencedError, InputError, LimitError
from emm.layout import RANK_MULTIPLE, WRITE_GATE_MAX, WRITE_GATE_MIN, Flag, Projection, RecordType, Rule
from emm.memory import inputs
from emm.memory.facts import Facts
from emm.memory.inputs import ArrayLike
from emm.state import Float32Array, empty_state
from emm.storage.checkpoint import KEEP_DEFAULT, Pruned
from emm.storage.history import Progress
from emm.storage.replay import Replayer

_PAST = Flag.DECAYED | Flag.BARE_EXPANDED | Flag.FORGOTTEN  # makes unlearn ask the journal about each pair


class Memory(Facts):
    """An open memory; made by `emm.create`, `emm.open` and `emm.merge`. A context manager that closes itself."""

    _stuck_rank = 0  # the rank at which an automatic expansion was not possible

    # --- recall, write, unlearn, forget ---------------------------------------------------------

    def recall(self, queries: ArrayLike) -> Float32Array:
        """M φ(query) for each query: (n, key_dim) → (n, dim) float32."""
        with self._open_session() as session:
            rows = inputs.matrix_of("queries", queries, self.key_dim)
            return kernel.recall(session.state, kernel.project(rows, session.parameters))

    def write(
        self,
        keys: ArrayLike,  # (n, key_dim)
        values: ArrayLike,  # (n, dim)
        decay_gate: ArrayLike = 1.0,  # α, a number or (n,), in (0, 1]
        write_gate: ArrayLike = 1.0,  # β, a number or (n,), in [2⁻¹⁰, 32]; at most 1 under gated-delta
    ) -> int:
        """Absorb pairs; returns the commit's LSN. Atomic, and durable when it returns.

        `decay_gate` fades what was written before, `write_gate` says how much a pair counts. Raises
        `InputError` (shape, type, range; names the row), `GateError`, `LimitError`, `StorageError`.
        """
        with self._open_session() as session:
            session.require_writable()
            batch = inputs.write_batch(session.parameters, keys, values, decay_gate, write_gate)
            lsn = session.commit_pairs(RecordType.WRITE, batch)
            self._expand_if_saturated()
            session.checkpoint_if_due()
            return lsn

    def unlearn(self, keys: ArrayLike, values: ArrayLike, write_gate: ArrayLike = 1.0, rank: int | None = None) -> int:
        """Take pairs out as if they had never been written; `write_gate` as they were written with.

        Rule 2 only. The journal is read for each pair's rank: `HistoryError` where it was never written, was
        unlearned already, or was decayed or forgotten since. With `rank` (the one the pairs were written at) the
        journal is not read and the caller vouches, as everybody must where the journal was pruned: taking out
        what was never written harms the memory. Error ≈ 2⁻²⁴/d² with d = 1 − β·xᵀPx, refused (`GateError`) when
        d < 2⁻⁶: too little else is stored along that key; re-solve from the pairs to keep instead. Atomic;
        returns the commit's LSN.
        """
        with self._open_session() as session:
            session.require_writable()
            if session.parameters.rule is not Rule.PRECONDITIONED:
                raise InputError("only rule 'preconditioned' can unlearn", found=self.rule)
            key_rows, value_rows = inputs.pair_rows(session.parameters, keys, values)
            gates = inputs.gates_of("write_gate", write_gate, len(key_rows), WRITE_GATE_MIN, WRITE_GATE_MAX)
            batches = [
                PairBatch(written_rank, key_rows[rows], value_rows[rows], gates[rows], _NO_GATES)
                for written_rank, rows in self._rows_by_rank(key_rows, value_rows, rank)
            ]
            lsn = session.commit_pairs(RecordType.UNLEARN, *batches)
            session.checkpoint_if_due()
            return lsn

    def forget(self, keys: ArrayLike) -> int:
        """Make M φ(key) = 0 for all these keys together, whatever values they had; returns the commit's LSN."""
        with self._open_session() as session:
            session.require_writable()
            key_rows = inputs.key_rows(session.parameters, keys)
            no_values = np.empty((len(key_rows), 0), np.float32)
            batch = PairBatch(session.parameters.rank, key_rows, no_values, _NO_GATES, _NO_GATES)
            lsn = session.commit_pairs(RecordType.FORGET, batch)
            session.checkpoint_if_due()
            return lsn

    def configure(self, *, expand_at: float) -> int:
        """Change the saturation above which the rank doubles (0 = never); logged, returns the commit's LSN."""
        with self._open_session() as session:
            session.require_writable()
            return session.configure(inputs.expand_at_of(expand_at))

    # --- expansion ------------------------------------------------------------------------------

    def expand(
        self,
        rank: int,
        pairs: tuple[ArrayLike, ArrayLike] | None = None,
        *,
        bare: bool = False,
        progress: Progress | None = None,
    ) -> int:
        """Raise the rank, durably; returns the generation that holds it (a bare expansion: the present one).

        Re-solves from the pairs in the journal, or from `pairs` = (keys, values), so that old pairs are
        recalled as if the memory had always had that rank. Where not every pair is at hand: `HistoryError`.
        `bare=True` doubles without pairs: recall is unchanged at that instant, but later writes disturb
        older pairs (a warning says so), and the memory no longer merges.
        """
        with self._open_session() as session:
            session.require_writable()
            rank = inputs.integer("rank", rank)
            self._check_rank(rank)
            if bare:
                return self._expand_bare(rank, pairs)
            lsn = session.lsn
            if pairs is None:
                resolved = session.history().resolve(rank, progress=progress, state_bytes_max=session.state_bytes_max)
            else:
                resolved = self._solve(rank, *pairs)
            if session.lsn != lsn:
                raise InputError(
                    "the memory was written to while it was solved anew (by `progress`?)", found=session.lsn
                )
            return session.install_resolved(resolved)

    def _check_rank(self, rank: int) -> None:
        session = self._session
        grown = replace(session.parameters, rank=rank)
        fault = parameter_fault(grown)
        if fault is not None:
            raise InputError(f"that rank is not allowed: {fault[1]}", rule=fault[0])
        if rank <= self.rank:
            raise InputError("a memory's rank only grows", expected=f"above {self.rank}", found=rank)
        if payload_bytes(grown) > session.state_bytes_max:
            raise LimitError(
                "a state of that rank is larger than this process allows",
                rule="S-1",
                expected=f"at most {session.state_bytes_max} bytes",
                found=payload_bytes(grown),
            )

    def _expand_bare(self, rank: int, pairs: object) -> int:
        if pairs is not None:
            raise InputError("a bare expansion takes no pairs")
        if rank != 2 * self.rank:
            raise InputError("a bare expansion only doubles", expected=2 * self.rank, found=rank)
        self._session.expand_bare(rank)
        self._notice(
            f"bare expansion to rank {rank}: later writes will disturb the recall of older pairs, "
            "and the memory no longer merges"
        )
        return self.generation

    def _solve(self, rank: int, keys: ArrayLike, values: ArrayLike) -> Replayer:
        """A state solved from these pairs alone."""
        parameters = replace(self._session.parameters, rank=rank)
        replayer = Replayer(empty_state(parameters), state_bytes_max=self._session.state_bytes_max)
        replayer.apply_pairs(RecordType.WRITE, inputs.write_batch(parameters, keys, values, 1.0, 1.0))
        replayer.state.flags |= Flag.FOREIGN_PAIRS
        return replayer

    def _expand_if_saturated(self) -> None:
        """Double the rank by re-solving while saturation is above the threshold; say so when it cannot."""
        parameters = self._session.parameters
        if parameters.rule is not Rule.PRECONDITIONED or parameters.projection is Projection.NONE:
            return
        rank_max = self.key_dim // RANK_MULTIPLE * RANK_MULTIPLE
        while 0 < self.expand_at < self.saturation and self._stuck_rank < self.rank < rank_max:
            try:
                self.expand(min(2 * self.rank, rank_max))
            except EmmError as error:
                if self._session.mode == "closed":  # the new state could not be made durable
                    raise
                self._stuck_rank = self.rank  # the write itself is durable; trying again at each one would help nobody
                self._notice(
                    f"saturation is above {self.expand_at:.2f} but the rank stays {self.rank}: {error.message}"
                )

    # --- a state solved elsewhere ---------------------------------------------------------------

    def adopt(self, source: Memory, lsn: int) -> int:
        """Make the state of `source` this memory's next generation, durably; returns that generation.

        A compare-and-swap: `FencedError` with nothing changed unless this memory is still at `lsn`, so what was solved
        on a copy never replaces a newer write. Shape, rule, projection, seed and λ must be equal; the rank only grows.
        Identity, LSN and `expand_at` stay, the pair count is the source's. As after a merge the pairs are not all in
        this memory's journal, so it does not expand by itself.
        """
        with self._open_session() as session:
            session.require_writable()
            if session.lsn != inputs.integer("lsn", lsn):
                raise FencedError("the memory was written to since it was read", expected=lsn, found=session.lsn)
            state = source.state()
            if replace(state.parameters, rank=self.rank) != session.parameters:
                raise InputError("only a memory of the same kind can be adopted", expected=self, found=source)
            if state.parameters.rank != self.rank:
                self._check_rank(state.parameters.rank)
            state.flags |= Flag.FOREIGN_PAIRS
            return session.install_resolved(Replayer(state, write_count=source.write_count))

    # --- checkpoints and the end ----------------------------------------------------------------

    def checkpoint(self) -> int:
        """Publish a snapshot of the present state and prune old ones; returns its generation.

        With nothing written since the newest snapshot, returns that one's generation.
        """
        with self._open_session() as session:
            return session.checkpoint()

    def prune(self, keep: int = KEEP_DEFAULT, journal: bool = False) -> Pruned:
        """Remove all but the newest `keep` snapshots; with `journal=True` also segments that none of them needs.

        Without its journal from the first commit on, a memory can no longer expand by itself.
        """
        with self._open_session() as session:
            return session.prune(keep=inputs.integer("keep", keep), journal=journal)

    def close(self) -> None:
        """Checkpoint if anything was written, seal the journal, give up the lock. Idempotent."""
        with nullcontext() if self._session.forked else self._mutex:
            self._session.close()

    def __enter__(self) -> Memory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- inside ---------------------------------------------------------------------------------

    def _rows_by_rank(
        self, keys: Float32Array, values: Float32Array, rank: int | None
    ) -> list[tuple[int, npt.NDArray[np.intp]]]:
        """(rank the rows were written at, rows), as the journal says; at the caller's word where it was pruned."""
        everything = np.arange(len(keys))
        if rank is not None:
            rank = inputs.integer("rank", rank)
            if rank % RANK_MULTIPLE or not 0 < rank <= self.rank:
                raise InputError(
                    "rank must be the one the pairs were written at", expected=f"16 to {self.rank}", found=rank
                )
            return [(rank, everything)]
        history = self._session.history()
        if (
            not self.flags & _PAST and history.missing() is not None
        ):  # the journal cannot say, and nothing speaks against
            return [(self.rank, everything)]
        ranks = np.array(self._session.written_ranks(keys, values))
        return [(int(each), np.flatnonzero(ranks == each)) for each in np.unique(ranks)]

    def _notice(self, text: str) -> None:
        """Keep a notice and warn, once."""
        if text not in self._session.notices:
            self._session.notices.append(text)
            warnings.warn(text, stacklevel=4)


_NO_GATES = np.empty(0, np.float32)
