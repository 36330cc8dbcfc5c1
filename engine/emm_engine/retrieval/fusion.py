"""Convex fusion of two rankings, rescored exactly over their union, and what stands beside a hit.

Purpose: the hybrid ranking. The pool is the union of the top 100 of each ranking; both scores are exact for every
member, are scaled to [0, 1] over the pool and averaged, vectors by what they know beyond words; then each passage is
given a share of what its neighbours in the same document are worth. Invariants: pure arithmetic, no I/O; the order is
(score descending, place ascending), so equal inputs give equal rankings; scores lie in [0, 1], and the only passage
that a ranking has is worth 1 in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

POOL = 100  # members each ranking contributes
SHARES = ((1, 0.4), (2, 0.15))  # (distance, share of a neighbour's score that a passage gets)
REACH_CHARS = 150  # a longer passage stands on its own feet: its neighbours count the less, the longer they are

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Ranking:
    """One recall's scores over a roster of n passages, and its best ones."""

    scores: Floats  # (n,) exact where the pool will look
    best: Places  # at most POOL, best first; all of them are worth something

    @property
    def cut(self) -> bool:
        """Whether there may be more than those: then the last of the best, not 0, is the least."""
        return len(self.best) >= POOL


def best_of(scores: Floats, count: int = POOL) -> Places:
    """Places of the `count` best positive scores, by (score descending, place ascending)."""
    at = np.flatnonzero(scores > 0.0)
    if len(at) > count:
        floor = np.partition(scores[at], len(at) - count)[len(at) - count]
        at = at[scores[at] >= floor]
    return at[np.lexsort((at, -scores[at]))][:count]


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Who stands beside whom: passages of one document have consecutive places."""

    document_ids: npt.NDArray[np.int64]  # (n,)
    visible: Mask  # (n,)

    def of(self, places: Places) -> list[tuple[Places, Mask]]:
        """For each offset of `SHARES`, before and after: (that place, whether a neighbour is there)."""
        found = []
        last = len(self.document_ids) - 1
        for distance, _ in SHARES:
            for offset in (-distance, distance):
                beside = np.clip(places + offset, 0, last)
                there = (beside == places + offset) & self.visible[beside]
                found.append((beside, there & (self.document_ids[beside] == self.document_ids[places])))
        return found


def pool_of(rankings: Sequence[Places], neighbours: Neighbours) -> tuple[Places, Mask]:
    """(members and their neighbours ascending, which of them are members)."""
    members = np.unique(np.concatenate(rankings)) if rankings else np.zeros(0, np.int64)
    around = np.unique(np.concatenate([members, *(places[there] for places, there in neighbours.of(members))]))
    return around, np.isin(around, members)


def fuse(
    lexical: Ranking | None, vector: Ranking | None, places: Places, members: Mask, vector_weight: float = 1.0
) -> Floats:
    """(p,) (lexical + w · vector) / (1 + w) of these places, each scaled over the members; w in (0, 1].

    A ranking that has nothing, or was not asked, leaves all the weight to the other.
    """
    shares = [(lexical, 1.0), (vector, vector_weight)]
    told = [(ranking, share) for ranking, share in shares if ranking is not None and len(ranking.best)]
    total = np.zeros(len(places), np.float64)
    for ranking, share in told:
        total += share / sum(share for _, share in told) * _scaled(ranking, places, members)
    return total


def _scaled(ranking: Ranking, places: Places, members: Mask) -> Floats:
    """Min-max over the members; where the ranking was not cut, what it leaves out is worth 0, so 0 is the least."""
    values = ranking.scores[places]
    low, high = float(values[members].min()), float(values[members].max())
    low = low if ranking.cut else min(low, 0.0)
    scaled: Floats = np.maximum(values - low, 0.0) / (high - low) if high > low else (values > 0.0).astype(np.float64)
    return scaled


def smoothed(scores: Floats, places: Places, neighbours: Neighbours, lengths: npt.NDArray[np.int64]) -> Floats:
    """(p,) each score with its neighbours' shares, over the root of the shares that it could have.

    Over their sum, a passage beside a weaker one would lose to one that stands alone; over nothing, it would win.
    """
    dense = np.zeros(len(lengths), np.float64)
    dense[places] = scores
    total, weight = scores.copy(), np.ones(len(places), np.float64)
    shares = [share for _, share in SHARES for _ in range(2)]
    for (beside, there), share in zip(neighbours.of(places), shares, strict=True):
        part = np.where(there, share * np.minimum(1.0, REACH_CHARS / np.maximum(lengths[beside], 1)), 0.0)
        total += part * dense[beside]
        weight += part
    result: Floats = total / np.sqrt(weight)
    return result / max(1.0, float(result.max(initial=0.0)))
