"""A-23: answers divided by a normaliser, until the first write. Each test says what would turn it red."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from emm import kernel
from emm.errors import InputError
from emm.kernel import dispatch
from emm.layout import Flag, Rule
from emm.state import MatrixState, Normaliser
from spec.twin import dot
from spec.vectors.normaliser import carrying

RULES = list(Rule)


def queries(n: int = 7) -> np.ndarray:
    x = np.zeros((n, 16), np.float32)
    x[:, :10] = np.random.default_rng(3).standard_normal((n, 10))
    return x


def by_hand(state: MatrixState, x: Sequence[float]) -> list[float]:
    """The rule, one number at a time, with Python's floats."""
    own = state.normaliser
    assert own is not None
    s, square = float(own.vector[0]) * float(x[0]), float(x[0]) * float(x[0])
    for n, each in zip(own.vector[1:], x[1:], strict=True):
        s += float(n) * float(each)
        square += float(each) * float(each)
    floor = own.floor * math.sqrt(square) if own.query_length else own.floor
    weight = max(abs(s), floor) or 1.0
    return [float(np.float32(dot(list(map(float, row)), list(map(float, x))) / weight)) for row in state.matrix]


@pytest.mark.parametrize("level", dispatch.available_levels())
@pytest.mark.parametrize("query_length", [False, True])
@pytest.mark.parametrize("floor", [1e-3, 3.0, 1e6])
def test_a23_answers_are_the_rules_to_the_bit(level: str, query_length: bool, floor: float) -> None:
    """Red when the sum is taken in another order or width, the floor is not applied, or a query is not brought in."""
    state = carrying(Rule.PRECONDITIONED, query_length=query_length, floor=floor)
    x = queries()
    with dispatch.forced(level):
        found = kernel.recall(state, x)
        assert found.tolist() == [by_hand(state, row) for row in x]
        assert kernel.recall(state, x[2]).tolist() == [found[2].tolist()]  # the lean path for one query


def test_a23_no_query_gives_infinity_or_nan() -> None:
    """Red when zeros are divided by zeros, or a tiny floor under a large product is let through."""
    state = carrying(Rule.GATED_DELTA, query_length=True, floor=2.0**-1022)
    assert state.normaliser is not None
    state.normaliser = Normaliser(np.zeros(16, np.float32), 2.0**-1022, True)
    state.matrix[...] = 2.0**100
    x = queries(3)
    x[0] = 0
    x[1, :10] = 2.0**38
    answers = kernel.recall(state, x)
    assert np.isfinite(answers).all() and not answers[0].any()
    assert answers[1].max() == np.finfo(np.float32).max


@pytest.mark.parametrize("rule", RULES)
def test_a23_the_first_write_drops_it(rule: Rule) -> None:
    """Red when a written memory is still divided, keeps the flag, or an empty batch counts as a write."""
    state = carrying(rule)
    values = np.ones((1, 4), np.float32)
    kernel.write(state, np.empty((0, 16), np.float32), np.empty((0, 4), np.float32))
    assert state.normaliser is not None and Flag.NORMALISER in state.flags
    kernel.write(state, queries(1), values)
    assert state.normaliser is None and state.flags == Flag.FOREIGN_PAIRS | Flag.DECAYED
    plain = carrying(rule)
    plain.drop_normaliser()
    kernel.write(plain, queries(1), values)
    assert kernel.recall(state, queries()).tobytes() == kernel.recall(plain, queries()).tobytes()


@pytest.mark.parametrize("rule", RULES)
def test_a23_a_write_of_a_zero_key_and_an_unlearn_drop_it(rule: Rule) -> None:
    """Red when a no-op keeps it, so that a batch's split could be seen in the state."""
    state = carrying(rule)
    kernel.write(state, np.zeros((2, 16), np.float32), np.ones((2, 4), np.float32))
    assert state.normaliser is None
    if rule is Rule.PRECONDITIONED:
        state = carrying(rule)
        kernel.unlearn(state, queries(1) / 1e3, np.ones((1, 4), np.float32))
        assert state.normaliser is None and Flag.NORMALISER not in state.flags


def test_a23_forgetting_and_a_refused_write_keep_it() -> None:
    """Red when forget drops it (what is left is still the cell's), or a refusal changes the state."""
    state = carrying(Rule.PRECONDITIONED)
    kernel.forget(state, queries(2))
    assert state.normaliser is not None and Flag.NORMALISER in state.flags
    assert np.abs(kernel.recall(state, queries(2))).max() < 1e-5
    bad = queries(1)
    bad[0, 0] = np.nan
    with pytest.raises(InputError):
        kernel.write(state, bad, np.ones((1, 4), np.float32))
    assert state.normaliser is not None and Flag.NORMALISER in state.flags


def test_a19_a_memory_with_a_normaliser_does_not_merge() -> None:
    """Red when a merge drops the normaliser in silence."""
    state = carrying(Rule.PRECONDITIONED)
    state.flags = Flag.NORMALISER
    with pytest.raises(InputError) as caught:
        kernel.merge([state, state])
    assert (caught.value.rule, caught.value.found) == ("A-19", "NORMALISER")


def test_a23_the_sum_is_taken_in_the_order_of_the_elements() -> None:
    """Red when it is summed in pairs or lanes: 2⁶⁰ + 1 − 2⁶⁰ + 7 ones is 7 in the rule's order, and 4 in NumPy's."""
    state = carrying(Rule.GATED_DELTA, floor=1e-3)
    vector = np.zeros(16, np.float32)
    vector[:10] = [2.0**60, 1, -(2.0**60), 1, 1, 1, 1, 1, 1, 1]
    state.normaliser = Normaliser(vector, 1e-3, False)
    x = np.zeros((1, 16), np.float32)
    x[0, :10] = 1
    found = kernel.recall(state, x)
    assert found[0].tolist() == by_hand(state, x[0])
    assert found[0, 0] == np.float32(np.float64(dot([float(v) for v in state.matrix[0]], [float(v) for v in x[0]])) / 7)
