"""The figures of `emm bench engine`, against values worked out by hand.

Red when: a discount, a denominator or a place is off by one; an interval moves between runs; a difference that chance
explains is called distinguishable.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from emm_tools.bench_rankings import reciprocal_rank_fusion
from emm_tools.bench_scores import Interval, intervals, metric, ndcg, recall, summary


def test_ndcg_is_gain_over_the_most_there_could_be() -> None:
    most = 1.0 + 1.0 / math.log2(3) + 0.5  # three wanted, at places 1, 2 and 3
    assert ndcg(["a", "b", "c"], {"a", "b", "c"}, 10) == pytest.approx(1.0)
    assert ndcg(["x", "a", "y", "b"], {"a", "b", "c"}, 10) == pytest.approx((0.6309298 + 0.4306766) / 2.1309298)
    assert most == pytest.approx(2.1309298)
    assert ndcg(["x", "a", "y", "b"], {"a", "b", "c"}, 2) == pytest.approx(0.6309298 / 1.6309298)
    assert ndcg(["x", "y"], {"a"}, 10) == ndcg([], {"a"}, 10) == ndcg(["a"], set(), 10) == 0.0


def test_recall_is_the_share_of_the_wanted_that_was_found() -> None:
    assert recall(["a", "x", "b", "c"], {"a", "b", "c", "d"}, 3) == 0.5
    assert recall(["a"], {"a"}, 1) == 1.0
    assert recall([], {"a"}, 5) == recall(["a"], set(), 5) == 0.0
    assert metric("recall@2", ["x", "a", "b"], {"a", "b"}) == 0.5
    assert metric("nDCG@1", ["a"], {"a", "b"}) == 1.0


def test_reciprocal_rank_fusion_adds_one_over_sixty_and_the_place() -> None:
    # 7: 1/61 + 1/63 = 0.0322664; 5: 1/62 + 1/62 = 0.0322581; 9: 1/63; 3: 1/61
    assert reciprocal_rank_fusion([[7, 5, 9], [3, 5, 7]]) == [7, 5, 3, 9]
    assert reciprocal_rank_fusion([[2], [1]]) == [1, 2], "ties go to the lower id"
    assert reciprocal_rank_fusion([[], []]) == []


def test_an_interval_of_two_values_is_known_exactly() -> None:
    """Of two questions 0 and 1 a resample's mean is 0, ½ or 1 with ¼, ½, ¼: the middle 95 % reach from 0 to 1."""
    varied, constant = intervals(np.array([[0.0, 0.3], [1.0, 0.3]]))
    assert varied == Interval(0.5, 0.0, 1.0)
    assert (constant.mean, constant.low, constant.high) == pytest.approx((0.3, 0.3, 0.3))


def test_an_interval_of_many_values_is_as_wide_as_the_normal_one() -> None:
    values = np.repeat([0.0, 1.0], 200)[:, None]
    (found,) = intervals(values)
    assert found.low == pytest.approx(0.5 - 1.96 * 0.5 / 20, abs=0.004)
    assert found.high == pytest.approx(0.5 + 1.96 * 0.5 / 20, abs=0.004)
    assert intervals(values) == [found], "the same draws every time"


def test_ways_are_compared_question_by_question() -> None:
    """Two ways that differ little beside the questions' own spread, but always in the same direction."""
    base = [0.1, 0.9, 0.2, 0.8, 0.5, 0.3, 0.7, 0.6]
    values = {"ours": [each + 0.02 for each in base], "other": base, "noise": base[::-1]}
    found = summary(values, ["ours"])
    assert found["other"]["ours"] == [0.02, 0.02, 0.02] and Interval(*found["other"]["ours"]).distinguishable
    assert not Interval(*found["noise"]["ours"]).distinguishable
    assert "ours" not in found["ours"] and found["ours"]["score"][0] == pytest.approx(0.5325, abs=1e-4)
    assert not Interval(0.1, 0.0, 0.2).distinguishable and Interval(-0.1, -0.2, -0.01).distinguishable
