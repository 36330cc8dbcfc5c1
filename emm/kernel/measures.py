"""How full a memory is and how well it answers: saturation, utilisation, the ridge limit.

Purpose: the figures that decide about expansion and that reports print. They are computed in
binary64 and are not part of the format's bits. Invariant: nothing here changes a state.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from emm.kernel.fma import Float64Array
from emm.state import MatrixState


def saturation(state: MatrixState) -> float:
    """Share of the degrees of freedom in use, 0 (empty) to 1.

    Rule 2: 1 − λ·tr(P)/r over the r = min(rank, key_dim) coordinates a key can reach; O(rank) to read. It is
    the effective number of parameters of ridge regression (Hastie, Tibshirani, Friedman, §3.4.1), as a share.
    Rules 0 and 1 keep no P: their structural utilisation stands in (one eigenvalue decomposition of MᵀM).
    """
    parameters = state.parameters
    reach = min(parameters.rank, parameters.key_dim)
    if state.gain is None:
        return float(min(1.0, effective_rank(state.matrix) / reach))
    gain = state.gain
    trace = gain.scale * float(np.einsum("ii->i", gain.pbar)[:reach].sum(dtype=np.float64)) + gain.leak * reach
    squares = (gain.u[: gain.count, :reach].astype(np.float64) ** 2).sum(axis=1)
    signs = [-1.0 if gain.signs >> k & 1 else 1.0 for k in range(gain.count)]
    trace -= float(np.dot(signs, squares))
    return float(min(1.0, max(0.0, 1.0 - parameters.ridge * trace / reach)))


def spectrum(matrix: npt.ArrayLike) -> Float64Array:
    """Singular values of a matrix, descending, from the smaller Gram matrix in binary64."""
    wide = np.asarray(matrix, np.float64)
    gram = wide.T @ wide if wide.shape[1] <= wide.shape[0] else wide @ wide.T
    squares: Float64Array = np.maximum(np.linalg.eigvalsh(gram)[::-1], 0.0)
    return np.sqrt(squares)


def effective_rank(matrix: npt.ArrayLike) -> float:
    """exp(H(σ²/Σσ²)), the energy effective rank: 0 for a zero matrix, else 1 to min(shape).

    Source: Roy and Vetterli, "The effective rank" (2007), on energies σ² instead of σ.
    """
    energy = spectrum(matrix) ** 2
    total = float(energy.sum())
    if total == 0.0:
        return 0.0
    share = energy[energy > 0] / total
    return float(np.exp(-np.sum(share * np.log(share))))


def structural_utilisation(state: MatrixState) -> float:
    """`effective_rank(M)` / rank. Says nothing about recall: publish it with the functional figure."""
    return effective_rank(state.matrix) / state.parameters.rank


def functional_utilisation(
    recalled: npt.ArrayLike,  # (n, dim) M φ(kᵢ)
    values: npt.ArrayLike,  # (n, dim) vᵢ
    rank: int,
) -> float:
    """Σ cos²(M φ(kᵢ), vᵢ) / rank over the pairs: 1 at the least-squares limit of n = rank exact pairs."""
    return float((cosines(recalled, values) ** 2).sum() / rank)


def cosines(a: npt.ArrayLike, b: npt.ArrayLike) -> Float64Array:
    """Cosine of each row of a with the same row of b, 0 where one of them is zero: (n, d), (n, d) -> (n,)."""
    left, right = np.asarray(a, np.float64), np.asarray(b, np.float64)
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    dots: Float64Array = np.einsum("ij,ij->i", left, right)
    result: Float64Array = np.divide(dots, norms, out=np.zeros_like(dots), where=norms > 0)
    return result


def ridge_solution(
    x: npt.ArrayLike,  # (n, rank)
    values: npt.ArrayLike,  # (n, dim)
    ridge: float,
    gate: npt.ArrayLike = 1.0,  # β, a number or (n,)
) -> tuple[Float64Array, Float64Array]:
    """(M, P) of β-weighted ridge regression in binary64: what rule 2 without decay approaches in binary32.

    M = (Σ β v xᵀ) P, P = (λI + Σ β x xᵀ)⁻¹ (Hastie, Tibshirani, Friedman, §3.4.1).
    """
    wide, targets = np.asarray(x, np.float64), np.asarray(values, np.float64)
    weighted = wide * np.broadcast_to(np.asarray(gate, np.float64), (wide.shape[0],))[:, None]
    inverse = np.linalg.inv(weighted.T @ wide + ridge * np.eye(wide.shape[1]))
    inverse = (inverse + inverse.T) / 2
    return targets.T @ weighted @ inverse, inverse
