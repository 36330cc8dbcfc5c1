"""The engine's compiled loops (cffi), and what is right for them.

Purpose: two loops over very many rows that NumPy has no fast way for. Invariants: arguments are checked here; the
lock of the interpreter is released meanwhile; where the extension is absent, or a test at first use finds other results
than NumPy's, `loops()` is None, and whoever asks does without.
"""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

CODE_MAX: Final = 128  # the largest absolute value of a code
INT32_MAX: Final = 2**31 - 1
INT16_MAX: Final = 2**15 - 1


def query_max(dim: int) -> int:
    """How large a number of a rounded query may be, so that no sum of `dim` products overflows."""
    return min(INT16_MAX, INT32_MAX // (CODE_MAX * dim))


class Loops:
    """The compiled code."""

    def __init__(self, module: Any) -> None:
        self._borrow, self._lib = module.ffi.from_buffer, module.lib

    def code_products(self, codes: npt.NDArray[np.int8], query: npt.NDArray[np.int16]) -> npt.NDArray[np.int32]:
        """(n,) dot products of (n, dim) codes with a rounded query (dim,), of numbers up to `query_max(dim)`."""
        n, dim = codes.shape
        assert query.shape == (dim,) and codes.flags.c_contiguous and query.flags.c_contiguous
        assert codes.dtype == np.int8 and query.dtype == np.int16
        found = np.empty(n, np.int32)
        borrow = self._borrow
        self._lib.emm_code_products(
            borrow("int8_t[]", codes), n, dim, borrow("int16_t[]", query), borrow("int32_t[]", found)
        )
        return found

    def table_sums(self, codes: npt.NDArray[np.uint8], tables: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """(n,) sums over j, in order, of tables[j, codes[j]]: codes (m, n), tables (m, 256)."""
        m, n = codes.shape
        assert tables.shape == (m, 256) and codes.flags.c_contiguous and tables.flags.c_contiguous
        assert codes.dtype == np.uint8 and tables.dtype == np.float64
        found = np.empty(n, np.float64)
        borrow = self._borrow
        self._lib.emm_table_sums(
            borrow("uint8_t[]", codes), m, n, borrow("double[]", tables), borrow("double[]", found)
        )
        return found


@lru_cache(maxsize=1)
def loops() -> Loops | None:
    """The compiled loops, where they are there and right."""
    try:
        from emm_engine import _loops  # type: ignore[attr-defined, unused-ignore]
    except ImportError:
        return None
    found = Loops(_loops)
    if is_right(found):
        return found
    warnings.warn(
        "the compiled loops of the EMM engine compute wrong results: their compiler broke them; NumPy serves",
        RuntimeWarning,
        stacklevel=3,
    )
    return None


def is_right(candidate: Loops) -> bool:
    """Whether loops compute what NumPy computes, at the largest numbers and at lengths that no step divides."""
    for dim in (1, 67, 4200):
        top = query_max(dim)
        numbers = np.arange(5 * dim, dtype=np.int64) * 7919
        codes = (numbers % 256 - 128).astype(np.int8).reshape(5, dim)
        codes[4] = -CODE_MAX
        query = (numbers[:dim] % (2 * top + 1) - top).astype(np.int16)
        for each in (query, np.full(dim, top, np.int16), np.full(dim, -top, np.int16)):
            if not np.array_equal(candidate.code_products(codes, each), codes.astype(np.int64) @ each.astype(np.int64)):
                return False
    columns = (np.arange(3 * 1100) * 7919 % 256).astype(np.uint8).reshape(3, 1100)
    tables = np.sin(np.arange(3 * 256)).reshape(3, 256)
    expected = np.zeros(1100)
    for column, table in zip(columns, tables, strict=True):
        expected += table[column]
    return np.array_equal(candidate.table_sums(columns, tables), expected)
