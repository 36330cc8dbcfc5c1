"""Exact merge: the memory of all the pairs of all the sources (rule A-19).

Purpose: memories with the same φ and λ that are ridge solutions add up. LAPACK's bits differ between
machines, so a merge is published as a snapshot and never replayed; the result is not defined to the
bit, only symmetric to the bit and within rounding of the one-pass solution.
Source: sufficient statistics of ridge regression; spec A-19.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from emm.errors import InputError
from emm.kernel.dispatch import inverse_gram
from emm.kernel.fma import Float64Array
from emm.layout import DEFERRED_MAX, Flag, Rule
from emm.state import GainState, MatrixState

_FATAL = {
    Flag.DECAYED: "it was written with a decay gate below 1, so its older pairs count less",
    Flag.BARE_EXPANDED: "its rank was raised without its pairs, so it is not the solution over them",
    Flag.NORMALISER: "it was upgraded and not written to since, so its answers are more than a product",
}


def check_mergeable(states: Sequence[MatrixState]) -> None:
    """`InputError` naming the source and the reason unless all the states can be merged."""
    if not states:
        raise InputError("a merge needs at least one memory", rule="A-19")
    first = states[0].parameters
    for number, state in enumerate(states):
        parameters = state.parameters
        if parameters.rule is not Rule.PRECONDITIONED:
            raise InputError(f"source {number} cannot merge: rule {parameters.rule.name} keeps no P", rule="A-19")
        for flag, reason in _FATAL.items():
            if state.flags & flag:
                raise InputError(f"source {number} cannot merge: {reason}", rule="A-19", found=flag.name)
        for name in ("rank", "dim", "key_dim", "projection", "seed", "ridge"):
            mine, theirs = getattr(parameters, name), getattr(first, name)
            if mine != theirs:
                raise InputError(
                    f"source {number} cannot merge: its {name} differs from the first source's",
                    rule="A-19",
                    expected=theirs,
                    found=mine,
                )


def merge(states: Sequence[MatrixState]) -> MatrixState:
    """P = (Σ Pᵢ⁻¹ − (n−1)λI)⁻¹, M = (Σ MᵢPᵢ⁻¹)P in binary64; a new state, flagged FOREIGN_PAIRS."""
    check_mergeable(states)
    parameters = states[0].parameters
    rank = parameters.rank
    precision = np.zeros((rank, rank), np.float64)
    moment = np.zeros((parameters.dim, rank), np.float64)
    flags, gram_trace = Flag.FOREIGN_PAIRS, 0.0
    for number, state in enumerate(states):
        assert state.gain is not None
        own = _inverse(inverse_gram(state).astype(np.float64), f"source {number}")
        precision += own
        moment += state.matrix.astype(np.float64) @ own
        flags |= state.flags
        gram_trace += state.gain.gram_trace
    precision -= (len(states) - 1) * float(parameters.ridge) * np.eye(rank)
    inverse = _inverse(precision, "the sum")
    matrix = np.ascontiguousarray((moment @ inverse).astype(np.float32))
    pbar = inverse.astype(np.float32)
    if not (np.isfinite(matrix).all() and np.isfinite(pbar).all()):
        raise InputError("the merge would store a number that is not finite", rule="A-19")
    gain = GainState(pbar, np.zeros((DEFERRED_MAX, rank), np.float32), 0, 0, 1.0, 0.0, gram_trace)
    return MatrixState(parameters, matrix, gain, flags)


def _inverse(matrix: Float64Array, what: str) -> Float64Array:
    """Inverse of a symmetric positive definite matrix, symmetric to the bit; `InputError` when it is not definite."""
    try:
        factor = np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        raise InputError(f"{what} has no positive definite inverse Gram matrix", rule="A-19") from None
    half = np.linalg.inv(factor)
    inverse: Float64Array = half.T @ half
    return (inverse + inverse.T) / 2
