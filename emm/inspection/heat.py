"""M as a small grid of cells, for a picture of it.

Purpose: see structure in a matrix of any size. Invariants: at most `CELLS_MAX` cells a side; a cell of one number is
that number, a larger one the root mean square of its numbers, because a signed mean of random numbers is nothing; one
row of cells is widened at a time; cells that touch rows or numbers which cannot be believed are NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emm.inspection.matrix import Matrix
from emm.inspection.spectrum import Float64Array

CELLS_MAX = 128


@dataclass(frozen=True, slots=True)
class HeatMap:
    """`cells` (rows, columns), each of `rows_per_cell` × `columns_per_cell` numbers; the last ones may hold fewer."""

    cells: Float64Array
    rows_per_cell: int
    columns_per_cell: int
    n_rows: int
    n_columns: int

    @property
    def signed(self) -> bool:
        """True when each cell is one number of M."""
        return self.rows_per_cell == self.columns_per_cell == 1


def heat_map(matrix: Matrix, *, cells_max: int = CELLS_MAX) -> HeatMap:
    """The heat map of M."""
    n_rows, n_columns = matrix.rows.shape
    tall, wide = -(-n_rows // cells_max), -(-n_columns // cells_max)
    cells = np.full((-(-n_rows // tall), -(-n_columns // wide)), np.nan)
    bad = np.zeros(n_rows, bool)
    for first, last in matrix.bad_rows:
        bad[first : last + 1] = True
    edges = np.arange(0, n_columns, wide)
    widths = np.diff(np.append(edges, n_columns))
    for index in range(len(cells)):
        group = slice(index * tall, min((index + 1) * tall, n_rows))
        if bad[group].any():
            continue
        numbers = matrix.rows[group].astype(np.float64)
        if tall == wide == 1:
            cells[index] = np.where(np.isfinite(numbers[0]), numbers[0], np.nan)
            continue
        with np.errstate(invalid="ignore", over="ignore"):
            means = np.add.reduceat(np.square(numbers).sum(axis=0), edges) / (widths * len(numbers))
        cells[index] = np.where(np.isfinite(means), np.sqrt(np.abs(means)), np.nan)
    return HeatMap(cells, tall, wide, n_rows, n_columns)
