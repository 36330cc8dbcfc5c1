"""Fusion and smoothing against naive twins.

Red when: scores are scaled over something else than the pool, the weight is swapped, a recall without a hit keeps its
share, the only hit is worth 0, equal scores are ordered by arrival, or a neighbour is one of another document.
"""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from emm_engine.retrieval.fusion import (
    POOL,
    REACH_CHARS,
    Neighbours,
    Ranking,
    best_of,
    fuse,
    pool_of,
    smoothed,
)

N = 40
SCORES = st.lists(st.integers(0, 12), min_size=N, max_size=N).map(lambda values: np.array(values, np.float64) / 4)


def ranking(scores: np.ndarray) -> Ranking:
    return Ranking(scores, best_of(scores))


def alone(count: int = N) -> Neighbours:
    """Every passage is a document of its own."""
    return Neighbours(np.arange(count), np.ones(count, bool))


@given(SCORES, SCORES)
def test_fusion_equals_its_naive_twin(words: np.ndarray, angles: np.ndarray) -> None:
    lexical, vector = ranking(words), ranking(angles)
    places, members = pool_of([lexical.best, vector.best], alone())
    assert members.all() and places.tolist() == [at for at in range(N) if words[at] > 0 or angles[at] > 0]
    told = [scores for scores in (words, angles) if scores.any()]
    expected = []
    for at in places:
        parts = [scores[at] / max(scores[other] for other in places) for scores in told]
        expected.append(sum(parts) / len(parts))
    assert np.allclose(fuse(lexical, vector, places, members), expected)


def test_a_cut_ranking_is_scaled_from_the_least_of_the_pool() -> None:
    """Red when a ranking of which only the top is known is scaled from 0: its spread then says too little."""
    scores = np.arange(1, POOL + 51, dtype=np.float64)
    lexical = ranking(scores)
    assert lexical.cut and lexical.best.tolist() == list(range(POOL + 49, 49, -1))
    places, members = pool_of([lexical.best], alone(len(scores)))
    fused = fuse(lexical, None, places, members)
    assert (fused[0], fused[-1]) == (0.0, 1.0)


def test_both_rankings_count_half() -> None:
    words, angles = np.array([0, 10.0, 5.0, 0]), np.array([0, 0.1, 0.9, 0.5])
    places, members = pool_of([best_of(words), best_of(angles)], alone(4))
    assert places.tolist() == [1, 2, 3]
    assert np.allclose(fuse(ranking(words), ranking(angles), places, members), [0.5 + 1 / 18, 0.75, 5 / 18])
    assert np.allclose(fuse(ranking(words), ranking(angles), places, members, 0.25)[0], 0.8 + 0.2 / 9)


def test_the_only_hit_is_worth_all() -> None:
    """Red when a passage that nothing is compared with is shown with the score 0.00."""
    words, nothing = np.array([0, 7.0, 0]), np.zeros(3)
    places, members = pool_of([best_of(words), best_of(nothing)], alone(3))
    assert fuse(ranking(words), ranking(nothing), places, members).tolist() == [1.0]
    assert fuse(ranking(words), None, places, members).tolist() == [1.0]


def test_best_breaks_ties_by_place() -> None:
    scores = np.array([1.0, 3.0, 0.0, 3.0, 1.0, 1.0])
    assert best_of(scores, 3).tolist() == [1, 3, 0]
    assert best_of(scores, 99).tolist() == [1, 3, 0, 4, 5]
    assert best_of(np.zeros(4)).tolist() == []


@given(
    SCORES,
    st.lists(st.integers(0, 4), min_size=N, max_size=N),
    st.lists(st.integers(1, 900), min_size=N, max_size=N),
    st.lists(st.booleans(), min_size=N, max_size=N),
)
def test_smoothing_equals_its_naive_twin(
    scores: np.ndarray, runs: list[int], lengths: list[int], visible: list[bool]
) -> None:
    documents = np.cumsum(np.array(runs) == 0)
    neighbours = Neighbours(documents, np.array(visible))
    places, _ = pool_of([np.flatnonzero((scores > 0) & visible)], neighbours)
    assert all(visible[at] for at in places)
    before = np.where(np.isin(np.arange(N), places), scores, 0.0)
    expected = []
    for at in places:
        total, weight = before[at], 1.0
        for distance, share in ((1, 0.4), (2, 0.15)):
            for other in (at - distance, at + distance):
                if 0 <= other < N and documents[other] == documents[at] and visible[other]:
                    part = share * min(1.0, REACH_CHARS / lengths[other])
                    total += part * before[other]
                    weight += part
        expected.append(total / math.sqrt(weight))
    found = smoothed(scores[places], places, neighbours, np.array(lengths))
    assert np.allclose(found, np.array(expected) / max(1.0, max(expected, default=0.0)))


def test_passages_that_stand_alone_are_left_as_they_are() -> None:
    scores = np.array([0.9, 0.5, 0.1])
    assert smoothed(scores, np.arange(3), alone(3), np.full(3, 100)).tolist() == scores.tolist()


def test_what_stands_beside_a_hit_comes_into_the_pool() -> None:
    """Red when the answer that follows a question in a conversation, and shares no word with it, cannot be found."""
    neighbours = Neighbours(np.array([0, 0, 0, 0, 0, 1]), np.array([True, True, True, True, False, True]))
    places, members = pool_of([np.array([3])], neighbours)
    assert places.tolist() == [1, 2, 3] and members.tolist() == [False, False, True]
    found = smoothed(np.array([0.0, 0.0, 1.0]), places, neighbours, np.full(6, 80))
    assert found[2] > found[1] > found[0] > 0.0


def test_an_empty_pool_is_an_empty_ranking() -> None:
    places, members = pool_of([], alone(3))
    assert len(places) == 0 and len(fuse(None, None, places, members)) == 0
    nothing = ranking(np.zeros(3))
    places, members = pool_of([nothing.best], alone(3))
    assert len(smoothed(fuse(nothing, None, places, members), places, alone(3), np.ones(3))) == 0
