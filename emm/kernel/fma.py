"""Exact binary32 arithmetic in NumPy: the fused multiply-add and the 16-lane dot product.

Purpose: give the reference kernel the operations of rules A-3 to A-5. NumPy has no FMA, so a·b is
formed exactly in binary64 (24 + 24 bits fit in 53), c is added, and the one case in which rounding
twice differs from rounding once (the binary64 sum lies on a binary32 tie, or is subnormal) is
repaired by rounding the sum to odd before it is narrowed.

Invariants: results equal the IEEE-754 fused operation to the bit for finite inputs; every entry
checks that the process has not been switched to flush-to-zero (`require_denormals`).
Source: Boldo and Melquiond, "Emulation of a FMA and correctly rounded sums" (2008).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from emm.errors import EmmError
from emm.state import Float32Array

Float64Array = npt.NDArray[np.float64]

LANES = 16

_TIE_MASK = np.int64((1 << 29) - 1)
_TIE = np.int64(1 << 28)
_TINY = 2.0**-125
_SMALLEST_NORMAL = np.float32(2.0**-126)
_HALF = np.float32(0.5)


def require_denormals() -> None:
    """Raise when a library loaded with -ffast-math has switched the process to flush-to-zero (rule A-2)."""
    if np.multiply(_SMALLEST_NORMAL, _HALF) == 0:
        raise EmmError(
            "this thread flushes subnormal numbers to zero (a library built with -ffast-math was loaded); "
            "the NumPy kernel cannot compute the format's arithmetic here: install the compiled kernel",
            rule="A-2",
        )


def add_exact_product(product: Float64Array, addend: Float32Array) -> Float32Array:
    """round32(product + addend) with one rounding; `product` is exact. Same shapes (or broadcastable addend)."""
    total = np.add(product, addend, dtype=np.float64)
    result = total.astype(np.float32)
    magnitude = np.abs(total)
    doubtful = (total.view(np.int64) & _TIE_MASK) == _TIE
    doubtful |= (magnitude < _TINY) & (magnitude > 0)
    if doubtful.any():
        where = np.nonzero(doubtful)
        parts = np.broadcast_to(addend, total.shape)[where].astype(np.float64)
        result[where] = _to_odd(product[where], parts, total[where]).astype(np.float32)
    return result


def _to_odd(product: Float64Array, addend: Float64Array, total: Float64Array) -> Float64Array:
    """`total` = product + addend, moved to the neighbour with an odd last bit wherever the sum was inexact."""
    back = total - product
    error = (product - (total - back)) + (addend - back)
    bits = total.view(np.int64).copy()
    inexact = ((error > 0) | (error < 0)) & ((bits & 1) == 0)  # false for NaN, so infinities stay as they are
    away = (error > 0) == (total > 0)
    bits[inexact] += np.where(away, np.int64(1), np.int64(-1))[inexact]
    return bits.view(np.float64)


def fma(a: npt.ArrayLike, b: npt.ArrayLike, c: npt.ArrayLike) -> Float32Array:
    """a·b + c rounded once, element by element; operands are float32 and broadcast."""
    product = np.asarray(np.multiply(a, b, dtype=np.float64))
    shape = np.broadcast_shapes(product.shape, np.shape(c))
    if product.shape != shape or not product.flags.c_contiguous:
        product = np.ascontiguousarray(np.broadcast_to(product, shape))
    flat = add_exact_product(np.atleast_1d(product), np.atleast_1d(np.asarray(c, np.float32)))
    return flat.reshape(shape)


def dot_rows(rows: Float32Array, x: Float32Array) -> Float32Array:
    """dot(row, x) of rule A-4 for each row: (n, width), (width,) -> (n,); width is a multiple of 16."""
    products = np.multiply(rows, x, dtype=np.float64)
    lanes = np.zeros((rows.shape[0], LANES), np.float32)
    for start in range(0, rows.shape[1], LANES):
        lanes = add_exact_product(products[:, start : start + LANES], lanes)
    half = LANES // 2
    while half:
        lanes = lanes[:, :half] + lanes[:, half : 2 * half]
        half //= 2
    return np.ascontiguousarray(lanes[:, 0])


def dot(a: Float32Array, b: Float32Array) -> np.float32:
    """dot(a, b) of rule A-4 for two vectors of the same length."""
    return np.float32(dot_rows(a.reshape(1, -1), b)[0])
