"""Bare expansion: more columns without the pairs (rule A-18).

Purpose: the arithmetic of the journal's expand record. Invariants: recall is unchanged at that
instant; the result is a new state and the old one stays as it was. It harms later recall of older
pairs (spec A-18), so re-solving from kept pairs is what a memory does by itself; the flag says
that this was not done.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from emm.errors import InputError
from emm.kernel.dispatch import inverse_gram
from emm.kernel.projection import check_parameters
from emm.layout import DEFERRED_MAX, Flag
from emm.state import GainState, MatrixState


def expand(state: MatrixState, rank: int) -> MatrixState:
    """The state at a larger `rank`, flagged BARE_EXPANDED; `InputError` for a rank that is not allowed."""
    old = state.parameters
    if rank <= old.rank:
        raise InputError("expansion must raise the rank", rule="A-18", expected=f"more than {old.rank}", found=rank)
    parameters = replace(old, rank=rank)
    check_parameters(parameters)
    matrix = np.zeros((old.dim, rank), np.float32)
    matrix[:, : old.rank] = state.matrix
    gain = None
    if state.gain is not None:
        diagonal = 1.0 / (float(old.ridge) + state.gain.gram_trace / old.rank)
        pbar = np.zeros((rank, rank), np.float32)
        np.fill_diagonal(pbar, np.float32(diagonal))
        pbar[: old.rank, : old.rank] = inverse_gram(state)
        u = np.zeros((DEFERRED_MAX, rank), np.float32)
        gain = GainState(pbar, u, 0, 0, 1.0, 0.0, state.gain.gram_trace)
    return MatrixState(parameters, matrix, gain, state.flags | Flag.BARE_EXPANDED)
