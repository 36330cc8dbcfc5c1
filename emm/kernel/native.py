"""The compiled kernel behind the backend interface (cffi, API mode).

Purpose: hand NumPy arrays to emm_kernel.c and keep the promise that a refused batch changes nothing.
Invariants: arguments come validated from `dispatch`; P̄ is copied only when the batch can reach a fold,
M only when a bound on its rows does not already prove that it stays finite; the GIL is released while
C runs. Importing this module fails where the extension was not built, and then the reference serves.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from emm.kernel._native import ffi, lib  # type: ignore[import-not-found, import-untyped, unused-ignore]
from emm.kernel.checks import Refusal, Refused
from emm.kernel.projection import Plan
from emm.layout import DEFERRED_MAX, Rule
from emm.state import Float32Array, GainState, MatrixState

_LEVELS = ("portable", "avx2", "avx512")
_ROW_NORM_SAFE = 2.0**80  # then e and M, one FMA further, are far below 2¹²⁸


def levels() -> list[str]:
    """The levels this processor runs, fastest last."""
    return [name for number, name in enumerate(_LEVELS) if lib.emm_level_runs(number)]


def _floats(array: Float32Array) -> Any:
    return ffi.from_buffer("float[]", array)


def _bytes(array: npt.NDArray[np.uint8]) -> Any:
    return ffi.from_buffer("uint8_t[]", array)


class Native:
    """One level of the compiled kernel; stateless, so any number of threads may share it."""

    NAME = "native"

    def __init__(self, level: str) -> None:
        self.LEVEL = level
        self._level = _LEVELS.index(level)

    def first_outside(self, rows: Float32Array, bound: float) -> int:
        return int(lib.emm_first_outside(_floats(rows), rows.shape[0], rows.shape[1], bound))

    def transform(self, keys: Float32Array, plan: Plan, rank: int) -> Float32Array:
        n, key_dim = keys.shape
        x = np.empty((n, rank), np.float32)
        work = np.empty(plan.padded, np.float32)
        order = ffi.from_buffer("int64_t[]", plan.order)
        signs = _floats(plan.signs)
        scale = float(plan.scale)
        lib.emm_transform(
            self._level, _floats(keys), n, key_dim, plan.padded, signs, order, scale, rank, _floats(work), _floats(x)
        )
        return x

    def recall(self, matrix: Float32Array, x: Float32Array) -> Float32Array:
        dim, rank = matrix.shape
        n = x.shape[0]
        out = np.empty((n, dim), np.float32)
        outcome = ffi.new("emm_outcome *")
        lib.emm_recall(self._level, _floats(matrix), dim, rank, _floats(x), n, _floats(out), outcome)
        _raise_if_refused(outcome)
        return out

    def update(
        self, state: MatrixState, x: Float32Array, values: Float32Array, decay: Float32Array, gate: Float32Array
    ) -> Float32Array:
        rule, gain = state.parameters.rule, state.gain
        n, rank = x.shape
        gains = x if rule is Rule.OUTER_PRODUCT else np.empty((n, rank), np.float32)
        active = np.zeros(n, np.uint8)
        outcome = ffi.new("emm_outcome *")
        outcome.row_norm = lib.emm_row_norm_max(_floats(state.matrix), *state.matrix.shape)
        advanced = None
        if gain is None:
            if rule is Rule.OUTER_PRODUCT:
                values = gate[:, None] * values
            lib.emm_gains_plain(
                self._level, int(rule), rank, n, _floats(x), _floats(gate), _floats(gains), _bytes(active), outcome
            )
        else:
            advanced = self._advance(state, gain, x, decay, gate, gains, active, outcome)
        _raise_if_refused(outcome)
        undo = None if outcome.row_norm <= _ROW_NORM_SAFE else state.matrix.copy()
        predict = rule is not Rule.OUTER_PRODUCT
        squares = self._sweep(state.matrix, x, gains, values, decay, active, predict, undo)
        if advanced is not None:
            state.gain = advanced
        return np.sqrt(squares).astype(np.float32) if predict else np.zeros(n, np.float32)

    def _advance(
        self,
        state: MatrixState,
        gain: GainState,
        x: Float32Array,
        decay: Float32Array,
        gate: Float32Array,
        gains: Float32Array,
        active: npt.NDArray[np.uint8],
        outcome: Any,
    ) -> GainState:
        """The gain sweep on a copy of the gain state, which it returns."""
        n, rank = x.shape
        pbar = gain.pbar.copy() if gain.count + n >= DEFERRED_MAX else gain.pbar
        u = gain.u.copy()
        scalars = _scalars(gain)
        prior = float(np.float32(1) / np.float32(state.parameters.ridge))
        lib.emm_gains(
            self._level,
            rank,
            n,
            _floats(x),
            _floats(decay),
            _floats(gate),
            prior,
            _floats(pbar),
            _floats(u),
            scalars,
            _floats(gains),
            _bytes(active),
            outcome,
        )
        return GainState(pbar, u, scalars.signs, scalars.count, scalars.scale, scalars.leak, scalars.gram_trace)

    def _sweep(
        self,
        matrix: Float32Array,
        x: Float32Array,
        gains: Float32Array,
        values: Float32Array,
        decay: Float32Array,
        active: npt.NDArray[np.uint8],
        predict: bool,
        undo: Float32Array | None,
    ) -> npt.NDArray[np.float64]:
        """Update every row of M in place; on a number that is not finite, put `undo` back and raise."""
        n, rank = x.shape
        dim = matrix.shape[0]
        batch = ffi.new("emm_batch *")
        batch.dim, batch.rank, batch.n, batch.predict = dim, rank, n, predict
        held = (_floats(x), _floats(gains), _floats(values), _floats(decay), _bytes(active))
        batch.x, batch.gains, batch.values, batch.decay, batch.active = held
        work = np.empty(lib.emm_work_floats(rank), np.float32)
        squares = np.zeros(n, np.float64)
        sums = ffi.from_buffer("double[]", squares)
        rows = ffi.from_buffer("float[]", matrix, require_writable=True)  # else C would write into a mapped file
        if lib.emm_sweep(self._level, batch, 0, dim, rows, _floats(work), sums):
            assert undo is not None, "the bound on the rows of M was wrong"
            matrix[...] = undo
            raise Refused(Refusal.MATRIX, -1)
        return squares

    def dense(self, gain: GainState) -> Float32Array:
        copy = gain.copy()
        lib.emm_fold(self._level, copy.pbar.shape[0], _floats(copy.pbar), _floats(copy.u), _scalars(gain))
        return copy.pbar

    def forget(self, state: MatrixState, x: Float32Array) -> None:
        n, rank = x.shape
        scratch = np.eye(rank, dtype=np.float32) if state.gain is None else self.dense(state.gain)
        gains = np.empty((max(n, 1), rank), np.float32)
        active = np.zeros(n, np.uint8)
        whole = np.empty(n + rank, np.float32)
        outcome = ffi.new("emm_outcome *")
        lib.emm_deflate(
            self._level, rank, n, _floats(x), _floats(scratch), _floats(whole), _floats(gains), _bytes(active), outcome
        )
        _raise_if_refused(outcome)
        nothing = np.zeros((n, state.parameters.dim), np.float32)
        ones = np.ones(n, np.float32)
        self._sweep(state.matrix, x, gains, nothing, ones, active, True, state.matrix.copy())


def _scalars(gain: GainState) -> Any:
    scalars = ffi.new("emm_gain_scalars *")
    scalars.scale, scalars.leak, scalars.gram_trace = gain.scale, gain.leak, gain.gram_trace
    scalars.count, scalars.signs = gain.count, gain.signs
    return scalars


def _raise_if_refused(outcome: Any) -> None:
    if outcome.reason:
        raise Refused(Refusal(outcome.reason), outcome.row, outcome.value)
