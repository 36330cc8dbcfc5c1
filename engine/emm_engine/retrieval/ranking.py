"""What the lexical and the vector recall found, as one ranking of passages.

Purpose: between the recalls and the citations. Invariants: every member of the pool has both its exact scores,
whichever recall found it; a recall that was not asked scores 0 everywhere and moves nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from emm_engine.catalog.roster import Mask, Roster
from emm_engine.retrieval.fusion import Floats, Neighbours, Places, Ranking, fuse, pool_of, smoothed


@dataclass(frozen=True, slots=True)
class Ranked:
    """p passages of a roster, best first."""

    ids: Places  # (p,)
    scores: Floats  # (p,) in [0, 1]
    lexical: Floats  # (p,) BM25
    vector: Floats  # (p,) cosine

    def first(self, count: int) -> list[tuple[int, float, float, float]]:
        """(passage id, score, BM25, cosine) of the best."""
        columns = (self.ids, self.scores, self.lexical, self.vector)
        return list(zip(*(column[:count].tolist() for column in columns), strict=True))


def merged(
    roster: Roster,
    visible: Mask,  # (n,)
    words: Ranking | None,
    nearest: Places | None,  # best first
    cosines: Callable[[Places], Floats],  # exact, of any places
    vector_weight: float = 1.0,  # of a word's 1
) -> Ranked:
    """The fused and smoothed ranking of whatever the recalls that were asked have found."""
    nobody = np.zeros(len(roster), np.float64)
    neighbours = Neighbours(roster.document_ids, visible)
    best = [each for each in (words.best if words is not None else None, nearest) if each is not None]
    places, members = pool_of(best, neighbours)
    angles = None
    if nearest is not None and len(places):
        scores = nobody.copy()
        scores[places] = cosines(places)
        angles = Ranking(scores, nearest)
    scores = smoothed(fuse(words, angles, places, members, vector_weight), places, neighbours, roster.lengths)
    order = np.lexsort((places, -scores))
    order = order[scores[order] > 0.0]
    at = places[order]
    lexical, vector = (ranking.scores[at] if ranking is not None else nobody[at] for ranking in (words, angles))
    return Ranked(roster.ids[at], scores[order], lexical, vector)
