"""The spectrum of a memory as a view, and M beside it, from one reading.

Purpose: what `emm-inspect PATH spectrum` and the pictures of M show. Invariants: a damaged memory gives the spectrum of
the rows that can be believed, and says how many they are.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from emm import kernel
from emm.inspection.functional import Functional, functional_of
from emm.inspection.heat import HeatMap, heat_map
from emm.inspection.matrix import Matrix, newest_matrix
from emm.inspection.place import opened
from emm.inspection.spectrum import spectrum_of


@dataclass(frozen=True, slots=True)
class SpectrumView:
    """Singular values of M, largest first. `problem` says what kept the state away, `limit` why there are no values.

    `functional` is how well the memory answers for its pairs; `utilisation`, effective rank / rank, says nothing of it.
    """

    url: str
    source: str
    dim: int
    rank: int
    n_rows_left_out: int
    values: tuple[float, ...]
    effective_rank: float | None
    utilisation: float | None
    saturation: float | None
    rank_holding_90: int | None  # of the energy, in per cent
    rank_holding_99: int | None
    problem: str | None
    limit: str | None
    exit_code: int = 0
    functional: Functional | None = None


def spectrum(url: str | os.PathLike[str]) -> SpectrumView:
    """The spectrum of the newest state, or of the rows that can be had. `InputError` for a journal segment."""
    with opened(url) as place:
        matrix = newest_matrix(place)
        return replace(spectrum_of_matrix(place.url, matrix), functional=functional_of(place, matrix))


def heat(url: str | os.PathLike[str]) -> tuple[str, HeatMap, str | None]:
    """(what it shows, the heat map, what kept the state away) of the newest M that can be had."""
    with opened(url) as place:
        matrix = newest_matrix(place)
        return matrix.source, heat_map(matrix), matrix.problem


def spectrum_of_matrix(url: str, matrix: Matrix) -> SpectrumView:
    """The view of an M that has been read."""
    found = spectrum_of(matrix.rows)
    dim, rank = matrix.rows.shape
    state = matrix.state
    return SpectrumView(
        url,
        matrix.source,
        dim,
        rank,
        matrix.n_bad,
        found.values,
        found.effective_rank,
        None if found.effective_rank is None else found.effective_rank / rank,
        None if state is None or state.gain is None else kernel.saturation(state),
        found.rank_holding(0.9),
        found.rank_holding(0.99),
        matrix.problem,
        found.problem,
        matrix.exit_code,
    )
