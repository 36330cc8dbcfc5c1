"""Fusion against a naive twin.

Red when: scores are scaled over something else than the pool, a missing score is skipped instead of counted as 0,
the weight is swapped, or equal scores are ordered by arrival.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from emm_engine.retrieval.fusion import fuse

SCORES = st.dictionaries(st.integers(0, 30), st.floats(-5, 5, allow_nan=False, width=16), max_size=20)


def naive(pool: list[int], words: dict[int, float], angles: dict[int, float]) -> list[tuple[int, float]]:
    members = set(pool)
    result = []
    for member in members:
        total = 0.0
        for scores in (words, angles):
            everyone = [scores.get(other, 0.0) for other in members]
            spread = max(everyone) - min(everyone)
            if spread > 0:
                total += 0.5 * (scores.get(member, 0.0) - min(everyone)) / spread
        result.append((member, total))
    return sorted(result, key=lambda item: (-item[1], item[0]))


@given(st.lists(st.integers(0, 30), max_size=25), SCORES, SCORES)
def test_fusion_equals_its_naive_twin(pool: list[int], words: dict[int, float], angles: dict[int, float]) -> None:
    fused = fuse(pool, words, angles)
    expected = naive(pool, words, angles)
    assert [round(scored.score, 9) for scored in fused] == [round(score, 9) for _, score in expected]
    assert {scored.id for scored in fused} == {member for member, _ in expected}
    assert fused == sorted(fused, key=lambda scored: (-scored.score, scored.id))


def test_both_rankings_count_half() -> None:
    fused = fuse([1, 2, 3], {1: 10.0, 2: 5.0}, {2: 0.9, 3: 0.5, 1: 0.1})
    assert [(scored.id, round(scored.score, 4)) for scored in fused] == [(2, 0.75), (1, 0.5), (3, 0.25)]
    assert (fused[0].lexical, fused[0].vector) == (5.0, 0.9)
    assert [scored.id for scored in fuse([1, 2], {1: 1.0}, {2: 1.0}, weight=0.9)] == [1, 2]


def test_an_empty_pool_is_an_empty_ranking() -> None:
    assert fuse([], {1: 1.0}, {}) == []
