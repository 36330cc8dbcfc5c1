"""Singular values of M in bounded memory, and what they say: effective rank and energy.

Purpose: the spectrum of matrices that are too large to be widened to binary64 whole. Invariants: nothing is changed;
beside M there are in memory one chunk of `CHUNK_NUMBERS`, the smaller Gram matrix and LAPACK's work on it, so at
`SIDE_MAX` about 400 MiB whatever the larger side is; above that, or where M holds what is no number, the answer says so
and is no guess.

The values are square roots of the eigenvalues of the smaller Gram matrix, summed in binary64: those below about 1e-8 of
the largest are noise of that square, and M is binary32 anyway.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from emm.state import Float32Array

SIDE_MAX = 4096  # of the smaller side: half a minute on one core
CHUNK_NUMBERS = 4 << 20
SPECTRUM_SIDE_MAX = 1024  # a glance takes no half minute; the spectrum view goes further

Float64Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Spectrum:
    """`values` largest first; empty, with `effective_rank` None, where `problem` says why."""

    values: tuple[float, ...]
    effective_rank: float | None
    problem: str | None = None

    def rank_holding(self, share: float) -> int | None:
        """How many of the largest values hold this share of the energy Σσ²; None without values or energy."""
        energy = np.cumsum(np.square(np.asarray(self.values, np.float64)))
        if not len(energy) or energy[-1] == 0:
            return None
        return int(np.searchsorted(energy, share * energy[-1]) + 1)


def spectrum_of(matrix: Float32Array, *, side_max: int = SIDE_MAX) -> Spectrum:
    """The singular values of a (dim, rank) matrix."""
    side = min(matrix.shape)
    if side > side_max:
        return Spectrum((), None, f"the smaller side of M is {side}; singular values are computed up to {side_max}")
    lost = count_not_finite(matrix)
    if lost:
        return Spectrum((), None, f"M holds {lost} numbers that are not finite")
    squares = np.maximum(np.linalg.eigvalsh(_gram(matrix))[::-1], 0.0)
    return Spectrum(tuple(np.sqrt(squares).tolist()), effective_rank(squares))


def effective_rank(energy: Float64Array) -> float:
    """exp(H(σ²/Σσ²)) of squared singular values: 0 when all are zero (Roy and Vetterli 2007, on energies)."""
    total = float(energy.sum())
    if total == 0.0:
        return 0.0
    share = energy[energy > 0] / total
    return float(np.exp(-np.sum(share * np.log(share))))


def row_chunks(matrix: Float32Array) -> Iterator[tuple[int, Float32Array]]:
    """(first row, some rows) from the first row to the last, each chunk of at most `CHUNK_NUMBERS` or one row."""
    step = max(CHUNK_NUMBERS // max(matrix.shape[1], 1), 1)
    for first in range(0, matrix.shape[0], step):
        yield first, matrix[first : first + step]


def count_not_finite(matrix: Float32Array) -> int:
    """Numbers that are NaN or infinite."""
    return sum(chunk.size - int(np.isfinite(chunk).sum()) for _, chunk in row_chunks(matrix))


def _gram(matrix: Float32Array) -> Float64Array:
    tall: npt.NDArray[Any] = matrix if matrix.shape[1] <= matrix.shape[0] else matrix.T
    total = np.zeros((tall.shape[1], tall.shape[1]), np.float64)
    for _, chunk in row_chunks(tall):
        wide = chunk.astype(np.float64)
        total += wide.T @ wide
        del wide  # before the next one is there
    return total
