"""A second implementation, written from the spec in plain Python with rational numbers, against every backend.

`spec/twin.py` shares no code with the kernel: φ, the three rules, unlearn, forget and bare expansion are transcribed
from spec/emm-v4.md (A-rules), each rounding done exactly. Red when any operation, order or rounding of the kernel
differs from the spec, or when the spec's text is changed without the code.
"""

from __future__ import annotations

import numpy as np
import pytest

from emm import kernel
from emm.errors import GateError
from emm.kernel import dispatch
from emm.layout import Projection, Rule
from emm.state import MatrixState, Parameters, empty_state
from spec.twin import Twin, dot, packed, phi


def same(twin: Twin, state: MatrixState) -> None:
    """To the bit, signs of zeros included."""
    assert state.matrix.tobytes() == packed(twin.M)
    if state.gain is None:
        return
    gain = state.gain
    assert gain.pbar.tobytes() == packed(twin.P)
    assert gain.u[: gain.count].tobytes() == packed(twin.U)
    assert [-1 if gain.signs >> k & 1 else 1 for k in range(gain.count)] == twin.sigma
    assert (gain.scale, gain.leak, gain.gram_trace) == (twin.a, twin.b, twin.h)
    assert not gain.u[gain.count :].any() and gain.signs >> gain.count == 0
    assert np.array_equal(gain.pbar.view(np.uint32), gain.pbar.T.copy().view(np.uint32))


def programme(seed: int, n: int, key_dim: int, dim: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    keys = (random.standard_normal((n, key_dim)) * np.exp2(random.integers(-4, 4, (n, 1)))).astype(np.float32)
    values = random.standard_normal((n, dim)).astype(np.float32)
    keys[4] = 0
    values[6] *= np.float32(2.0**-140)
    decay = np.where(random.random(n) < 0.3, random.uniform(0.5, 1, n), 1).astype(np.float32)
    return keys, values, decay, np.exp2(random.uniform(-8, 0, n)).astype(np.float32)


@pytest.mark.parametrize(("key_dim", "rank", "seed"), [(16, 16, 0), (24, 16, 7), (100, 96, 2**64 - 1), (64, 64, 1)])
@pytest.mark.parametrize("level", dispatch.available_levels())
def test_a6_a7_phi_is_what_the_spec_says(level: str, key_dim: int, rank: int, seed: int) -> None:
    parameters = Parameters(1, key_dim, rank, seed=seed)
    random = np.random.default_rng(key_dim)
    keys = (random.standard_normal((2, key_dim)) * np.exp2(random.integers(-90, 9, (2, key_dim)))).astype(np.float32)
    with dispatch.forced(level):
        found = kernel.project(keys, parameters)
    assert found.tobytes() == packed([phi(key.tolist(), rank, seed) for key in keys])


@pytest.mark.parametrize("rule", list(Rule))
@pytest.mark.parametrize("level", dispatch.available_levels())
def test_a11_a12_a13_a14_a16_a17_a18_a20_the_state_is_what_the_spec_says(level: str, rule: Rule) -> None:
    ridge = float(np.float32(0.3)) if rule is Rule.PRECONDITIONED else 2.0**-6  # P₀ not a power of two
    parameters = Parameters(3, 32, 16, rule, Projection.HADAMARD, 3, ridge)
    keys, values, decay, gate = programme(int(rule), 21, 32, 3)
    twin, state = Twin(3, 16, rule, parameters.ridge), empty_state(parameters)
    with dispatch.forced(level):
        x = kernel.project(keys, parameters)
        for i in range(len(x)):
            twin.write(x[i].tolist(), values[i].tolist(), float(decay[i]), float(gate[i]))
        kernel.write(state, x, values, decay, gate)
        same(twin, state)
        if rule is Rule.PRECONDITIONED:
            taken = 0
            for i in (20, 19, 4, 18):
                try:
                    kernel.unlearn(state, x[i], values[i], gate[i])
                except GateError:  # a decayed pair cannot always be taken out
                    continue
                twin.write(x[i].tolist(), values[i].tolist(), 1.0, -float(gate[i]))
                taken += 1
            assert taken >= 3
            same(twin, state)
            assert kernel.inverse_gram(state).tolist() == twin.folded()
        kernel.forget(state, x[[1, 2, 2]])
        twin.forget([x[i].tolist() for i in (1, 2, 2)])
        same(twin, state)
        if rule is Rule.PRECONDITIONED:
            state = kernel.expand(state, 32)
            twin.expand(32)
            same(twin, state)
            longer = kernel.project(keys[:2], state.parameters)
            kernel.write(state, longer, values[:2], 1.0, gate[:2])
            for i in range(2):
                twin.write(longer[i].tolist(), values[i].tolist(), 1.0, float(gate[i]))
            same(twin, state)
            expected = packed([[dot(row, key) for row in twin.M] for key in longer.tolist()])
            assert kernel.recall(state, longer).tobytes() == expected
