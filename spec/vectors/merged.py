"""The merge of two memories whose keys are axes: its solution needs no LAPACK, so its bits are the same everywhere."""

from __future__ import annotations

import numpy as np

from emm.layout import Flag, Projection
from emm.state import MatrixState, empty_state

from .life import Life, small


def merged_state() -> MatrixState:
    """A-19 for two memories of two pairs each, with projection 0 and the keys e₀, e₁ and e₁, e₂.

    P is diagonal in each, so it is inverted one number at a time: elementwise binary64, then one rounding.
    """
    parameters = small(2, projection=Projection.NONE)
    states = [_axes((0, 1), 1), _axes((1, 2), 2)]
    precision = np.zeros(parameters.rank)
    moment = np.zeros((parameters.dim, parameters.rank))
    for state in states:
        assert state.gain is not None
        own = 1.0 / _diagonal(state)
        precision += own
        moment += state.matrix.astype(np.float64) * own
    precision -= parameters.ridge
    merged = empty_state(parameters)
    assert merged.gain is not None
    merged.matrix[...] = moment / precision
    np.fill_diagonal(merged.gain.pbar, 1.0 / precision)
    merged.gain.gram_trace = sum(state.gain.gram_trace for state in states if state.gain is not None)
    merged.flags = Flag.FOREIGN_PAIRS
    return merged


def _axes(axes: tuple[int, int], seed: int) -> MatrixState:
    life = Life(small(2, projection=Projection.NONE))
    pairs = life.pairs(2, seed)
    pairs.keys[...] = 0
    for row, axis in enumerate(axes):
        pairs.keys[row, axis] = 1
    life.writing(pairs)
    return life.state


def _diagonal(state: MatrixState) -> np.ndarray:
    """The diagonal of P; for axes U has one number in each row, so nothing lies beside it."""
    gain = state.gain
    assert gain is not None
    folded = np.diagonal(gain.pbar).astype(np.float64)
    for row in gain.u[: gain.count].astype(np.float64):
        folded = folded - row * row
    return folded
