"""Search over a view: which rows are looked at, and the order of what is found.

Purpose: choose between an index, codes and a look at everything, for each segment. Invariants: without an index, or
with one that has proposed fewer than were asked for, a segment is searched exactly: what is not looked at cannot be
among the k best; every score is exact; rows that are dead or not allowed are dropped before the k best are taken.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from emm_engine.embeddings.provider import Float32Array
from emm_engine.vectors.codes import Codes
from emm_engine.vectors.index import WORTH
from emm_engine.vectors.ranking import GATHER_SHARE, Places, allowed_places, best, contenders, dots
from emm_engine.vectors.segment import Segment
from emm_engine.vectors.segment_set import Bits
from emm_engine.vectors.store import Ids
from emm_engine.vectors.view import View

SEEN: Final = -np.finfo(np.float64).max  # above what stands for a row that is not to be looked at (again)


class _Best:
    """The k best so far."""

    def __init__(self, query: Float32Array, k: int) -> None:
        self.query = query
        self.k = k
        self.ids: Ids = np.zeros(0, np.int64)
        self.scores: Float32Array = np.zeros(0, np.float32)

    def take(self, ids: Ids, vectors: Float32Array) -> None:
        """(n,) ids and their (n, dim) vectors; no id twice."""
        scores = np.concatenate([self.scores, dots(vectors, self.query)])
        self.ids, self.scores = best(np.concatenate([self.ids, ids]), scores, self.k)

    @property
    def floor(self) -> float:
        """What a score must reach to be among them."""
        return float(self.scores[-1]) if len(self.ids) >= self.k else -math.inf


def search(
    view: View, query: Float32Array, k: int, allowed: Ids | None, factor: int | None
) -> tuple[Ids, Float32Array, bool]:
    """(k best ids, their scores, whether an index chose among them); `factor` times the search_k of each index.

    Without a factor the answer is exact.
    """
    tail, found = view.tail, _Best(query, max(k, 0))
    at = contenders(tail.vectors, query, k, allowed_places(tail.ids, allowed))
    found.take(tail.ids[at], tail.vectors[at])
    indexed = False
    for part, alive in zip(view.parts, view.alive, strict=True):
        segment = part.segment
        wanted = alive if allowed is None else alive & np.isin(segment.ids, allowed)
        proposed = _proposed(segment, query, k, wanted, factor) if factor is not None and query.any() else None
        if proposed is not None:
            indexed = True
            found.take(segment.ids[proposed], segment.vectors(proposed))
        elif k > 0:
            _exactly(segment, wanted, found)
    return found.ids, found.scores, indexed


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


def _exactly(segment: Segment, wanted: Bits, found: _Best) -> None:
    """Take every row that could be among the best."""
    places = np.flatnonzero(wanted)
    if len(places) * GATHER_SHARE < len(segment):
        chosen = contenders(segment.mapped(places), found.query, found.k, places)
        found.take(segment.ids[chosen], segment.vectors(chosen))
        return
    codes = segment.codes()
    if codes is None or not _by_codes(segment, codes, wanted, len(places), found):
        chosen = contenders(segment.mapped(None), found.query, found.k, places)
        chosen = chosen[~np.isin(segment.ids[chosen], found.ids)]  # codes may have found it before they gave up
        found.take(segment.ids[chosen], segment.vectors(chosen))
        if segment.facts is not None or codes is not None:  # a look at everything is the exception there
            segment.release()


def _by_codes(segment: Segment, codes: Codes, wanted: Bits, n_wanted: int, found: _Best) -> bool:
    """Take what its codes do not rule out; False where they rule out too little."""
    estimates = codes.estimates(found.query)
    values = estimates.values
    if n_wanted < len(values):
        values[~wanted] = -np.inf
    at = np.flatnonzero(values >= max(found.floor - estimates.margin_max, SEEN))
    if len(at) > 2 * found.k:  # the best by estimate raise the floor
        top = at[np.argpartition(values[at], len(at) - found.k)[-found.k :]]
        found.take(segment.ids[top], segment.vectors(top))
        values[top] = -np.inf
        at = at[values[at] >= max(found.floor - estimates.margin_max, SEEN)]
    at = at[estimates.highest(at) >= found.floor]
    if len(at) * GATHER_SHARE > len(segment) and len(at) > 2 * found.k:
        return False
    found.take(segment.ids[at], segment.vectors(at))
    return True
