"""The answers of an upgraded memory, divided by its normaliser until the first write (rule A-23).

Purpose: what a v3 cell divided by is a number for each query, which no matrix can hold; so it is kept beside M and
applied here. Invariants: the same bits on every machine (sums in binary64, in the order of the elements); finite
products give finite answers.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from emm.state import Float32Array, Normaliser

_LARGEST = float(np.finfo(np.float32).max)


def normalised(
    normaliser: Normaliser,
    x: Float32Array,  # (n, rank)
    products: Float32Array,  # (n, dim), M x
) -> Float32Array:
    """M x ÷ max(|nᵀx|, floor), floor times ‖x‖ where the normaliser says so: (n, dim)."""
    wide = x.astype(np.float64)
    floor = np.full(len(x), normaliser.floor)
    if normaliser.query_length:
        floor *= np.sqrt(_in_order(wide * wide))
    weight = np.maximum(np.abs(_in_order(wide * normaliser.vector)), floor)
    weight[weight == 0] = 1.0  # a query of zeros, whose product is zero
    with np.errstate(over="ignore", under="ignore"):
        quotient = products / weight[:, None]
    answers: Float32Array = np.clip(quotient, -_LARGEST, _LARGEST).astype(np.float32)
    return answers


def _in_order(terms: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Sum of each row, one element after another (np.sum adds in pairs)."""
    sums: npt.NDArray[np.float64] = np.cumsum(terms, axis=1)[:, -1]
    return sums
