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
from emm.kernel.room import BYTES, FLOATS, room
from emm.kernel.thread_count import threads
from emm.layout import DEFERRED_MAX, WRITE_GATE_MAX, WRITE_GATE_MIN, Flag, Rule
from emm.state import Float32Array, GainState, MatrixState, aligned_copy, aligned_empty

from_buffer, NULL = ffi.from_buffer, ffi.NULL
recall_rows, write_pair = lib.emm_recall, lib.emm_write_one  # bound once: looking them up is a share of a single call

SELF_TEST = 0x70907F45C139F850  # what emm_self_test.c digests to; tests/kernel computes it with the reference

_LEVELS = ("portable", "avx2", "avx512", "neon")
_FLOAT32 = np.dtype(np.float32)


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
            room().work(plan.padded),
            ffi.from_buffer(FLOATS, x),
        )
        return x if outside < 0 else int(outside)

    # --- recall -----------------------------------------------------------------------------------

    def recall(self, matrix: Float32Array, x: Float32Array) -> Float32Array:
        (dim, rank), n, count = matrix.shape, x.shape[0], threads()
        out = np.empty((n, dim), _FLOAT32)
        mine = room()
        work = mine.work(lib.emm_recall_floats(rank, count)) if n > 2 else ffi.NULL
        outcome = mine.outcome
        if recall_rows(self._level, count, _floats(matrix), dim, rank, _floats(x), n, _floats(out), work, outcome):
            raise _refused(outcome)
        return out

    def recall_one(self, state: MatrixState, x: npt.ArrayLike) -> Float32Array | None:
        """`recall` for one query just as a caller gave it; None where it is not the plain case."""
        parameters = state.parameters
        dim, rank = parameters.dim, parameters.rank
        if type(x) is not np.ndarray or x.dtype is not _FLOAT32:
            return None
        shape = x.shape
        if (shape != (rank,) and shape != (1, rank)) or not (x.flags.carray or _plain(x)):
            return None
        mine = room()
        out: Float32Array = np.empty((1, dim), np.float32)
        if recall_rows(
            self._level,
            threads(),
            mine.matrix_of(state),
            dim,
            rank,
            from_buffer(FLOATS, x),
            1,
            from_buffer(FLOATS, out),
            NULL,
            mine.outcome,
        ):
            raise _refused(mine.outcome)
        return out

    # --- writes -----------------------------------------------------------------------------------

    def write_one(
        self, state: MatrixState, x: npt.ArrayLike, values: npt.ArrayLike, decay: object, gate: object
    ) -> Float32Array | None:
        """`dispatch.write` for one pair just as a caller gave it; None where it is not the plain case."""
        if type(x) is not np.ndarray or type(values) is not np.ndarray:
            return None
        if type(decay) is not float or type(gate) is not float:
            return None
        parameters = state.parameters
        dim, rank = parameters.dim, parameters.rank
        shape, others = x.shape, values.shape
        if (shape != (rank,) and shape != (1, rank)) or (others != (dim,) and others != (1, dim)):
            return None
        if x.dtype is not _FLOAT32 or values.dtype is not _FLOAT32:
            return None
        if not ((x.flags.carray or _plain(x)) and (values.flags.carray or _plain(values))):
            return None
        if decay != 1.0 and not 0.0 < (decay := _rounded(decay)) <= 1.0:
            return None
        if gate != 1.0:
            top = 1.0 if parameters.rule is Rule.GATED_DELTA else WRITE_GATE_MAX
            if not WRITE_GATE_MIN <= (gate := _rounded(gate)) <= top:
                return None
        if not state.matrix.flags.writeable:
            return None  # `dispatch` refuses it
        return self._one(state, x, values, decay, gate)

    def _one(
        self, state: MatrixState, x: Float32Array, values: Float32Array, decay: float, gate: float
    ) -> Float32Array | None:
        """One pair into a matrix that may be written; None when only a batch can tell whether M stays finite."""
        mine, parameters, gain = room(), state.parameters, state.gain
        rule, dim, rank = parameters.rule, parameters.dim, parameters.rank
        scalars, outcome = mine.scalars, mine.outcome
        pbar = u = folded = NULL
        prior = 0.0
        fresh: Float32Array | None = None
        assert (gain is not None) == (rule is Rule.PRECONDITIONED), "gain belongs to rule 2"
        if gain is not None:
            pbar, u = mine.gain_of(gain, rank)
            prior = mine.prior(parameters.ridge)
            count = gain.count
            scalars.scale, scalars.leak, scalars.gram_trace = gain.scale, gain.leak, gain.gram_trace
            scalars.count, scalars.signs = count, gain.signs
            if count == DEFERRED_MAX - 1:
                fresh = aligned_empty(rank, rank)
                folded = from_buffer(FLOATS, fresh)
        status = write_pair(
            self._level,
            rule,
            dim,
            rank,
            mine.matrix_of(state),
            from_buffer(FLOATS, x),
            from_buffer(FLOATS, values),
            decay,
            gate,
            prior,
            pbar,
            folded,
            u,
            scalars,
            mine.work_address if mine.single == (dim, rank) else mine.single_work(dim, rank),
            outcome,
        )
        if status:
            if status < 0:
                return None
            raise _refused(outcome)
        if gain is not None:
            gain.count = now = scalars.count
            gain.gram_trace = scalars.gram_trace
            if now == 0 and fresh is not None:
                gain.pbar = fresh
            if decay != 1.0 or gate < 0.0 or now == 0:
                gain.signs, gain.scale, gain.leak = scalars.signs, scalars.scale, scalars.leak
        if decay != 1.0:
            state.flags |= Flag.DECAYED
        surprise = np.empty(1, _FLOAT32)
        surprise[0] = outcome.surprise
        return surprise

    def update(
        self, state: MatrixState, x: Float32Array, values: Float32Array, decay: Float32Array, gate: Float32Array
    ) -> Float32Array:
        n = x.shape[0]
        if n == 1 and state.matrix.flags.writeable:
            done = self._one(state, x, values, float(decay[0]), float(gate[0]))
            if done is not None:
                return done
        matrix, gain, parameters = state.matrix, state.gain, state.parameters
        if np.may_share_memory(x, matrix) or np.may_share_memory(values, matrix):
            x, values = x.copy(), values.copy()
        mine, batch = room(), ffi.new("emm_batch *")
        batch.rule, batch.dim, batch.rank, batch.n = parameters.rule, parameters.dim, parameters.rank, n
        batch.matrix = ffi.from_buffer(FLOATS, matrix, require_writable=True)  # else C would write into a mapped file
        held: list[Any] = [_floats(x), _floats(values), _floats(decay), _floats(gate)]
        batch.x, batch.values, batch.decay, batch.gate = held
        fresh: Float32Array | None = None
        u: Float32Array | None = None
        if gain is not None:
            u = aligned_copy(gain.u)
            batch.prior = mine.prior(parameters.ridge)
            _set_scalars(batch.scalars, gain)
            held += [pbar := _floats(gain.pbar), rows := _floats(u)]
            batch.pbar, batch.u = pbar, rows
            if gain.count + n >= DEFERRED_MAX:
                fresh = aligned_empty(*gain.pbar.shape)
                held.append(folded := _floats(fresh))
                batch.pbar_folded = folded
        count = threads()
        undo, squares = np.empty_like(matrix), np.zeros(n, np.float64)  # `undo` costs nothing until it is needed
        held += [before := _floats(undo), sums := ffi.from_buffer("double[]", squares)]
        batch.undo, batch.squares = before, sums
        batch.work = mine.work(lib.emm_update_floats(parameters.dim, parameters.rank, count))
        outcome = mine.outcome
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
        folded, u = aligned_empty(rank, rank), gain.u.copy()
        scalars = ffi.new("emm_gain_scalars *")
        _set_scalars(scalars, gain)
        lib.emm_fold(self._level, rank, _floats(gain.pbar), _floats(folded), _floats(u), scalars, room().work(8 * rank))
        return folded

    def forget(self, state: MatrixState, x: Float32Array) -> None:
        n, rank = x.shape
        if n == 0:
            return
        dim = state.parameters.dim
        scratch = np.eye(rank, dtype=np.float32) if state.gain is None else self.dense(state.gain)
        count = threads()
        outcome = room().outcome
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
            room().work(lib.emm_update_floats(dim, rank, count)),
            outcome,
        )
        if outcome.reason:
            raise _refused(outcome)


def _floats(array: Float32Array) -> Any:
    return ffi.from_buffer(FLOATS, array)


def _plain(array: Float32Array) -> bool:
    """Whether C may read it as it lies; `flags.carray` says so faster, but of writable arrays only."""
    flags = array.flags
    return bool(flags.c_contiguous and flags.aligned)


def _rounded(number: float) -> float:
    with np.errstate(over="ignore", under="ignore"):
        return float(np.float32(number))


def _set_scalars(scalars: Any, gain: GainState) -> None:
    scalars.scale, scalars.leak, scalars.gram_trace = gain.scale, gain.leak, gain.gram_trace
    scalars.count, scalars.signs = gain.count, gain.signs


def _refused(outcome: Any) -> Refused:
    return Refused(Refusal(outcome.reason), outcome.row, outcome.value)
