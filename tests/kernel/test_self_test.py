"""The self-test that guards a level: its digest is the reference's, it is fast, and a wrong level is dropped aloud.

Red when: the C programme (emm_self_test.c) and its twin below part, a level computes anything else than the reference
there, the test takes a millisecond, or a level that fails it is used in silence.
"""

from __future__ import annotations

import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from emm.kernel import dispatch, reference
from emm.kernel.checks import Refusal, Refused
from emm.kernel.generator import Generator
from emm.kernel.projection import Plan
from emm.layout import Projection, Rule
from emm.state import MatrixState, Parameters, empty_state

ROOT = Path(__file__).parent.parent.parent
native = pytest.importorskip("emm.kernel.native", reason="needs a C compiler: the extension is not built")

DIM, RANK, PAIRS, SINGLES, PADDED, KEY_DIM = 9, 32, 24, 4, 64, 48


class Fnv:
    """FNV-1a, 64 bits."""

    def __init__(self) -> None:
        self.hash = 0xCBF29CE484222325

    def add(self, array: np.ndarray) -> None:
        for byte in array.tobytes():
            self.hash = ((self.hash ^ byte) * 0x100000001B3) & (1 << 64) - 1

    def add_state(self, state: MatrixState) -> None:
        self.add(state.matrix)
        if state.gain is not None:
            self.add(state.gain.pbar)
            self.add(state.gain.u)
            self.add(np.array([state.gain.scale, state.gain.leak], np.float32))


def uniform(seed: int, n: int, columns: int) -> np.ndarray:
    words = Generator(seed).words(n * columns) >> np.uint64(40)
    return ((words.astype(np.float64) - 2**23) / 2**23).astype(np.float32).reshape(n, columns)


def one_rule(rule: Rule, found: Fnv) -> None:
    n = PAIRS + SINGLES
    x, values = uniform(1, n, RANK), uniform(2, n, DIM)
    x[3], x[5], x[7] = 0, x[5] * np.float32(2.0**-60), x[2]
    values[6] *= np.float32(2.0**-140)
    values[8] *= np.float32(2.0**39)
    k = np.arange(n)
    decay = np.where(k % 5 == 4, np.float32(0.7), np.where(k % 7 == 6, 1 - 2.0**-24, 1)).astype(np.float32)
    gate = np.where(k % 3, 1, 0.34375).astype(np.float32)
    if rule is Rule.PRECONDITIONED:
        gate[PAIRS + 1], decay[PAIRS + 1] = -0.0078125, 1
    state = empty_state(Parameters(DIM, RANK, RANK, rule, Projection.NONE, ridge=float(np.float32(0.3))))
    surprise = reference.update(state, x[:PAIRS], values[:PAIRS], decay[:PAIRS], gate[:PAIRS])
    found.add(np.zeros(1, np.int32))
    found.add_state(state)
    found.add(surprise)
    for i in range(PAIRS, n):
        one = slice(i, i + 1)
        surprise = reference.update(state, x[one], values[one], decay[one], gate[one])
        found.add(np.zeros(1, np.int32))
        found.add(surprise)
    found.add_state(state)
    found.add(reference.recall(state.matrix, x[:5]))
    found.add(np.eye(RANK, dtype=np.float32) if state.gain is None else reference.dense(state.gain))
    reference.forget(state, x[:3])
    found.add(state.matrix)


def test_the_digest_is_the_references() -> None:
    found = Fnv()
    for rule in Rule:
        one_rule(rule, found)
    signs = np.where(Generator(3).words(PADDED) >> np.uint64(63) == 1, -1, 1).astype(np.float32)
    order = ((np.arange(RANK) * 37 + 11) % PADDED).astype(np.int32)
    found.add(reference.transform(uniform(4, 2, KEY_DIM), Plan(PADDED, signs, order, np.float32(0.125)), RANK))
    assert f"{found.hash:016x}" == f"{native.SELF_TEST:016x}"


@pytest.mark.parametrize("level", [level for level in dispatch.available_levels() if level != "reference"])
def test_every_level_passes_within_a_millisecond(level: str) -> None:
    number = native._LEVELS.index(level)
    seconds = []
    for _ in range(20):
        start = time.perf_counter()
        assert native.passes_self_test(number)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 1e-3


def test_a_level_that_computes_otherwise_is_dropped_aloud(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "passes_self_test", lambda number: number != 0)
    native.levels.cache_clear()
    try:
        with pytest.warns(RuntimeWarning, match="wrong results at level 'portable'"):
            left = dispatch.available_levels()
        assert "portable" not in left and left[0] == "reference"
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert dispatch.available_levels() == left  # once is enough
    finally:
        native.levels.cache_clear()


def test_with_every_level_wrong_the_reference_serves() -> None:
    code = (
        "import warnings; warnings.simplefilter('ignore')\n"
        "from emm.kernel import native\n"
        "native.SELF_TEST ^= 1\n"
        "from emm import kernel\n"
        "print(kernel.backend())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["reference"], done.stderr


def test_refusals_of_both_sides_have_the_same_numbers() -> None:
    """emm_arithmetic.h counts them off in an enum."""
    text = (ROOT / "emm/kernel/c/emm_arithmetic.h").read_text(encoding="utf-8")
    names = text.partition("enum { ")[2].partition(" }")[0].replace("REFUSE_", "").replace(" = 1", "").split(", ")
    assert [(name, number) for number, name in enumerate(names, 1)] == [
        (reason.name, int(reason)) for reason in list(Refusal) if reason
    ]
    assert issubclass(Refused, Exception)
