"""The targets of rule 2 at small size, and that the measures behind them can tell a good memory from a bad one.

Red when: the one-pass write drifts from the float64 ridge solution, unlearning or merging lose digits, a superseded key
answers with a stale value, P stops being positive definite under decay or repetition; or when a target is judged by
another row than its worst, or a miss is not called one.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from emm import kernel
from emm.errors import InputError
from emm.state import Parameters, empty_state
from emm.testing import exactness
from emm.testing.capacity import MLSTM_NAME, RIDGE_LIMIT, capacity_table, least_squares
from emm.testing.contradictions import SUPERSEDE, WAYS, rewrite_row
from emm.testing.exactness import SCENARIOS, endurance_row, merging_row, unlearning_row
from emm.testing.keys import (
    CLUSTER_COSINE,
    CLUSTER_KEYS,
    KEY_FAMILIES,
    MEAN_COSINE,
    PARAPHRASE_COSINE,
    Trial,
    clustered_keys,
    given_keys,
    isotropic_keys,
    paraphrases,
    text_like_keys,
    unit_values,
)
from emm.testing.mlstm import Mlstm
from emm.testing.targets import CapacityReport, Target, judge, measure_capacity

RANK, DIM = 64, 768


@pytest.fixture(scope="module")
def report() -> CapacityReport:
    return measure_capacity(RANK, (0.25, 1, 8), 0, dim=DIM, n_writes=5_000, ridges=(2.0**-6, 2.0**-10))


def named(report: CapacityReport, words: str) -> list[Target]:
    found = [target for target in report.targets if words in target.name]
    assert found, [target.name for target in report.targets]
    return found


# --- the targets ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        "beside float64 ridge",
        "superseded: the latest value",
        "superseded: a stale value",
        "unlearning 20 %",
        "merging 2 parts",
        "merging 4 parts",
        "merging 16 parts",
        "positive definite",
    ],
)
def test_target_is_met(report: CapacityReport, words: str) -> None:
    for target in named(report, words):
        assert target.met, target


def test_functional_utilisation_misses_its_target_at_load_one_and_nowhere_else(report: CapacityReport) -> None:
    """λ = 2⁻⁶ costs correlated keys 13 % of the λ → 0 limit at one pair per column; a smaller λ gives it back."""
    targets = {target.where.partition(" keys")[0]: target for target in named(report, "functional utilisation")}
    assert targets["isotropic"].met
    for name in ("text-like", "clustered"):
        assert not targets[name].met and 0.85 <= targets[name].found < 0.9 and "load 1" in targets[name].where
    mine = [row for row in report.rows if row.rule == "preconditioned" and row.load != 1]
    assert min(row.of_limit for row in mine) >= 0.9
    by_ridge = {ridge: row.of_limit for ridge, row in report.ridges}
    assert by_ridge[2.0**-10] > 0.95 > by_ridge[2.0**-6]


def test_top1_at_eight_pairs_per_rank_is_met_on_text_and_is_the_limits_on_clusters(report: CapacityReport) -> None:
    """Values of cosine 0.3 under keys of cosine 0.7: the least-squares solution in binary64 misses as well."""
    targets = {target.where.partition(" keys")[0]: target for target in named(report, "top-1 at 8 pairs per rank")}
    assert set(targets) == {"text-like", "clustered"} and targets["text-like"].met
    assert 0.9 < targets["clustered"].found < 0.95 and not targets["clustered"].met
    rows = {(row.keys, row.rule, row.value_cosine, row.load): row.top1 for row in report.rows}
    for (name, rule, cosine, load), found in rows.items():
        if rule == "preconditioned":
            assert abs(found - rows[name, RIDGE_LIMIT, cosine, load]) <= 0.004


def test_no_memory_beats_least_squares(report: CapacityReport) -> None:
    """Red when the limit is computed of other keys than the memory saw."""
    assert all(row.of_limit <= 1.005 for row in report.rows if row.rule in ("preconditioned", RIDGE_LIMIT))


def test_a_miss_is_reported() -> None:
    """Each target turns when its figure is made bad."""
    row = capacity_table(16, (8,), ["preconditioned"], dim=32)[0]
    good = replace(row, distance=1e-6, of_limit=0.99, top1=1.0)
    assert all(target.met for target in judge([good], [], [], []))
    for bad in ({"distance": 2e-3}, {"of_limit": 0.89}, {"top1": 0.94}):
        missed = [target.met for target in judge([good, replace(good, keys="other", **bad)], [], [], [])]
        assert missed.count(False) == 1, bad
    rewritten = rewrite_row(SUPERSEDE, Trial(16, 1, dim=32))
    assert [t.met for t in judge([], [replace(rewritten, latest=0.9, stale=0.1)], [], [])] == [False, False]
    taken = unlearning_row(Trial(16, 2, dim=32))
    assert [t.met for t in judge([], [], [taken, replace(taken, distance=2e-4)], [])] == [False]
    endured = endurance_row("new keys, no decay", 200, 16)
    for broken in ({"smallest": 0.0}, {"findings": 1}, {"refused": 1}):
        assert [t.met for t in judge([], [], [], [replace(endured, **broken)])] == [False]


# --- what the measures see -----------------------------------------------------------------------


def test_exactness_is_measured_against_the_straight_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unlearning with another gate than the pair was written with, and merging two parts of three, are far off."""
    real = kernel.unlearn
    monkeypatch.setattr(kernel, "unlearn", lambda state, x, values: real(state, x, values, 0.5))
    assert unlearning_row(Trial(RANK, 2, dim=32)).distance > 1e-2
    monkeypatch.undo()
    merge = kernel.merge
    monkeypatch.setattr(kernel, "merge", lambda states: merge(states[1:]))
    assert merging_row(4, Trial(RANK, 2, dim=32)).distance > 1e-2


def test_endurance_sees_a_gain_that_is_not_definite(monkeypatch: pytest.MonkeyPatch) -> None:
    state = empty_state(Parameters(16, 32, 16))
    assert state.gain is not None
    state.gain.pbar[0, 1] = state.gain.pbar[1, 0] = 2 * state.gain.pbar[0, 0]
    monkeypatch.setattr(exactness, "empty_state", lambda parameters: state)
    monkeypatch.setattr(kernel, "write", lambda *arguments: None)
    row = endurance_row("new keys, no decay", 100, 16)
    assert row.findings > 0 and row.smallest < 0


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_p_stays_definite_at_another_rank(scenario: str) -> None:
    row = endurance_row(scenario, 4000, 32, seed=3)
    assert (row.findings, row.refused, row.n_writes) == (0, 0, 4000) and row.looks >= 19
    assert 0 < row.smallest <= row.largest <= 1 + 2**-10


def test_plain_rewriting_serves_stale_values_and_superseding_does_not() -> None:
    """So the comparison is not won by construction; rule 1 and v3's cell are among the ways."""
    rows = {way: rewrite_row(way, Trial(RANK, 1, dim=DIM)) for way in WAYS}
    assert rows["preconditioned"].stale > 0.5 and rows[MLSTM_NAME].stale > 0.3
    assert rows[SUPERSEDE].latest == 1.0 and rows["gated-delta"].stale == 0.0
    for row in rows.values():
        assert row.latest + row.stale + row.other == pytest.approx(1.0)


# --- keys ----------------------------------------------------------------------------------------


def cosines_of(keys: np.ndarray) -> np.ndarray:
    return (keys @ keys.T)[np.triu_indices(len(keys), 1)]


@pytest.mark.parametrize("name", KEY_FAMILIES)
def test_families_give_unit_keys_and_the_same_ones_again(name: str) -> None:
    keys = KEY_FAMILIES[name](200, 96, 4)
    assert keys.shape == (200, 96) and keys.dtype == np.float32
    assert np.allclose(np.linalg.norm(keys, axis=1), 1, atol=1e-5)
    assert np.array_equal(keys, KEY_FAMILIES[name](200, 96, 4)) and not np.array_equal(
        keys, KEY_FAMILIES[name](200, 96, 5)
    )


def test_families_lie_as_they_say() -> None:
    assert abs(cosines_of(isotropic_keys(300, 512, 0)).mean()) < 0.01
    assert cosines_of(text_like_keys(600, 128, 0)).mean() == pytest.approx(MEAN_COSINE, abs=0.03)
    clustered = cosines_of(clustered_keys(20 * CLUSTER_KEYS, 512, 0))
    together = clustered > 0.4
    assert together.sum() == 20 * CLUSTER_KEYS * (CLUSTER_KEYS - 1) // 2
    assert clustered[together].mean() == pytest.approx(CLUSTER_COSINE, abs=0.02)
    assert abs(clustered[~together].mean()) < 0.02


@pytest.mark.parametrize("name", KEY_FAMILIES)
@pytest.mark.parametrize("n", [1, 2, 3, 200])
def test_paraphrases_are_at_their_cosine(name: str, n: int) -> None:
    keys = KEY_FAMILIES[name](n, 96, 0)
    found = np.einsum("ij,ij->i", keys, paraphrases(keys, 0))
    assert np.allclose(found, PARAPHRASE_COSINE, atol=1e-4)


def test_given_keys_are_drawn_once_each_and_made_unit() -> None:
    rows = np.vstack([3 * isotropic_keys(50, 24, 0), np.zeros((1, 24), np.float32)])
    draw = given_keys(rows)
    found = draw(50, 24, 1)
    assert sorted(map(tuple, found.round(4))) == sorted(map(tuple, (rows[:50] / 3).round(4)))
    for n, width in ((51, 24), (10, 25)):
        with pytest.raises(InputError, match="not that many"):
            draw(n, width, 0)
    for bad in (np.ones(4), np.ones((2, 2), int), np.full((2, 2), np.nan)):
        with pytest.raises(InputError, match="rows of finite numbers"):
            given_keys(bad)


# --- v3's cell -----------------------------------------------------------------------------------


def test_cell_is_the_published_recurrence() -> None:
    """C and n by the equations, term by term, also where the plain exponential of the input gate would overflow."""
    random = np.random.default_rng(2)
    x, values = random.standard_normal((7, 16)).astype(np.float32), random.standard_normal((7, 5)).astype(np.float32)
    log_input = random.standard_normal(7)
    cell = Mlstm(5, 16)
    cell.write(x, values, 0.9, log_input)
    weights = 0.9 ** np.arange(6, -1, -1) * np.exp(log_input)
    matrix, normaliser = (weights * values.T) @ x, weights @ x
    expected = (x @ matrix.T) / np.maximum(np.abs(x @ normaliser), 1)[:, None]
    assert np.allclose(cell.recall(x), expected, rtol=1e-4, atol=1e-6)
    huge = Mlstm(5, 16)
    huge.write(x, values, 0.9, log_input + 2000)
    assert np.isfinite(huge.recall(x)).all()


def test_cell_equals_the_outer_product_up_to_its_normaliser() -> None:
    rows = {row.rule: row for row in capacity_table(RANK, (2,), ["outer-product", MLSTM_NAME], dim=DIM)}
    cell, plain = rows[MLSTM_NAME], rows["outer-product"]
    assert cell.top1 == pytest.approx(plain.top1, abs=0.02) and cell.error < plain.error


def test_least_squares_interpolates_while_it_can() -> None:
    x, values = isotropic_keys(30, 64, 0), unit_values(30, 40, 0)
    assert np.allclose(least_squares(x, values), values, atol=1e-6)
