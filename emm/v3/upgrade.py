"""A v3 cell as a v4 state (`spec/emm-v3.md`, V3-13 to V3-17).

Purpose: answers like the cell's until the first write, and a start for the rule from which old pairs survive later
ones. Invariants: pure; the cell is not changed. Eigenvectors come from LAPACK, so P is not defined to the bit; an
upgrade is published as a snapshot, never replayed.

Why rule 2, and P from C̃ itself: a write must know which directions of key space are in use. The Gram matrix Σ k kᵀ that
says so is not in a v3 file, but C̃ᵀC̃ = Σᵢⱼ (vᵢᵀvⱼ) kᵢ kⱼᵀ is, and where values resemble each other little it is nearly
the same (docs/upgrade.md measures what that is worth). Its scale depends on the length of the values, which the file
does not tell, so it is taken out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from emm import kernel
from emm.errors import InputError
from emm.layout import RANK_MULTIPLE, Flag, Projection, Rule
from emm.state import Float32Array, MatrixState, Normaliser, Parameters, aligned_zeros, empty_state
from emm.v3.cell import floor_of
from emm.v3.codec import Cell
from emm.v3.layout import V3Flag

WEIGHT_MAX: Final = 4.0  # of a direction in the estimated Gram matrix: as of four pairs of length one
USED_MIN: Final = 2.0**-20  # share of the largest eigenvalue from which a direction counts as used
RELATED_MIN: Final = 0.05  # least cosine of C̃ and Σ v kᵀ for pairs that can be the file's own


@dataclass(frozen=True, slots=True)
class Pairs:
    """The original pairs of a cell, where somebody still has them: (n, dim) each, float32, checked."""

    keys: Float32Array
    values: Float32Array


def parameters_of(cell: Cell) -> Parameters:
    """The shape of the upgraded memory: keys as they are, rank rounded up to a multiple of 16 (V3-13)."""
    rank = -(-cell.dim // RANK_MULTIPLE) * RANK_MULTIPLE
    return Parameters(cell.dim, cell.dim, rank, Rule.PRECONDITIONED, Projection.NONE)


def upgraded(cell: Cell) -> MatrixState:
    """M, P and the normaliser from the cell alone (V3-13, V3-15)."""
    state = empty_state(parameters_of(cell))
    root = math.sqrt(cell.dim)
    scale = 1.0 if cell.flags & V3Flag.SCALE_ON_QUERY else root
    state.matrix[:, : cell.dim] = cell.matrix.astype(np.float64) * scale
    vector = aligned_zeros(state.parameters.rank)
    vector[: cell.dim] = cell.normaliser.astype(np.float64) * scale
    floor = floor_of(cell.log_scale) * root
    state.normaliser = Normaliser(vector, floor, bool(cell.flags & V3Flag.KEYS_NORMALISED))
    state.flags = Flag.FOREIGN_PAIRS | Flag.DECAYED | Flag.NORMALISER
    _start_from(state, cell)
    return state


def solved(cell: Cell, pairs: Pairs) -> MatrixState:
    """The memory of the original pairs under rule 2, each counted once (V3-16): nothing of C̃ is in it."""
    related(cell, pairs)
    state = empty_state(parameters_of(cell))
    kernel.write(state, kernel.project(stored_keys(cell, pairs), state.parameters), pairs.values)
    state.flags |= Flag.FOREIGN_PAIRS
    return state


def stored_keys(cell: Cell, pairs: Pairs) -> Float32Array:
    """The keys of the pairs as the cell took them: of length 1 where it made them so."""
    if not cell.flags & V3Flag.KEYS_NORMALISED:
        return pairs.keys
    length = np.linalg.norm(pairs.keys.astype(np.float64), axis=1, keepdims=True)
    keys: Float32Array = (pairs.keys / np.where(length > 0, length, 1.0)).astype(np.float32)
    return keys


def related(cell: Cell, pairs: Pairs) -> float:
    """`relatedness` of pairs that can be the file's own; `InputError` (V3-16) for others."""
    found = relatedness(cell, pairs)
    if not found >= RELATED_MIN:
        raise InputError(
            "these are not the pairs of this v3 file: its matrix does not resemble the sum of their products",
            rule="V3-16",
            expected=f"a cosine of at least {RELATED_MIN:g}",
            found=round(found, 4),
        )
    return found


def relatedness(cell: Cell, pairs: Pairs) -> float:
    """Cosine of C̃ and Σ v kᵀ as long vectors: 1 for the pairs of a cell without gates, about 0 for those of another."""
    products = pairs.values.T.astype(np.float64) @ stored_keys(cell, pairs)
    matrix = cell.matrix.astype(np.float64)
    lengths = float(np.linalg.norm(products)) * float(np.linalg.norm(matrix))
    return float((products * matrix).sum()) / lengths if lengths > 0 else 0.0


def gram_estimate(matrix: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(eigenvalues, eigenvectors) of the Gram matrix that C̃ lets us guess: mean 1 where used, at most 4 (V3-15)."""
    largest = float(np.abs(matrix).max())
    if largest == 0.0:
        return np.zeros(matrix.shape[1]), np.eye(matrix.shape[1])
    scaled = matrix / largest  # so that no product overflows or vanishes
    values, vectors = np.linalg.eigh(scaled.T @ scaled)
    values = np.maximum(values, 0.0)
    n_used = int((values > values[-1] * USED_MIN).sum())
    return np.minimum(values * (n_used / values.sum()), WEIGHT_MAX), vectors


def _start_from(state: MatrixState, cell: Cell) -> None:
    """P̄ = (λI + G)⁻¹ with the estimated G, and h = tr G; unused coordinates keep the prior (V3-15)."""
    assert state.gain is not None
    weights, vectors = gram_estimate(cell.matrix.astype(np.float64))
    if not weights.any():
        return
    inverse = (vectors / (float(state.parameters.ridge) + weights)) @ vectors.T
    state.gain.pbar[: cell.dim, : cell.dim] = (inverse + inverse.T) / 2
    state.gain.gram_trace = float(weights.sum())
