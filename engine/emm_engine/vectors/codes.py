"""A byte for each number of a vector: a quarter of the memory to read, and a bound that rules rows out for certain.

Purpose: exact search that reads the vectors of a few hundred rows instead of all. A row is a scale, whole numbers from
-127 to 127, and how far it is from what these say; a query is rounded too, more finely. Invariants: products are sums
of integers, the same on every machine; by Cauchy and Schwarz no exact score lies further from its estimate than its
margin, whatever the vectors are; without the compiled loop codes are of no use, and vectors are compared as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from emm_engine.embeddings.provider import Float32Array
from emm_engine.loops import Loops, query_max
from emm_engine.vectors.ranking import Places

CODE_MAX: Final = 127
COLUMNS: Final = 3  # float32 numbers of a row beside its codes: scale, error, length of what the codes say
TINY: Final = float(np.finfo(np.float32).tiny)  # more than rounding changes a score near zero
ROUNDING: Final = 1e-6  # of a product of lengths: more than float32 and float64 arithmetic here is off

Int8Array = npt.NDArray[np.int8]
Int16Array = npt.NDArray[np.int16]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimates:
    """What can be told of a query's scores: each lies within its margin of its estimate."""

    values: Floats  # (n,)
    _errors: Floats  # (n,)
    _lengths: Floats  # (n,)
    _per_error: float
    _per_length: float
    margin_max: float  # of all rows

    def highest(self, places: Places) -> Floats:
        """What the scores of these rows cannot exceed."""
        margins = self._errors[places] * self._per_error + self._lengths[places] * self._per_length
        return self.values[places] + margins + TINY


class Codes:
    """The codes of n vectors."""

    def __init__(self, rows: Int8Array, columns: Float32Array, loops: Loops) -> None:
        self._rows = rows  # (n, dim), mapped
        self._scales, self._errors, self._lengths = columns.T.astype(np.float64)
        self._maxima = float(self._errors.max()), float(self._lengths.max())
        self._loops = loops

    def estimates(self, query: Float32Array) -> Estimates:
        """Of the scores of a query (dim,)."""
        step, whole = _rounded(query)
        values = self._loops.code_products(self._rows, whole) * (self._scales * step)
        exact = query.astype(np.float64)
        length, off = float(np.linalg.norm(exact)), float(np.linalg.norm(exact - step * whole))
        per_error, per_length = length * (1.0 + ROUNDING), off + length * ROUNDING
        error_max, length_max = self._maxima
        margin_max = error_max * per_error + length_max * per_length + TINY
        return Estimates(values, self._errors, self._lengths, per_error, per_length, margin_max)


def coded(vectors: Float32Array) -> tuple[Int8Array, Float32Array]:
    """((n, dim) codes, (n, COLUMNS) columns) of (n, dim) vectors."""
    scales = np.abs(vectors).max(axis=1, initial=0.0) / np.float32(CODE_MAX)
    ratios = np.divide(vectors, scales[:, None], out=np.zeros_like(vectors), where=scales[:, None] > 0.0)
    codes = np.clip(np.rint(ratios), -CODE_MAX, CODE_MAX).astype(np.int8)
    said = scales[:, None].astype(np.float64) * codes
    columns = np.stack([scales, _up(np.linalg.norm(vectors - said, axis=1)), _up(np.linalg.norm(said, axis=1))], axis=1)
    return codes, np.ascontiguousarray(columns, "<f4")


def file_bytes(n: int, dim: int) -> int:
    """How long a file of codes is: (n, dim) codes, then (n, COLUMNS) columns."""
    return n * (dim + 4 * COLUMNS)


def map_file(path: Path, n: int, dim: int) -> npt.NDArray[np.uint8]:
    """The bytes of a file of codes; `OSError` or `ValueError` where there is none that is long enough."""
    return np.memmap(path, np.uint8, "r", shape=(file_bytes(n, dim),))


def over(data: npt.NDArray[np.uint8], n: int, dim: int, loops: Loops) -> Codes:
    """Codes over the bytes of a file."""
    columns = data[n * dim :].copy().view("<f4").reshape(n, COLUMNS)
    return Codes(data[: n * dim].view(np.int8).reshape(n, dim), columns, loops)


def _up(numbers: Floats) -> Float32Array:
    """The float32 numbers that are not less."""
    return np.nextafter(numbers.astype(np.float32), np.float32(np.inf))


def _rounded(query: Float32Array) -> tuple[float, Int16Array]:
    """(step, whole numbers): step · whole is nearly the query."""
    step = float(np.abs(query).max()) / query_max(len(query))
    return step, np.rint(query.astype(np.float64) / step if step > 0.0 else np.zeros(len(query))).astype(np.int16)
