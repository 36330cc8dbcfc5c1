"""The arithmetic in NumPy: the readable truth that every other backend equals to the bit.

Purpose: rules A-4 to A-17 as they stand in the spec, one key at a time. It serves when the compiled
kernel is absent. Invariants: `update` and `forget` work on copies and touch the state only when the
whole batch has been accepted; P̄ is symmetric to the bit after every operation.
Source: recursive least squares as in Schlag, Irie, Schmidhuber (2021) and von Oswald et al., "mesa"
(2023); gated delta as in Yang, Kautz, Hatamizadeh (2025); the deferred form is spec A-13.
"""

from __future__ import annotations

import math

import numpy as np

from emm.kernel.checks import SQUARE_MAX, Refusal, Refused
from emm.kernel.fma import add_exact_product, dot, dot_rows, fma, require_denormals
from emm.kernel.projection import Plan
from emm.layout import DEFERRED_MAX, UNLEARN_DENOMINATOR_MIN, Rule
from emm.state import Float32Array, GainState, MatrixState

NAME = "reference"
LEVEL = "reference"
FINDS_OUTSIDE = False

_FORGET_MIN = np.float32(2.0**-20)


def first_outside(rows: Float32Array, bound: float) -> int:
    """Index of the first row with a number that is not within ±bound (NaN is not), or −1."""
    inside = (np.abs(rows) <= np.float32(bound)).all(axis=1)
    return -1 if inside.all() else int(np.argmin(inside))


def transform(keys: Float32Array, plan: Plan, rank: int) -> Float32Array:
    """φ of rule A-7: (n, key_dim) -> (n, rank)."""
    require_denormals()
    n, key_dim = keys.shape
    values = np.zeros((n, plan.padded), np.float32)
    values[:, :key_dim] = keys
    half = 1
    with np.errstate(all="ignore"):
        values *= plan.signs
        while half < plan.padded:
            pairs = values.reshape(n, plan.padded // (2 * half), 2, half)
            a, b = pairs[:, :, 0], pairs[:, :, 1]
            values = np.stack([a + b, a - b], axis=2).reshape(n, plan.padded)
            half *= 2
        return np.ascontiguousarray(values[:, plan.order[:rank]] * plan.scale)


def recall_one(state: MatrixState, x: object) -> None:
    """No lean path: `dispatch` checks the query and calls `recall`."""


def write_one(state: MatrixState, x: object, values: object, decay: object, gate: object) -> None:
    """No lean path: `dispatch` checks the pair and calls `update`."""


def recall(matrix: Float32Array, x: Float32Array) -> Float32Array:
    """dot(Mᵢ, x) for every row and query: (n, rank) -> (n, dim) (rule A-17)."""
    require_denormals()
    result = np.empty((x.shape[0], matrix.shape[0]), np.float32)
    with np.errstate(all="ignore"):
        for query, key in enumerate(x):
            _check_square(dot(key, key), query)
            result[query] = dot_rows(matrix, key)
    return result


def update(
    state: MatrixState,
    x: Float32Array,  # (n, rank)
    values: Float32Array,  # (n, dim)
    decay: Float32Array,  # (n,)
    gate: Float32Array,  # (n,), negative to unlearn
) -> Float32Array:
    """Rules A-11 to A-14 for a batch, key by key; raises `Refused` with the state untouched. Returns ‖e‖₂ (n,)."""
    require_denormals()
    rule = state.parameters.rule
    prior = np.float32(1) / np.float32(state.parameters.ridge)
    matrix = state.matrix.copy()
    gain = None if state.gain is None else state.gain.copy()
    surprise = np.zeros(x.shape[0], np.float32)
    with np.errstate(all="ignore"):
        for row, key in enumerate(x):
            alpha, beta = decay[row], gate[row]
            if alpha != 1:
                matrix *= alpha
                if gain is not None:
                    _decay(gain, alpha, prior)
            square = dot(key, key)
            _check_square(square, row)
            if square == 0:
                continue
            if rule is Rule.OUTER_PRODUCT:
                matrix = fma((beta * values[row])[:, None], key[None, :], matrix)
                continue
            if gain is None:
                step = (beta / square) * key
            else:
                advanced = _advance(gain, key, beta, square, row)
                if advanced is None:
                    continue
                step = advanced
            if not np.isfinite(step).all():
                raise Refused(Refusal.GAIN, row)
            error = values[row] - dot_rows(matrix, key)
            matrix = fma(error[:, None], step[None, :], matrix)
            surprise[row] = _norm(error)
    if not np.isfinite(matrix).all():
        raise Refused(Refusal.MATRIX, -1)
    state.matrix[...] = matrix
    if gain is not None:
        state.gain = gain
    return surprise


def _check_square(square: np.float32, row: int) -> None:
    if not square <= SQUARE_MAX:
        raise Refused(Refusal.KEY_NORM, row, float(square))


def _norm(error: Float32Array) -> np.float32:
    """‖e‖₂: squares summed in binary64 in row order (rule A-15)."""
    wide = error.astype(np.float64)
    return np.float32(math.sqrt(float(np.cumsum(wide * wide)[-1])))


def _decay(gain: GainState, alpha: np.float32, prior: np.float32) -> None:
    """Step 1 of rule A-13: P ← α²P + (1 − α²)P₀, on the scalars and U alone."""
    squared = alpha * alpha
    gain.leak = float(fma(squared, np.float32(gain.leak), (np.float32(1) - squared) * prior))
    gain.scale = float(squared * np.float32(gain.scale))
    gain.u *= alpha
    gain.gram_trace *= float(squared)


def _times(gain: GainState, key: Float32Array) -> Float32Array:
    """Step 2 of rule A-13: w = Px."""
    w: Float32Array = np.float32(gain.scale) * dot_rows(gain.pbar, key)
    if gain.leak != 0:
        w = fma(np.float32(gain.leak), key, w)
    projections = dot_rows(gain.u[: gain.count], key)
    for k in range(gain.count):
        t = projections[k] if gain.signs >> k & 1 else -projections[k]
        w = add_exact_product(np.multiply(t, gain.u[k], dtype=np.float64), w)
    return w


def _advance(gain: GainState, key: Float32Array, beta: np.float32, square: np.float32, row: int) -> Float32Array | None:
    """Steps 2 to 5 of rule A-13; returns g, or None for a no-op."""
    w = _times(gain, key)
    s = dot(key, w)
    if s == 0:
        return None
    d = fma(beta, s, np.float32(1))[()]
    if not (s > 0 and np.isfinite(s)):
        raise Refused(Refusal.INDEFINITE, row, float(s))
    if beta < 0 and not d >= UNLEARN_DENOMINATOR_MIN:
        raise Refused(Refusal.DENOMINATOR, row, float(d))
    gamma = beta / d
    step: Float32Array = gamma * w
    gain.u[gain.count] = np.sqrt(np.abs(gamma)) * w
    if not np.isfinite(gain.u[gain.count]).all():
        raise Refused(Refusal.GAIN, row)
    gain.signs |= int(beta < 0) << gain.count
    gain.count += 1
    gain.gram_trace = max(0.0, gain.gram_trace + float(beta) * float(square))
    if gain.count == DEFERRED_MAX:
        fold(gain)
        if not np.isfinite(gain.pbar).all():
            raise Refused(Refusal.GAIN, row)
    return step


def fold(gain: GainState) -> None:
    """Step 5 of rule A-13 with the first `count` rows of U: afterwards P = P̄, to the bit what `dense` returns."""
    if gain.scale != 1:
        gain.pbar *= np.float32(gain.scale)
    if gain.leak != 0:
        diagonal = np.einsum("ii->i", gain.pbar)
        diagonal += np.float32(gain.leak)
    for k in range(gain.count):
        u = gain.u[k]
        left = u if gain.signs >> k & 1 else -u
        gain.pbar = fma(left[:, None], u[None, :], gain.pbar)
    gain.scale, gain.leak, gain.count, gain.signs = 1.0, 0.0, 0, 0
    gain.u[...] = 0


def dense(gain: GainState) -> Float32Array:
    """P as one (rank, rank) array, symmetric to the bit; the state stays as it is."""
    require_denormals()
    with np.errstate(all="ignore"):
        copy = gain.copy()
        fold(copy)
    return copy.pbar


def forget(state: MatrixState, x: Float32Array) -> None:
    """Joint deflation (rule A-16): afterwards M x = 0 for every row of x. P stays as it is."""
    require_denormals()
    rank = state.parameters.rank
    scratch = np.eye(rank, dtype=np.float32) if state.gain is None else dense(state.gain)
    matrix = state.matrix.copy()
    with np.errstate(all="ignore"):
        whole = []
        for row, key in enumerate(x):
            _check_square(dot(key, key), row)
            whole.append(dot(key, dot_rows(scratch, key)))
        for row, key in enumerate(x):
            w = dot_rows(scratch, key)
            s = dot(key, w)
            if not s > _FORGET_MIN * whole[row]:
                continue
            u = w / np.sqrt(s)
            step = w / s
            if not (np.isfinite(u).all() and np.isfinite(step).all()):
                raise Refused(Refusal.GAIN, row)
            scratch = fma(-u[:, None], u[None, :], scratch)
            error = np.float32(0) - dot_rows(matrix, key)
            matrix = fma(error[:, None], step[None, :], matrix)
    if not np.isfinite(matrix).all():
        raise Refused(Refusal.MATRIX, -1)
    state.matrix[...] = matrix
