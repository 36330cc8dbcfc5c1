"""Some rows of M as one snapshot stores them: their numbers and what is plain from them.

Purpose: look at a piece of a matrix without reading the rest. Invariants: only the blocks that hold the rows are read,
by ranges, and each is checked first; a row in a block that fails says so and shows no numbers; what is asked for is
bounded.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from emm.errors import InputError
from emm.inspection.blocks import checked_blocks
from emm.inspection.place import opened
from emm.layout import BLOCK_BYTES
from emm.state import Float32Array

NUMBERS_MAX = 4 << 20  # in one answer


@dataclass(frozen=True, slots=True)
class RowInfo:
    """One row. Measures are None where `problem` says why, and where no number of the row is finite."""

    row: int
    norm: float | None = None
    mean: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    n_zero: int = 0
    n_not_finite: int = 0
    values: tuple[float, ...] = ()
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class RowsView:
    """Rows `first` to `last` (inclusive) of the M that generation `generation` stores."""

    url: str
    name: str
    generation: int
    lsn: int
    n_rows: int
    n_columns: int
    first: int
    last: int
    rows: tuple[RowInfo, ...]
    exit_code: int = 0


def rows(url: str | os.PathLike[str], first: int, last: int, *, generation: int | None = None) -> RowsView:
    """Rows of M, both ends included. Raises `InputError` for rows that M does not have, or for too many."""
    with opened(url) as place:
        found = place.head(generation)
        region = found.known.geometry.regions[0]
        n_columns = region.row_bytes // 4
        if not 0 <= first <= last < region.n_rows:
            raise InputError("M has no such rows", expected=f"0 to {region.n_rows - 1}", found=f"{first} to {last}")
        if (last - first + 1) * n_columns > NUMBERS_MAX:
            most = NUMBERS_MAX // n_columns
            raise InputError("too many rows at once", expected=f"at most {most}", found=last - first + 1)
        start, end = first * region.row_bytes, (last + 1) * region.row_bytes
        wanted = range(start // BLOCK_BYTES, -(-end // BLOCK_BYTES))
        data = bytearray(len(wanted) * BLOCK_BYTES)
        bad: dict[int, str] = {}
        for index, block, problem in checked_blocks(place.directory, found, wanted):
            if block is None:
                bad[index] = problem or ""
            else:
                at = (index - wanted.start) * BLOCK_BYTES
                data[at : at + BLOCK_BYTES] = block
        skipped = start - wanted.start * BLOCK_BYTES
        numbers = np.frombuffer(data, "<f4", (end - start) // 4, skipped).reshape(-1, n_columns)
        infos = []
        for row in range(first, last + 1):
            blocks = range(row * region.row_bytes // BLOCK_BYTES, ((row + 1) * region.row_bytes - 1) // BLOCK_BYTES + 1)
            problem = next((bad[index] for index in blocks if index in bad), None)
            infos.append(RowInfo(row, problem=problem) if problem is not None else _measure(row, numbers[row - first]))
        header = found.known.header
        exit_code = 4 if bad else 0
        return RowsView(
            place.url,
            found.name,
            header.generation,
            header.lsn,
            region.n_rows,
            n_columns,
            first,
            last,
            tuple(infos),
            exit_code,
        )


def _measure(row: int, numbers: Float32Array) -> RowInfo:
    finite = numbers[np.isfinite(numbers)].astype(np.float64)
    n_zero, n_not_finite = int((numbers == 0).sum()), len(numbers) - len(finite)
    values = tuple(numbers.tolist())
    if not len(finite):
        return RowInfo(row, n_zero=n_zero, n_not_finite=n_not_finite, values=values)
    return RowInfo(
        row,
        float(np.linalg.norm(finite)),
        float(finite.mean()),
        float(finite.min()),
        float(finite.max()),
        n_zero,
        n_not_finite,
        values,
    )
