"""What a write does and refuses: gates, no-ops, decay, flags, input bounds (rules A-9 to A-15).

Red when: a range check is dropped, a no-op touches more than its decay, decay stops leaking towards the prior, or
gram_trace is counted for pairs that were not written.
"""

from __future__ import annotations

import numpy as np
import pytest

from emm import kernel
from emm.errors import GateError, InputError
from emm.layout import Flag, Rule
from emm.state import MatrixState, Parameters, empty_state


def memory(rule: Rule = Rule.PRECONDITIONED, dim: int = 6, key_dim: int = 64, rank: int = 32) -> MatrixState:
    return empty_state(Parameters(dim, key_dim, rank, rule))


def pairs(state: MatrixState, n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    keys = random.standard_normal((n, state.parameters.key_dim))
    keys /= np.linalg.norm(keys, axis=1, keepdims=True)
    x = kernel.project(keys.astype(np.float32), state.parameters)
    return x, random.standard_normal((n, state.parameters.dim)).astype(np.float32)


@pytest.mark.parametrize("decay", [0.0, -0.5, 1.5, float("nan"), float("inf"), 1e-60])
def test_a10_decay_gates_outside_their_range(decay: float) -> None:
    state = memory()
    x, values = pairs(state, 3)
    with pytest.raises(InputError, match="row 1") as caught:
        kernel.write(state, x, values, np.array([1.0, decay, 1.0]))
    assert caught.value.rule == "A-10" and not state.matrix.any()


@pytest.mark.parametrize(
    ("rule", "top"), [(Rule.OUTER_PRODUCT, 32.0), (Rule.GATED_DELTA, 1.0), (Rule.PRECONDITIONED, 32.0)]
)
def test_a10_write_gates_have_a_range_per_rule(rule: Rule, top: float) -> None:
    for good in (2.0**-10, top):
        state = memory(rule)
        x, values = pairs(state, 1)
        kernel.write(state, x, values, 1.0, good)
        assert state.matrix.any()
    for bad in (2.0**-11, np.nextafter(np.float32(top), np.float32(99)), 0.0, -1.0, float("nan")):
        state = memory(rule)
        with pytest.raises(InputError) as caught:
            kernel.write(state, x, values, 1.0, bad)
        assert caught.value.rule == "A-10" and not state.matrix.any()


def test_a10_gates_are_numbers_or_one_per_pair() -> None:
    state = memory()
    x, values = pairs(state, 3)
    for bad in (np.ones(2), np.ones((3, 1)), "1", True):
        with pytest.raises(InputError):
            kernel.write(state, x, values, 1.0, bad)


@pytest.mark.parametrize("rule", list(Rule))
def test_a11_a_zero_key_only_decays(rule: Rule) -> None:
    state = memory(rule)
    x, values = pairs(state, 20)
    kernel.write(state, x, values)
    before = state.copy()
    surprise = kernel.write(state, np.zeros_like(x[:1]), values[:1], 0.5)
    assert np.array_equal(state.matrix, before.matrix * np.float32(0.5)) and surprise.tolist() == [0.0]
    if state.gain is not None and before.gain is not None:
        assert (state.gain.count, state.gain.signs) == (before.gain.count, before.gain.signs)
        assert np.array_equal(state.gain.u, before.gain.u * np.float32(0.5))
        assert np.array_equal(state.gain.pbar, before.gain.pbar)
        assert (state.gain.scale, state.gain.leak) == (0.25, 48.0)
        assert state.gain.gram_trace == before.gain.gram_trace * 0.25


@pytest.mark.parametrize("rule", list(Rule))
def test_a11_a_zero_key_without_decay_changes_no_bit(rule: Rule) -> None:
    state = memory(rule)
    x, values = pairs(state, 5)
    kernel.write(state, x, values)
    state.matrix[0, 0] = -0.0  # adding +0 would turn it into +0
    before = state.copy()
    kernel.write(state, np.zeros_like(x[:2]), values[:2])
    assert state.matrix.tobytes() == before.matrix.tobytes() and state.flags == before.flags
    if state.gain is not None and before.gain is not None:
        assert state.gain.u.tobytes() == before.gain.u.tobytes() and state.gain.count == before.gain.count


def test_a11_decay_is_flagged_once_and_for_all() -> None:
    state = memory()
    x, values = pairs(state, 4)
    kernel.write(state, x, values)
    assert state.flags == Flag(0)
    kernel.write(state, x, values, [1.0, 1.0, 0.999, 1.0])
    kernel.write(state, x, values)
    assert state.flags == Flag.DECAYED


def test_a13_decay_leaks_towards_the_prior_and_never_beyond() -> None:
    state = memory()
    x, values = pairs(state, 60)
    kernel.write(state, x, values)
    learned = np.linalg.eigvalsh(kernel.inverse_gram(state).astype(np.float64))
    for alpha in (0.9, 0.5, 1e-30, 0.9999):
        kernel.write(state, np.zeros((40, 32), np.float32), np.zeros((40, 6), np.float32), alpha)
        values_of_p = np.linalg.eigvalsh(kernel.inverse_gram(state).astype(np.float64))
        assert values_of_p[0] > learned[0] - 1e-4 and values_of_p[-1] <= 64 * (1 + 2.0**-10)
    assert np.allclose(kernel.inverse_gram(state), 64 * np.eye(32), rtol=1e-5)
    assert state.gain is not None and 0 <= state.gain.leak <= 64 * (1 + 2.0**-20)


def test_a13_newer_pairs_win_under_decay() -> None:
    state = memory(dim=64)
    x, values = pairs(state, 96)
    kernel.write(state, x, values, 0.99)
    assert not np.isnan(state.matrix).any()
    error = np.linalg.norm(kernel.recall(state, x) - values, axis=1)
    assert error[-8:].mean() < error[:8].mean() * 0.8


def test_a13_gram_trace_counts_what_was_written() -> None:
    state = memory()
    x, values = pairs(state, 10)
    gates = np.linspace(0.05, 0.3, 10)
    kernel.write(state, x, values, 1.0, gates)
    kernel.write(state, np.zeros_like(x), values)
    assert state.gain is not None
    assert state.gain.gram_trace == pytest.approx(float((gates * (x.astype(float) ** 2).sum(1)).sum()), rel=1e-6)
    kernel.unlearn(state, x[::-1], values[::-1], gates[::-1])
    assert state.gain.gram_trace == pytest.approx(0.0, abs=1e-9) and state.gain.gram_trace >= 0


@pytest.mark.parametrize("rule", [Rule.GATED_DELTA, Rule.PRECONDITIONED])
def test_a15_surprise_is_what_the_memory_got_wrong(rule: Rule) -> None:
    state = memory(rule)
    x, values = pairs(state, 4)
    first = kernel.write(state, x[:1], values[:1])
    assert first[0] == pytest.approx(np.linalg.norm(values[0]), rel=1e-6)
    wrong = values[1] - kernel.recall(state, x[1:2])[0]
    assert kernel.write(state, x[1:2], values[1:2])[0] == pytest.approx(np.linalg.norm(wrong), rel=1e-6)


def test_a9_bad_values_and_shapes_are_refused_by_row() -> None:
    state = memory()
    x, values = pairs(state, 3)
    for bad in (np.nan, np.inf, 2.0**40 * 1.001):
        spoiled = values.copy()
        spoiled[1, 2] = bad
        with pytest.raises(InputError, match="row 1"):
            kernel.write(state, x, spoiled)
        spoiled = x.copy()
        spoiled[2, 3] = bad
        for operation in (lambda k=spoiled: kernel.forget(state, k), lambda k=spoiled: kernel.recall(state, k)):
            with pytest.raises(InputError, match="row 2"):
                operation()
    with pytest.raises(InputError, match="number of rows"):
        kernel.write(state, x, values[:2])
    with pytest.raises(InputError, match="float32"):
        kernel.write(state, x, values.astype(np.float64))
    with pytest.raises(InputError, match="shape"):
        kernel.write(state, x[:, :16], values)
    assert not state.matrix.any() and state.flags == Flag(0)


def test_a9_the_norm_of_x_is_bounded_too() -> None:
    state = memory()
    x = np.full((1, 32), 2.0**38, np.float32)  # each number is allowed, the norm is 2^40.5
    for operation in (
        lambda: kernel.write(state, x, np.zeros((1, 6), np.float32)),
        lambda: kernel.recall(state, x),
        lambda: kernel.forget(state, x),
    ):
        with pytest.raises(InputError, match="row 0") as caught:
            operation()
        assert caught.value.rule == "A-9"


def test_a12_a_key_too_short_for_the_gated_delta_is_refused() -> None:
    state = memory(Rule.GATED_DELTA)
    x = np.full((1, 32), 2.0**-73, np.float32)  # dot(x, x) is subnormal, 1/dot overflows
    with pytest.raises(GateError, match="row 0"):
        kernel.write(state, x, np.ones((1, 6), np.float32))
    assert not state.matrix.any()


def test_a13_an_empty_batch_changes_nothing() -> None:
    for rule in Rule:
        state = memory(rule)
        nothing = np.zeros((0, 32), np.float32)
        assert kernel.write(state, nothing, np.zeros((0, 6), np.float32)).shape == (0,)
        assert kernel.recall(state, nothing).shape == (0, 6)
        kernel.forget(state, nothing)
        assert not state.matrix.any()


def test_a20_reading_p_does_not_fold_it() -> None:
    state = memory()
    x, values = pairs(state, 20)
    kernel.write(state, x, values)
    assert state.gain is not None
    before = state.gain.copy()
    kernel.inverse_gram(state)
    assert state.gain.count == 4 and state.gain.pbar.tobytes() == before.pbar.tobytes()
    with pytest.raises(InputError):
        kernel.inverse_gram(memory(Rule.GATED_DELTA))


def test_a21_saturation_climbs_from_zero_to_one() -> None:
    state = memory()
    x, values = pairs(state, 400)
    assert kernel.saturation(state) == 0.0
    seen = []
    for start in range(0, 400, 50):
        kernel.write(state, x[start : start + 50], values[start : start + 50])
        seen.append(kernel.saturation(state))
        exact = 1 - np.trace(kernel.inverse_gram(state).astype(float)) / 64 / 32
        assert seen[-1] == pytest.approx(exact, abs=1e-5)
    assert seen == sorted(seen) and 0.98 < seen[-1] <= 1
    kernel.write(state, x[:5], values[:5], 0.8)  # a, b and U all play a part now
    exact = 1 - np.trace(kernel.inverse_gram(state).astype(float)) / 64 / 32
    assert kernel.saturation(state) == pytest.approx(exact, abs=1e-5) and exact < seen[-1] - 0.1
    for rule in (Rule.OUTER_PRODUCT, Rule.GATED_DELTA):
        plain = memory(rule)
        assert kernel.saturation(plain) == 0.0
        kernel.write(plain, x, values)
        assert 0 < kernel.saturation(plain) <= 1
