"""The codes of very many labels, a bit for each number, and their products with a vector.

Purpose: compare a recalled vector with every label of an archive: 20,000 codes of 768 numbers are 60 MB as float32 and
2 MB as signs. Invariants: the products are those with `labels.codes`, to rounding; what one byte of signs is worth is
looked up in a table of 256 sums, so the work is one addition for eight numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from emm_engine.documents import Label
from emm_engine.embeddings.provider import Float32Array
from emm_engine.loops import loops
from emm_engine.matrices.labels import sign_bits

Packed = npt.NDArray[np.uint8]  # (dim / 8 rounded up, n): byte j holds the signs of numbers 8j to 8j + 7
_SIGNS = 1.0 - 2.0 * np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")  # (256, 8)


def packed(labels: Sequence[Label], dim: int) -> Packed:
    """The codes of these labels, one in each column."""
    n_bytes = -(-dim // 8)
    rows = b"".join(sign_bits(label, dim)[:n_bytes] for label in labels)
    return np.ascontiguousarray(np.frombuffer(rows, np.uint8).reshape(len(labels), n_bytes).T)


def products(codes: Packed, vector: Float32Array) -> npt.NDArray[np.float64]:
    """(n,) dot products of a vector (dim,) with each code."""
    padded = np.zeros(8 * len(codes), np.float64)
    padded[: len(vector)] = vector
    tables = np.ascontiguousarray((_SIGNS @ padded.reshape(-1, 8).T).T)  # (dim / 8, 256)
    compiled = loops()
    total = compiled.table_sums(codes, tables) if compiled is not None else _sums(codes, tables)
    return total / math.sqrt(len(vector))


def _sums(codes: Packed, tables: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """What the compiled loop computes, to the bit."""
    n_labels = codes.shape[1]
    total, found = np.zeros(n_labels, np.float64), np.empty(n_labels, np.float64)
    index = np.empty(n_labels, np.intp)  # NumPy would make one for each row, and look twice whether it is in bounds
    for row, table in zip(codes, tables, strict=True):
        index[:] = row
        total += np.take(table, index, out=found, mode="clip")
    return total
