"""Convex fusion of two rankings, rescored exactly over their union.

Purpose: the hybrid ranking: union of the top 100 of each, both scores exact for every member, each
scaled to [0, 1] by its minimum and maximum over the pool, then the mean. Invariants: pure arithmetic, no I/O;
the order is (score descending, id ascending), so equal inputs give equal rankings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

POOL = 100  # members each ranking contributes
WEIGHT_LEXICAL = 0.5


@dataclass(frozen=True, slots=True)
class Scored:
    """One member of the pool: fused score in [0, 1], and the two it came from."""

    id: int
    score: float
    lexical: float  # BM25; 0 when no term of the question occurs
    vector: float  # cosine


def fuse(
    pool: Sequence[int], lexical: Mapping[int, float], vector: Mapping[int, float], weight: float = WEIGHT_LEXICAL
) -> list[Scored]:
    """Rank a pool by weight·lexical + (1 − weight)·vector, each min-max scaled; a missing score counts as 0."""
    members = sorted(set(pool))
    words = [lexical.get(member, 0.0) for member in members]
    angles = [vector.get(member, 0.0) for member in members]
    fused = [
        Scored(member, weight * word_share + (1.0 - weight) * angle_share, word, angle)
        for member, word_share, angle_share, word, angle in zip(
            members, _scaled(words), _scaled(angles), words, angles, strict=True
        )
    ]
    return sorted(fused, key=lambda scored: (-scored.score, scored.id))


def _scaled(values: list[float]) -> list[float]:
    """Min-max to [0, 1]. Values that do not differ say nothing about order: all 0."""
    low, high = min(values, default=0.0), max(values, default=0.0)
    return [(value - low) / (high - low) if high > low else 0.0 for value in values]
