"""Scores and their order: the one way in which every embedded store ranks.

Purpose: equal answers from equal vectors, wherever they are kept. Invariants: a score is the dot product in float64
of one row by itself, rounded to float32, so it does not depend on the rows beside it; results are ordered by (score
descending, id ascending); what is left out before the exact scores could not be among the k best.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from emm_engine.embeddings.provider import Float32Array
from emm_engine.vectors.store import Ids

ROUGH_ERROR: Final = 1e-4  # more than a float32 sum of products is off, in any order, for unit lengths
SCAN_ROWS: Final = 8192  # looked at together
GATHER_SHARE: Final = 8  # below one row in so many, rows are gathered; above, all are read in passing

Places = npt.NDArray[np.intp]


def dots(vectors: Float32Array, query: Float32Array) -> Float32Array:
    """The exact scores of (n, dim) vectors: (n,)."""
    products: npt.NDArray[np.float64] = np.einsum("ij,j->i", vectors, query, dtype=np.float64)
    return products.astype(np.float32)


def best(ids: Ids, scores: Float32Array, k: int) -> tuple[Ids, Float32Array]:
    """The k best in order; (n,) ids in any order, each once."""
    order = np.lexsort((ids, -scores))[: max(k, 0)]
    return ids[order], scores[order]


def contenders(vectors: Float32Array, query: Float32Array, k: int, places: Places | None = None) -> Places:
    """Ascending places of whatever could be among the k best of (n, dim) vectors, or of those at `places`."""
    n = len(vectors) if places is None else len(places)
    if k <= 0 or not n:
        return np.zeros(0, np.intp)
    if k >= n:
        return np.arange(n) if places is None else places
    scale = max(1.0, float(np.linalg.norm(query)))
    if places is not None and n * GATHER_SHARE < len(vectors):
        parts = (_rough(vectors[places[low : low + SCAN_ROWS]], query) for low in range(0, n, SCAN_ROWS))
        rough = np.concatenate(list(parts))
    else:
        rough = _rough(vectors, query)
        rough = rough if places is None else rough[places]
    floor = np.partition(rough, n - k)[n - k] - ROUGH_ERROR * scale
    chosen = np.flatnonzero(rough >= floor)
    return chosen if places is None else places[chosen]


def _rough(vectors: Float32Array, query: Float32Array) -> Float32Array:
    """(n,) scores in float32. Not by BLAS: its threads wait for each other where a recall has one of two cores."""
    found: Float32Array = np.einsum("ij,j->i", vectors, query)
    return found


def allowed_places(ids: Ids, allowed: Ids | None) -> Places | None:
    """Ascending places in `ids` (ascending) of those that are allowed; None for all of them."""
    return None if allowed is None else np.flatnonzero(np.isin(ids, allowed))
