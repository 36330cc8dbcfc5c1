"""Every level of the compiled kernel against the NumPy reference, to the bit (rules A-2 to A-20).

Red when: a level fuses, reassociates or masks differently from the reference, a batch is split inside the kernel in a
way that shows, a refused batch leaves a trace, or the frozen digests drift (then the format has changed).
"""

from __future__ import annotations

import hashlib
import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emm import kernel
from emm.errors import EmmError, GateError, InputError
from emm.kernel import dispatch
from emm.kernel.generator import Generator
from emm.layout import Projection, Rule
from emm.state import MatrixState, Parameters, empty_state

ROOT = Path(__file__).parent.parent.parent
NATIVE = [level for level in dispatch.available_levels() if level != "reference"]
without_compiler = pytest.param(
    "none", marks=pytest.mark.skip(reason="needs a C compiler: the extension is not built, nothing to compare")
)
native_levels = pytest.mark.parametrize("level", NATIVE or [without_compiler])


def digest(state: MatrixState) -> str:
    """Every bit of a state."""
    found = hashlib.sha256(state.matrix.tobytes())
    if state.gain is not None:
        gain = state.gain
        found.update(gain.pbar.tobytes() + gain.u.tobytes())
        numbers = (gain.signs, gain.count, gain.scale.hex(), gain.leak.hex(), gain.gram_trace.hex())
        found.update(repr(numbers).encode())
    return found.hexdigest()


def numbers(seed: int, n: int, columns: int) -> np.ndarray:
    """Uniform numbers in [−1, 1) that follow from SplitMix64 alone."""
    words = Generator(seed).words(n * columns) >> np.uint64(40)
    return ((words.astype(np.float64) - 2**23) / 2**23).astype(np.float32).reshape(n, columns)


def programme(seed: int, n: int, key_dim: int, dim: int, rule: Rule) -> tuple[np.ndarray, ...]:
    """Keys, values, decay and write gates with everything that is awkward in them.

    Keys stay below norm 4 or so: repeated at norm 2⁸, binary32 can no longer tell P from 0 along them, and rule 2
    refuses them, which `test_a13_long_keys_are_refused_rather_than_believed` shows.
    """
    keys = np.ldexp(numbers(seed, n, key_dim), (numbers(seed + 1, n, 1) * 7 - 7).astype(np.int32))
    values = numbers(seed + 2, n, dim)
    keys[1 % n] = 0
    keys[5 % n] *= np.float32(2.0**-50)
    keys[7 % n] = keys[3 % n]
    values[2 % n] *= np.float32(2.0**-135)
    values[4 % n] *= np.float32(2.0**39)
    values[6 % n] = 0
    lucky = numbers(seed + 3, n, 1)[:, 0]
    decay = np.where(lucky > 0.6, np.abs(lucky), 1).astype(np.float32)
    decay[8 % n] = np.float32(2.0**-70)
    gate = np.ldexp(1 + np.abs(lucky) / 2, (numbers(seed + 4, n, 1)[:, 0] * 5).astype(np.int32)).astype(np.float32)
    return keys, values, decay, np.minimum(gate, 1) if rule is Rule.GATED_DELTA else gate


def story(level: str, parameters: Parameters, n: int, seed: int) -> list[str]:
    """What happens to a memory, as digests of everything that came out; refusals are part of the story."""
    told: list[str] = []
    with dispatch.forced(level):
        keys, values, decay, gate = programme(seed, n, parameters.key_dim, parameters.dim, parameters.rule)
        x = kernel.project(keys, parameters)
        told.append(hashlib.sha256(x.tobytes()).hexdigest())
        state = empty_state(parameters)
        told.append(hashlib.sha256(kernel.write(state, x, values, decay, gate).tobytes()).hexdigest())
        told.append(digest(state))
        if parameters.rule is Rule.PRECONDITIONED:
            for i in range(0, n, 3):
                try:
                    kernel.unlearn(state, x[i], values[i], gate[i])
                except GateError as error:
                    told.append(f"{error.rule} {error.found}")
                told.append(digest(state))
            told.append(hashlib.sha256(kernel.inverse_gram(state).tobytes()).hexdigest())
        kernel.forget(state, x[: max(1, n // 4)])
        told.append(digest(state))
        told.append(hashlib.sha256(kernel.recall(state, x).tobytes()).hexdigest())
        if parameters.rank * 2 <= parameters.key_dim:
            state = kernel.expand(state, parameters.rank * 2)
            kernel.write(state, kernel.project(keys, state.parameters), values, 1.0, gate)
            told.append(digest(state))
    return told


@native_levels
@pytest.mark.parametrize("rule", list(Rule))
@pytest.mark.parametrize(
    ("dim", "key_dim", "rank"), [(1, 16, 16), (7, 40, 32), (37, 100, 48), (8, 96, 96), (70, 300, 144)]
)
def test_a11_every_level_equals_the_reference(level: str, rule: Rule, dim: int, key_dim: int, rank: int) -> None:
    parameters = Parameters(dim, key_dim, rank, rule, Projection.HADAMARD, 11)
    assert story(level, parameters, 40, 100 * dim) == story("reference", parameters, 40, 100 * dim)


@native_levels
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a5_any_split_of_a_batch_gives_the_same_bits(level: str, data: st.DataObject) -> None:
    rule = data.draw(st.sampled_from(list(Rule)))
    parameters = Parameters(data.draw(st.integers(1, 19)), 32, 16, rule)
    n = data.draw(st.integers(9, 40))
    keys, values, decay, gate = programme(data.draw(st.integers(0, 2**32)), n, 32, parameters.dim, rule)
    cuts = sorted(data.draw(st.lists(st.integers(0, n), max_size=5)))
    x = kernel.project(keys, parameters)
    found = {}
    for name, edges in {"whole": [0, n], "split": [0, *cuts, n], "single": list(range(n + 1))}.items():
        with dispatch.forced(level):
            state, surprise = empty_state(parameters), []
            for start, stop in itertools.pairwise(edges):
                part = slice(start, stop)
                surprise.append(kernel.write(state, x[part], values[part], decay[part], gate[part]))
        found[name] = (digest(state), np.concatenate(surprise).tobytes())
    with dispatch.forced("reference"):
        state = empty_state(parameters)
        found["reference"] = (digest(state), kernel.write(state, x, values, decay, gate).tobytes())
        found["reference"] = (digest(state), found["reference"][1])
    assert len(set(found.values())) == 1


@pytest.mark.parametrize("level", dispatch.available_levels())
def test_a13_pbar_is_symmetric_to_the_bit_through_everything(level: str) -> None:
    parameters = Parameters(4, 64, 48)
    keys, values, decay, gate = programme(77, 100, 64, 4, Rule.PRECONDITIONED)
    with dispatch.forced(level):
        x, state = kernel.project(keys, parameters), empty_state(parameters)
        for start in range(0, 100, 7):
            part = slice(start, start + 7)
            kernel.write(state, x[part], values[part], decay[part], gate[part])
            assert state.gain is not None
            for matrix in (state.gain.pbar, kernel.inverse_gram(state)):
                bits = matrix.view(np.uint32)
                assert np.array_equal(bits, bits.T)
            assert not state.gain.u[state.gain.count :].view(np.uint32).any()
            assert state.gain.signs >> state.gain.count == 0
            assert 0 <= state.gain.scale <= 1 and 0 <= state.gain.leak <= 64


@pytest.mark.parametrize("level", dispatch.available_levels())
def test_a5_a_refused_batch_leaves_no_trace(level: str) -> None:
    """The last pair of a batch is refused after the earlier ones have passed a fold: state and flags stay."""
    parameters = Parameters(5, 64, 32)
    keys, values = numbers(5, 40, 64) / np.float32(16), numbers(6, 40, 5)
    decay, gate = np.full(40, 0.75, np.float32), np.ones(40, np.float32)
    with dispatch.forced(level):
        x, state = kernel.project(keys, parameters), empty_state(parameters)
        kernel.write(state, x[:30], values[:30])
        before, flags = digest(state), state.flags
        long = x.copy()
        long[39] = np.float32(2.0**39)
        with pytest.raises(InputError, match="row 39") as caught:
            kernel.write(state, long, values, decay, gate)
        assert caught.value.rule == "A-9" and (digest(state), state.flags) == (before, flags)
        with pytest.raises(GateError, match="row 8"):  # never written: d = 1 − β·s is far below
            kernel.unlearn(state, np.vstack([x[:8], x[39:]]), values[:9], np.append(gate[:8], np.float32(32)))
        assert digest(state) == before
        state.gain.pbar[...] = -state.gain.pbar  # type: ignore[union-attr]
        spoiled = digest(state)
        with pytest.raises(GateError, match="row 0") as caught:
            kernel.write(state, x[30:], values[30:])
        assert caught.value.rule == "A-13" and digest(state) == spoiled


@pytest.mark.parametrize("level", dispatch.available_levels())
@pytest.mark.parametrize("rule", [Rule.GATED_DELTA, Rule.PRECONDITIONED])
def test_a9_a_write_that_would_store_infinity_is_refused(level: str, rule: Rule) -> None:
    """Only a state from elsewhere comes this close to the largest number; the row that fails is not the first."""
    parameters = Parameters(9, 16, 16, rule)
    with dispatch.forced(level):
        state = empty_state(parameters)
        kernel.write(state, np.full((1, 16), 0.5, np.float32), np.ones((1, 9), np.float32))
        state.matrix[8] = 3e38
        before = digest(state)
        with pytest.raises(GateError, match="not finite") as caught:
            kernel.write(state, np.full((2, 16), 2.0**37, np.float32), np.full((2, 9), 2.0**40, np.float32))
        assert caught.value.rule == "A-9" and digest(state) == before


@pytest.mark.parametrize("level", dispatch.available_levels())
def test_a13_a_key_along_which_s_underflows_is_a_no_op(level: str) -> None:
    """Red when s = 0 is refused or written: x is not zero, but xᵀPx is below the smallest number."""
    state = empty_state(Parameters(2, 64, 32, ridge=2.0**20))
    with dispatch.forced(level):
        kernel.write(state, np.full((1, 32), 0.5, np.float32), np.ones((1, 2), np.float32))
        before = digest(state)
        tiny = np.full((1, 32), 2.0**-70, np.float32)
        assert kernel.write(state, tiny, np.ones((1, 2), np.float32)).tolist() == [0.0]
        kernel.unlearn(state, tiny, np.ones((1, 2), np.float32))
        assert digest(state) == before


@pytest.mark.parametrize("level", dispatch.available_levels())
def test_a13_long_keys_are_refused_rather_than_believed(level: str) -> None:
    """Along a repeated key of norm 2¹² P is smaller than the rounding of its prior: s is noise, and may be negative."""
    parameters = Parameters(2, 64, 32)
    keys = numbers(8, 12, 64)
    keys *= np.float32(2.0**12) / np.linalg.norm(keys, axis=1, keepdims=True).astype(np.float32)
    with dispatch.forced(level):
        x, state = kernel.project(keys, parameters), empty_state(parameters)
        with pytest.raises(GateError) as caught:
            for _ in range(40):
                before = digest(state)
                kernel.write(state, x, numbers(9, 12, 2))
        assert caught.value.rule == "A-13" and digest(state) == before


@native_levels
def test_a13_subnormal_keys_and_values_agree(level: str) -> None:
    parameters = Parameters(6, 32, 16)
    keys, values, _, gate = programme(3, 40, 32, 6, Rule.PRECONDITIONED)
    keys *= np.float32(2.0**-66)  # dot(x, x) is subnormal or zero
    values *= np.float32(2.0**-130)
    found = []
    for name in (level, "reference"):
        with dispatch.forced(name):
            state = empty_state(parameters)
            kernel.write(state, kernel.project(keys, parameters), values, 1.0, gate)
            found.append(digest(state))
    assert found[0] == found[1]


@pytest.mark.parametrize("level", dispatch.available_levels())
def test_a_mapped_matrix_is_read_and_never_written(level: str) -> None:
    """Red when a backend takes a read-only array for its own: C would fault on the mapped file."""
    state = empty_state(Parameters(3, 32, 16))
    state.matrix.flags.writeable = False
    key = np.ones((1, 16), np.float32)
    with dispatch.forced(level) as backend:
        assert kernel.recall(state, key).tolist() == [[0, 0, 0]]
        with pytest.raises(AssertionError, match="read-only"):
            kernel.write(state, key, np.ones((1, 3), np.float32))
        with pytest.raises((BufferError, ValueError)):
            backend.update(state, key, np.ones((1, 3), np.float32), np.ones(1, np.float32), np.ones(1, np.float32))


FROZEN = {
    Rule.OUTER_PRODUCT: "5c59aebb62b325e7f59826ee5bd325d2",
    Rule.GATED_DELTA: "9c759df15c515d006c902904a0f56bc8",
    Rule.PRECONDITIONED: "614d557b9a80f9f864262c8edcd06752",
}


@pytest.mark.parametrize("level", dispatch.available_levels())
@pytest.mark.parametrize("rule", list(Rule))
def test_a12_a13_frozen_states(level: str, rule: Rule) -> None:
    """A memory written by an earlier version replays to the same bits; a new digest here is a new format."""
    told = story(level, Parameters(12, 64, 32, rule, Projection.HADAMARD, 4), 50, 2024)
    assert hashlib.sha256("".join(told).encode()).hexdigest()[:32] == FROZEN[rule]


def run(code: str, level: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "EMM_KERNEL": level}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("level", dispatch.available_levels())
def test_the_environment_forces_a_level(level: str) -> None:
    done = run("from emm import kernel; print(kernel.backend(), kernel.level())", level)
    assert done.stdout.split() == ["reference" if level == "reference" else "native", level], done.stderr


def test_an_unknown_level_is_refused_and_named() -> None:
    with pytest.raises(InputError) as caught:
        dispatch.backend_at("sse9")
    assert caught.value.found == "sse9" and "reference" in str(caught.value.expected)
    assert "InputError" in run("from emm import kernel; kernel.backend()", "sse9").stderr


ABSENT = """
import sys, warnings
sys.modules["emm.kernel._native"] = None
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from emm import kernel
    kernel.backend(); kernel.backend()
print(kernel.backend(), len(caught), caught[0].message)
"""


def test_without_the_extension_the_reference_serves_and_says_so_once() -> None:
    done = run(ABSENT, "auto")
    assert done.stdout.startswith("reference 1 the compiled EMM kernel is not installed"), done.stdout + done.stderr


def test_refusals_are_errors_of_this_library() -> None:
    assert issubclass(GateError, InputError) and issubclass(InputError, EmmError)
