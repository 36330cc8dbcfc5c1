"""The compiled kernel behind the backend interface (cffi, API mode).

Purpose: hand NumPy arrays to the C kernel and keep the promise that a refused batch changes nothing.
Invariants: arguments come validated from `dispatch`, or are validated here where the lean paths take
them as a caller gave them; P̄ is never written in place but folded into a new array; the GIL is released
while C runs; every thread has buffers of its own. Importing this module fails where the extension was
not built, and then the reference serves.
"""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from emm.kernel._native import ffi, lib  # type: ignore[import-not-found, import-untyped, unused-ignore]
from emm.kernel.checks import Refusal, Refused
from emm.kernel.projection import Plan
from emm.kernel.room import BYTES, FLOATS, Room
from emm.kernel.threads import threads
from emm.layout import DEFERRED_MAX, WRITE_GATE_MAX, WRITE_GATE_MIN, Flag, Rule
from emm.state import Float32Array, GainState, MatrixState

SELF_TEST = 0x8A73D8BE66923C4A  # what emm_self_test.c digests to; tests/kernel computes it with the reference

_LEVELS = ("portable", "avx2", "avx512", "neon")
_FLOAT32 = np.dtype(np.float32)
_room = Room()


@lru_cache(maxsize=1)
def levels() -> tuple[str, ...]:
    """The levels this processor runs and whose arithmetic is right, fastest last."""
    found = []
    for number, name in enumerate(_LEVELS):
        if not lib.emm_level_runs(number):
            continue
        if passes_self_test(number):
            found.append(name)
        else:
            warnings.warn(
                f"the compiled EMM kernel computes wrong results at level {name!r}: its compiler, or a library, breaks "
                "IEEE-754 arithmetic; that level is not used",
                RuntimeWarning,
                stacklevel=5,
            )
    return tuple(found)


def passes_self_test(number: int) -> bool:
    """Whether one level computes what the format says, on a fixed programme (a fraction of a millisecond)."""
    work = np.empty(lib.emm_self_test_floats(), np.float32)
    return int(lib.emm_self_test(number, ffi.from_buffer(FLOATS, work))) == SELF_TEST


class Native:
    """One level of the compiled kernel; any number of threads may share it."""

    NAME = "native"
    FINDS_OUTSIDE = True

    def __init__(self, level: str) -> None:
        self.LEVEL = level
        self._level = _LEVELS.index(level)

    def first_outside(self, rows: Float32Array, bound: float) -> int:
        return int(lib.emm_first_outside(self._level, _floats(rows), rows.shape[0], rows.shape[1], bound))

    def transform(self, keys: Float32Array, plan: Plan, rank: int) -> Float32Array | int:
        n, key_dim = keys.shape
        x = np.empty((n, rank), _FLOAT32)
        outside = lib.emm_transform(
            self._level,
            ffi.from_buffer(FLOATS, keys),
            n,
            key_dim,
            plan.padded,
            ffi.from_buffer(FLOATS, plan.signs),
            ffi.from_buffer("int32_t[]", plan.order),
            float(plan.scale),
            rank,
            _room.work(plan.padded),
            ffi.from_buffer(FLOATS, x),
        )
        return x if outside < 0 else int(outside)

    # --- recall -----------------------------------------------------------------------------------

    def recall(self, matrix: Float32Array, x: Float32Array) -> Float32Array:
        dim, rank = matrix.shape
        n = x.shape[0]
        out = np.empty((n, dim), _FLOAT32)
        count = threads()
        work = _room.work(lib.emm_recall_floats(rank, count)) if n > 2 else ffi.NULL
        self._recall(_floats(matrix), dim, rank, x, n, out, work, count)
        return out

    def recall_one(self, state: MatrixState, x: npt.ArrayLike) -> Float32Array | None:
        """`recall` for one query just as a caller gave it; None where it is not the plain case."""
        rank = state.parameters.rank
        if not (type(x) is np.ndarray and x.dtype is _FLOAT32 and (x.shape == (rank,) or x.shape == (1, rank))):
            return None
        flags = x.flags
        if not (flags.carray or (flags.c_contiguous and flags.aligned)):
            return None
        matrix = _room.matrix_of(state)
        dim = state.parameters.dim
        out = np.empty((1, dim), _FLOAT32)
        self._recall(matrix, dim, rank, x, 1, out, ffi.NULL, threads())
        return out

    def _recall(
        self, matrix: Any, dim: int, rank: int, x: Float32Array, n: int, out: Float32Array, work: Any, count: int
    ) -> None:
        outcome = _room.outcome
        queries, answers = ffi.from_buffer(FLOATS, x), ffi.from_buffer(FLOATS, out)
        lib.emm_recall(self._level, count, matrix, dim, rank, queries, n, answers, work, outcome)
        if outcome.reason:
            raise _refused(outcome)

    # --- writes -----------------------------------------------------------------------------------

    def write_one(
        self, state: MatrixState, x: npt.ArrayLike, values: npt.ArrayLike, decay: object, gate: object
    ) -> Float32Array | None:
        """`dispatch.write` for one pair just as a caller gave it; None where it is not the plain case."""
        parameters = state.parameters
        rank, dim = parameters.rank, parameters.dim
        if not (
            type(x) is np.ndarray
            and type(values) is np.ndarray
            and x.dtype is _FLOAT32
            and values.dtype is _FLOAT32
            and (x.shape == (1, rank) or x.shape == (rank,))
            and (values.shape == (1, dim) or values.shape == (dim,))
        ):
            return None
        flags, others = x.flags, values.flags
        if not (flags.carray or (flags.c_contiguous and flags.aligned)):
            return None
        if not (others.carray or (others.c_contiguous and others.aligned)):
            return None
        if type(decay) is not float or type(gate) is not float:
            return None
        if decay != 1.0 and not 0.0 < (decay := _rounded(decay)) <= 1.0:
            return None
        if gate != 1.0:
            top = 1.0 if parameters.rule is Rule.GATED_DELTA else WRITE_GATE_MAX
            if not WRITE_GATE_MIN <= (gate := _rounded(gate)) <= top:
                return None
        try:
            return self._one(state, x, values, decay, gate)
        except BufferError:
            return None  # a mapped matrix, which `dispatch` refuses

    def _one(
        self, state: MatrixState, x: Float32Array, values: Float32Array, decay: Any, gate: Any
    ) -> Float32Array | None:
        """One pair; None when only a batch with its undo can tell whether M stays finite."""
        room, parameters, gain = _room, state.parameters, state.gain
        matrix = room.matrix_of(state, writable=True)
        outcome, scalars = room.outcome, room.scalars
        pbar = u = folded = ffi.NULL
        fresh: Float32Array | None = None
        assert (gain is not None) == (parameters.rule is Rule.PRECONDITIONED), "gain belongs to rule 2"
        if gain is not None:
            pbar, u = room.gain_of(gain, parameters.rank)
            scalars.scale, scalars.leak, scalars.gram_trace = gain.scale, gain.leak, gain.gram_trace
            scalars.count, scalars.signs = gain.count, gain.signs
            if gain.count == DEFERRED_MAX - 1:
                fresh = np.empty_like(gain.pbar)
                folded = ffi.from_buffer(FLOATS, fresh)
        status = lib.emm_write_one(
            self._level,
            parameters.rule,
            parameters.dim,
            parameters.rank,
            matrix,
            ffi.from_buffer(FLOATS, x),
            ffi.from_buffer(FLOATS, values),
            decay,
            gate,
            room.prior(parameters.ridge),
            pbar,
            folded,
            u,
            scalars,
            room.single_work(parameters.dim, parameters.rank),
            outcome,
        )
        if status:
            if status < 0:
                return None
            raise _refused(outcome)
        if gain is not None:
            if fresh is not None and scalars.count == 0:
                gain.pbar = fresh
            gain.count, gain.signs = scalars.count, scalars.signs
            gain.scale, gain.leak, gain.gram_trace = scalars.scale, scalars.leak, scalars.gram_trace
        if decay != 1.0:
            state.flags |= Flag.DECAYED
        surprise = np.empty(1, _FLOAT32)
        surprise[0] = outcome.surprise
        return surprise

    def update(
        self, state: MatrixState, x: Float32Array, values: Float32Array, decay: Float32Array, gate: Float32Array
    ) -> Float32Array:
        n = x.shape[0]
        if n == 1:
            done = self._one(state, x, values, float(decay[0]), float(gate[0]))
            if done is not None:
                return done
        matrix, gain, parameters = state.matrix, state.gain, state.parameters
        if np.may_share_memory(x, matrix) or np.may_share_memory(values, matrix):
            x, values = x.copy(), values.copy()
        batch = ffi.new("emm_batch *")
        batch.rule, batch.dim, batch.rank, batch.n = parameters.rule, parameters.dim, parameters.rank, n
        batch.matrix = ffi.from_buffer(FLOATS, matrix, require_writable=True)  # else C would write into a mapped file
        held: list[Any] = [_floats(x), _floats(values), _floats(decay), _floats(gate)]
        batch.x, batch.values, batch.decay, batch.gate = held
        fresh: Float32Array | None = None
        u: Float32Array | None = None
        if gain is not None:
            u = gain.u.copy()
            batch.prior = _room.prior(parameters.ridge)
            _set_scalars(batch.scalars, gain)
            held += [pbar := _floats(gain.pbar), rows := _floats(u)]
            batch.pbar, batch.u = pbar, rows
            if gain.count + n >= DEFERRED_MAX:
                fresh = np.empty_like(gain.pbar)
                held.append(folded := _floats(fresh))
                batch.pbar_folded = folded
        count = threads()
        undo, squares = np.empty_like(matrix), np.zeros(n, np.float64)  # `undo` costs nothing until it is needed
        held += [before := _floats(undo), sums := ffi.from_buffer("double[]", squares)]
        batch.undo, batch.squares = before, sums
        batch.work = _room.work(lib.emm_update_floats(parameters.dim, parameters.rank, count))
        outcome = _room.outcome
        lib.emm_update(self._level, count, batch, outcome)
        if outcome.reason:
            raise _refused(outcome)
        if gain is not None and u is not None:
            scalars = batch.scalars
            state.gain = GainState(
                fresh if batch.folded and fresh is not None else gain.pbar,
                u,
                scalars.signs,
                scalars.count,
                scalars.scale,
                scalars.leak,
                scalars.gram_trace,
            )
        return np.sqrt(squares).astype(np.float32)

    # --- P and forget -----------------------------------------------------------------------------

    def dense(self, gain: GainState) -> Float32Array:
        rank = gain.pbar.shape[0]
        folded, u = np.empty_like(gain.pbar), gain.u.copy()
        scalars = ffi.new("emm_gain_scalars *")
        _set_scalars(scalars, gain)
        lib.emm_fold(self._level, rank, _floats(gain.pbar), _floats(folded), _floats(u), scalars, _room.work(8 * rank))
        return folded

    def forget(self, state: MatrixState, x: Float32Array) -> None:
        n, rank = x.shape
        if n == 0:
            return
        dim = state.parameters.dim
        scratch = np.eye(rank, dtype=np.float32) if state.gain is None else self.dense(state.gain)
        count = threads()
        outcome = _room.outcome
        lib.emm_forget(
            self._level,
            count,
            dim,
            rank,
            n,
            ffi.from_buffer(FLOATS, state.matrix, require_writable=True),
            _floats(x.copy() if np.may_share_memory(x, state.matrix) else x),
            _floats(scratch),
            _floats(np.empty((n, rank), np.float32)),
            _floats(np.empty(n + rank, np.float32)),
            ffi.from_buffer(BYTES, np.zeros(n, np.uint8)),
            _floats(np.empty_like(state.matrix)),
            _floats(np.ones(n, np.float32)),
            _room.work(lib.emm_update_floats(dim, rank, count)),
            outcome,
        )
        if outcome.reason:
            raise _refused(outcome)


def _floats(array: Float32Array) -> Any:
    return ffi.from_buffer(FLOATS, array)


def _rounded(number: float) -> float:
    with np.errstate(over="ignore", under="ignore"):
        return float(np.float32(number))


def _set_scalars(scalars: Any, gain: GainState) -> None:
    scalars.scale, scalars.leak, scalars.gram_trace = gain.scale, gain.leak, gain.gram_trace
    scalars.count, scalars.signs = gain.count, gain.signs


def _refused(outcome: Any) -> Refused:
    return Refused(Refusal(outcome.reason), outcome.row, outcome.value)
