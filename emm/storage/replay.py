"""Apply journal records to a state: the one path for live writes, recovery and re-solving.

Purpose: a write and its replay cannot differ, because both come through `apply_record`.
Invariants: deterministic to the bit; sizes are checked against the limit before a state grows (S-1).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from emm import kernel
from emm.codec.header import parameter_fault, payload_bytes
from emm.codec.journal import JournalRecord
from emm.codec.pairs import PairBatch, decode_expand, decode_pairs, decode_parameters
from emm.errors import CorruptionError, FormatError, HistoryError, InputError, LimitError
from emm.layout import STATE_BYTES_MAX, RecordType
from emm.state import Float32Array, MatrixState

PAIR_TYPES = (RecordType.WRITE, RecordType.UNLEARN, RecordType.FORGET)


class Records(Protocol):
    """Anything that carries one batch: a `LoggedCommit`, or a batch on its way to the log."""

    @property
    def lsn(self) -> int: ...

    @property
    def records(self) -> tuple[JournalRecord, ...]: ...


class Replayer:
    """A state and the counters that travel with it, moved forward one commit at a time.

    With `resolving=True` every pair is taken as written at the state's own rank: expand records are
    skipped and unlearns are not cut to their rank. That is how a memory is re-solved at a new rank.
    """

    def __init__(
        self,
        state: MatrixState,
        *,
        write_count: int = 0,
        expand_at: float = 0.0,
        resolving: bool = False,
        state_bytes_max: int = STATE_BYTES_MAX,
    ) -> None:
        self.state = state
        self.write_count = write_count
        self.expand_at = expand_at
        self._resolving = resolving
        self._state_bytes_max = state_bytes_max

    def copy(self) -> Replayer:
        """The same state and counters, independent of this one."""
        return Replayer(
            self.state.copy(),
            write_count=self.write_count,
            expand_at=self.expand_at,
            resolving=self._resolving,
            state_bytes_max=self._state_bytes_max,
        )

    def resolved(self, expand_at: float) -> Replayer:
        """The state solved again, to which later commits are applied as they are logged."""
        return Replayer(
            self.state, write_count=self.write_count, expand_at=expand_at, state_bytes_max=self._state_bytes_max
        )

    def apply(self, commit: Records) -> None:
        """Replay one commit; a logged record that cannot be applied is corruption (R-7).

        When resolving it is not: at another rank a pair may no longer come out exactly (`HistoryError`).
        """
        for record in commit.records:
            try:
                self.apply_record(record)
            except InputError as error:
                if self._resolving:
                    rank = self.state.parameters.rank
                    raise HistoryError(
                        f"commit {commit.lsn} cannot be solved again at rank {rank} ({error.message}); "
                        "give the pairs to keep with pairs="
                    ) from None
                raise CorruptionError(
                    "a logged record cannot be replayed", rule="R-7", offset=record.offset, found=str(error)
                ) from None

    def apply_record(self, record: JournalRecord) -> Float32Array | None:
        """Apply one record; returns the surprise per pair for writes and unlearns."""
        parameters = self.state.parameters
        if record.type in PAIR_TYPES:
            return self.apply_pairs(
                record.type, decode_pairs(record, parameters.key_dim, parameters.dim), record.offset
            )
        if record.type is RecordType.EXPAND:
            if not self._resolving:
                self.expand(decode_expand(record), record.offset)
        elif record.type is RecordType.PARAMETERS:
            self.expand_at = decode_parameters(record)
        else:
            raise FormatError(
                "a record of this type cannot be in a batch", rule="J-11", offset=record.offset, found=record.type.name
            )
        return None

    def apply_pairs(self, kind: RecordType, batch: PairBatch, offset: int = 0) -> Float32Array | None:
        """Apply pairs that have been validated. `GateError` leaves the state as it was."""
        rank = self.state.parameters.rank
        allowed = batch.rank == rank or (kind is RecordType.UNLEARN and batch.rank < rank)
        if not allowed and not self._resolving:
            raise FormatError(
                "a record's rank is not the state's", rule="R-8", offset=offset, expected=rank, found=batch.rank
            )
        x = kernel.project(batch.keys, self.state.parameters)
        if kind is RecordType.WRITE:
            surprise = kernel.write(self.state, x, batch.values, batch.decay_gates, batch.write_gates)
            self.write_count += len(batch)
            return surprise
        if kind is RecordType.UNLEARN:
            written = rank if self._resolving else batch.rank
            surprise = kernel.unlearn(self.state, x, batch.values, batch.write_gates, written)
            self.write_count = max(0, self.write_count - len(batch))
            return surprise
        self._require_room_to_forget(offset)
        kernel.forget(self.state, x)
        return None

    def _require_room_to_forget(self, offset: int) -> None:
        """S of A-16 is rank × rank; rules 0 and 1 hold no such matrix, so no header has vouched for its size (S-1)."""
        parameters = self.state.parameters
        size = payload_bytes(parameters) + 4 * parameters.rank**2
        if self.state.gain is None and size > self._state_bytes_max:
            raise LimitError(
                "forgetting at this rank needs more than this process allows",
                rule="S-1",
                offset=offset,
                expected=f"at most {self._state_bytes_max} bytes",
                found=size,
            )

    def expand(self, rank: int, offset: int = 0) -> None:
        """A bare expansion: more columns, no pairs."""
        old = self.state.parameters
        grown = replace(old, rank=rank)
        fault = parameter_fault(grown)
        if fault is not None or rank != 2 * old.rank:  # smaller steps would let a small file ask for endless work
            raise FormatError(
                "an expansion asks for a rank that is not allowed",
                rule="J-17",
                offset=offset,
                expected=2 * old.rank,
                found=rank,
            )
        size = payload_bytes(grown)
        if size > self._state_bytes_max:
            raise LimitError(
                "an expansion asks for more than this process allows",
                rule="S-1",
                offset=offset,
                expected=f"at most {self._state_bytes_max} bytes",
                found=size,
            )
        self.state = kernel.expand(self.state, rank)
