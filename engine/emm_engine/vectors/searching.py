"""Search over a view: which rows are looked at, and the order of what is found.

Purpose: choose between an index and a look at everything, for each segment. Invariants: with no index, or one that has
proposed fewer than were asked for, a segment is searched exactly; every score is exact; rows that are dead or not
allowed are dropped before the k best are taken.
"""

from __future__ import annotations

import math

import numpy as np

from emm_engine.embeddings.provider import Float32Array
from emm_engine.vectors.index import WORTH
from emm_engine.vectors.ranking import GATHER_SHARE, Places, allowed_places, best, contenders, dots
from emm_engine.vectors.segment import Segment
from emm_engine.vectors.segment_set import Bits
from emm_engine.vectors.store import Ids
from emm_engine.vectors.view import View


def search(
    view: View, query: Float32Array, k: int, allowed: Ids | None, factor: int | None
) -> tuple[Ids, Float32Array, bool]:
    """(k best ids, their scores, whether an index chose among them); `factor` times the search_k of each index.

    Without a factor the answer is exact.
    """
    tail = view.tail
    at = contenders(tail.vectors, query, k, allowed_places(tail.ids, allowed))
    ids, scores = [tail.ids[at]], [dots(tail.vectors[at], query)]
    indexed = False
    for part, alive in zip(view.parts, view.alive, strict=True):
        segment = part.segment
        wanted = alive if allowed is None else alive & np.isin(segment.ids, allowed)
        proposed = _proposed(segment, query, k, wanted, factor) if factor is not None and query.any() else None
        indexed |= proposed is not None
        places = proposed if proposed is not None else _exactly(segment, query, k, wanted)
        ids.append(segment.ids[places])
        scores.append(dots(segment.vectors(places), query))
    return *best(np.concatenate(ids), np.concatenate(scores), k), indexed


def _proposed(segment: Segment, query: Float32Array, k: int, wanted: Bits, factor: int) -> Places | None:
    """What the index proposes; None where it has no say."""
    n, n_wanted = len(segment), int(np.count_nonzero(wanted))
    if segment.facts is None or k <= 0 or not n_wanted:
        return None
    share = n_wanted / n  # of what the index knows
    count = math.ceil(2 * k / share)
    search_k = max(math.ceil(factor * segment.facts.search_k / share), 2 * count)
    if search_k * WORTH > n or (index := segment.index()) is None:
        return None
    found = index.near(query, count, search_k)
    found = found[wanted[found]]
    return found if len(found) >= min(k, n_wanted) else None


def _exactly(segment: Segment, query: Float32Array, k: int, wanted: Bits) -> Places:
    """Every row that could be among the k best."""
    places = np.flatnonzero(wanted)
    few = len(places) * GATHER_SHARE < len(segment)
    return contenders(segment.mapped(places if few else None), query, k, places)
