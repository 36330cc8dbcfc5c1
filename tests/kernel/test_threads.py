"""Any number of threads, any layout of the arguments, any process: the same bits (rules A-2, A-5).

Red when: a thread adds its part in another order, takes a chunk before the one before it, reads gains that are not
ready or already replaced, leaves M changed after a refusal, or computes in the flush-to-zero mode it inherited; when a
stride, an alignment or an overlap shows in a result; when a forked child hangs or the pool keeps a process from ending.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emm import kernel
from emm.errors import EmmError, InputError
from emm.kernel import dispatch
from emm.kernel.thread_count import DEFAULT_MAX
from emm.layout import Projection, Rule
from emm.state import MatrixState, Parameters, empty_state

ROOT = Path(__file__).parent.parent.parent
native = pytest.importorskip("emm.kernel.native", reason="needs a C compiler: the extension is not built")
NATIVE = [level for level in dispatch.available_levels() if level != "reference"]
WORK_MIN = 1 << 19  # emm_pool.c


@pytest.fixture(autouse=True)
def every_problem_is_worth_threads() -> Iterator[None]:
    native.lib.emm_set_work_min(1)
    yield
    native.lib.emm_set_work_min(WORK_MIN)
    kernel.use_threads(None)


def bits(state: MatrixState, *more: np.ndarray) -> bytes:
    found = state.matrix.tobytes() + b"".join(array.tobytes() for array in more)
    if state.gain is not None:
        gain = state.gain
        found += gain.pbar.tobytes() + gain.u.tobytes()
        found += repr((gain.signs, gain.count, gain.scale, gain.leak, gain.gram_trace)).encode()
    return found


def awkward(seed: int, n: int, rank: int, dim: int, rule: Rule) -> tuple[np.ndarray, ...]:
    """Pairs with zero and tiny keys, tiny and huge values, decay here and there."""
    random = np.random.default_rng(seed)
    x = (random.standard_normal((n, rank)) / np.sqrt(rank) * np.exp2(random.integers(-6, 2, (n, 1)))).astype(np.float32)
    values = random.standard_normal((n, dim)).astype(np.float32)
    x[random.random(n) < 0.05] = 0
    x[random.random(n) < 0.05] *= np.float32(2.0**-50)
    values[random.random(n) < 0.05] *= np.float32(2.0**-135)
    values[random.random(n) < 0.02] *= np.float32(2.0**36)
    decay = np.where(random.random(n) < 0.1, random.uniform(0.3, 1, n), 1).astype(np.float32)
    top = 1.0 if rule is Rule.GATED_DELTA else 4.0
    gate = random.uniform(0.01, top, n).astype(np.float32)
    return x, values, decay, gate


def outcome(level: str, n_threads: int, parameters: Parameters, pairs: tuple[np.ndarray, ...], split: int) -> bytes:
    kernel.use_threads(n_threads)
    x, values, decay, gate = pairs
    with dispatch.forced(level):
        state = empty_state(parameters)
        told = [kernel.write(state, x[:split], values[:split], decay[:split], gate[:split])]
        told.append(kernel.write(state, x[split:], values[split:], decay[split:], gate[split:]))
        told.append(kernel.recall(state, x[:50]))
        told.append(kernel.recall(state, x[1]))
        kernel.forget(state, x[:7])
        return bits(state, *told)


@pytest.mark.parametrize("level", NATIVE)
@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    rule=st.sampled_from(list(Rule)),
    dim=st.sampled_from([1, 8, 9, 100, 500]),
    rank=st.sampled_from([16, 48, 272]),
    n=st.sampled_from([60, 700, 1500]),
    split=st.integers(0, 60),
)
def test_a5_the_number_of_threads_changes_no_bit(
    level: str, seed: int, rule: Rule, dim: int, rank: int, n: int, split: int
) -> None:
    """Up to 6 chunks of 256 keys, so that slots of gains are used again, and blocks that end inside a group."""
    parameters = Parameters(dim, rank, rank, rule, Projection.NONE)
    pairs = awkward(seed, n, rank, dim, rule)
    found = {outcome(level, count, parameters, pairs, split) for count in (1, 2, 3, 8)}
    assert len(found) == 1
    if level == NATIVE[-1]:
        assert outcome(NATIVE[0], 1, parameters, pairs, split) in found


def test_a5_threads_equal_the_reference() -> None:
    parameters = Parameters(40, 64, 64, Rule.PRECONDITIONED, Projection.NONE)
    pairs = awkward(5, 300, 64, 40, Rule.PRECONDITIONED)
    assert outcome(NATIVE[-1], 8, parameters, pairs, 33) == outcome("reference", 1, parameters, pairs, 33)


@pytest.mark.parametrize("level", NATIVE)
@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("rule", [Rule.GATED_DELTA, Rule.PRECONDITIONED])
def test_a5_a_batch_refused_in_a_late_chunk_leaves_no_trace(level: str, n_threads: int, rule: Rule) -> None:
    """The first chunks have been swept by then: M comes back from the copy that they saved."""
    parameters = Parameters(70, 48, 48, rule, Projection.NONE)
    x, values, decay, gate = awkward(8, 1600, 48, 70, rule)
    kernel.use_threads(n_threads)
    with dispatch.forced(level):
        state = empty_state(parameters)
        kernel.write(state, x[:90], values[:90])
        before = bits(state)
        for row, spoil in ((1590, x), (1100, values)):
            good = spoil[row].copy()
            spoil[row] = 2.0**39 if spoil is x else np.nan
            with pytest.raises(InputError, match=f"row {row}"):
                kernel.write(state, x, values, decay, gate)
            assert bits(state) == before
            spoil[row] = good
        state = empty_state(parameters)
        x[:, 47] = 0  # so that nothing is wrong with this column before the last key
        state.matrix[69, 47] = 3e38
        x[1599] = 2.0**37
        spoiled = bits(state)
        with pytest.raises(EmmError, match="not finite"):
            kernel.write(state, x, values)
        assert bits(state) == spoiled


@pytest.mark.parametrize("level", NATIVE)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_a9_strides_and_alignment_do_not_show(level: str, data: st.DataObject) -> None:
    """Every second row, columns cut from a wider array, reversed rows, arrays off any alignment, single and batch."""
    rule = data.draw(st.sampled_from(list(Rule)))
    n, rank, dim = data.draw(st.sampled_from([1, 2, 19])), data.draw(st.sampled_from([16, 80])), 13
    pairs = awkward(data.draw(st.integers(0, 99)), n, rank, dim, rule)
    parameters = Parameters(dim, rank, rank, rule, Projection.NONE)

    def laid_out(array: np.ndarray, how: str) -> np.ndarray:
        if how == "rows":
            return np.repeat(array, 2, axis=0)[::2]
        if how == "columns":
            return np.hstack([array, array])[:, : array.shape[1]]
        if how == "reversed":
            return np.ascontiguousarray(array[::-1])[::-1]
        if how == "fortran":
            return np.asfortranarray(array)
        offset = data.draw(st.sampled_from([1, 2, 4, 8, 60])) if how == "bytes" else 4
        room = np.empty(array.nbytes + 64, np.uint8)
        view = room[offset : offset + array.nbytes].view(np.float32).reshape(array.shape)
        view[...] = array
        if how == "frozen":
            view.flags.writeable = False
        return view

    layouts = st.sampled_from(["rows", "columns", "reversed", "fortran", "bytes", "frozen"])
    with dispatch.forced(level):
        found = []
        for x, values in (pairs[:2], (laid_out(pairs[0], data.draw(layouts)), laid_out(pairs[1], data.draw(layouts)))):
            state = empty_state(parameters)
            surprise = kernel.write(state, x, values, pairs[2], pairs[3])
            one = kernel.write(state, x[0], values[0])
            found.append(bits(state, surprise, one, kernel.recall(state, x), kernel.recall(state, x[0])))
        assert found[0] == found[1]
        state = empty_state(parameters)
        room = np.zeros(dim * rank + 9, np.float32)
        state.matrix = room[data.draw(st.integers(0, 8)) :][: dim * rank].reshape(dim, rank)
        surprise = kernel.write(state, pairs[0], pairs[1], pairs[2], pairs[3])
        one = kernel.write(state, pairs[0][0], pairs[1][0])
        assert found[0] == bits(state, surprise, one, kernel.recall(state, pairs[0]), kernel.recall(state, pairs[0][0]))


@pytest.mark.parametrize("level", NATIVE)
@pytest.mark.parametrize("n", [1, 40])
def test_arguments_that_are_part_of_the_matrix_are_read_before_it_changes(level: str, n: int) -> None:
    """Red when a key or a value inside M is read after the first rows of M have moved on."""
    parameters = Parameters(64, 64, 64, Rule.GATED_DELTA, Projection.NONE)
    x, values, _, _ = awkward(3, 80, 64, 64, Rule.GATED_DELTA)
    with dispatch.forced(level):
        found = []
        for apart in (True, False):
            state = empty_state(parameters)
            kernel.write(state, x, np.clip(values, -2, 2))
            state.matrix[...] = np.clip(state.matrix, -1, 1)
            inside = state.matrix[:n].copy() if apart else state.matrix[:n]
            surprise = kernel.write(state, inside, inside)
            kernel.forget(state, state.matrix[3:5].copy() if apart else state.matrix[3:5])
            found.append(bits(state, surprise))
        assert found[0] == found[1]


def test_several_callers_at_once_each_get_their_own_answer() -> None:
    """One of them has the helpers, the others compute alone."""
    kernel.use_threads(4)
    parameters = Parameters(96, 64, 64, Rule.PRECONDITIONED, Projection.NONE)
    pairs = awkward(11, 600, 64, 96, Rule.PRECONDITIONED)
    expected = outcome(NATIVE[-1], 1, parameters, pairs, 5)
    kernel.use_threads(4)
    found: list[bytes] = []

    def work() -> None:
        for _ in range(5):
            state = empty_state(parameters)
            x, values, decay, gate = pairs
            told = [kernel.write(state, x[:5], values[:5], decay[:5], gate[:5])]
            told.append(kernel.write(state, x[5:], values[5:], decay[5:], gate[5:]))
            told += [kernel.recall(state, x[:50]), kernel.recall(state, x[1])]
            kernel.forget(state, x[:7])
            found.append(bits(state, *told))

    with dispatch.forced(NATIVE[-1]):
        callers = [threading.Thread(target=work) for _ in range(4)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
    assert len(found) == 20 and set(found) == {expected}


FORKING = """
import os, sys
import numpy as np
from emm import kernel
from emm.kernel import native
from emm.layout import Projection, Rule
from emm.state import Parameters, empty_state
native.lib.emm_set_work_min(1)
random = np.random.default_rng(0)
x, v = random.standard_normal((600, 32)).astype(np.float32) / 6, random.standard_normal((600, 50)).astype(np.float32)
def run():
    state = empty_state(Parameters(50, 32, 32, Rule.PRECONDITIONED, Projection.NONE))
    kernel.write(state, x, v)
    return state.matrix.tobytes()
expected = run()
children = []
for _ in range(4):
    child = os.fork()
    if not child:
        same = run() == expected and run() == expected
        os._exit(0 if same else 1)
    children.append(child)
same = run() == expected
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
print(same, codes, len(os.listdir("/proc/self/task")))
"""


def test_a_forked_child_has_threads_of_its_own_and_the_process_ends() -> None:
    environment = {**os.environ, "EMM_THREADS": "3", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", FORKING],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.strip() == "True [0, 0, 0, 0] 3", done.stderr  # the caller and two helpers
    assert done.returncode == 0


FLUSHING = """
import ctypes, sys
import numpy as np
ctypes.CDLL(sys.argv[1]).flush()  # before the pool starts, so its threads inherit the mode
from emm import kernel
from emm.kernel import native
from emm.layout import Projection, Rule
from emm.state import Parameters, empty_state
native.lib.emm_set_work_min(1)
kernel.use_threads(3)
state = empty_state(Parameters(4096, 16, 16, Rule.OUTER_PRODUCT, Projection.NONE))
kernel.write(state, np.full((2, 16), 2.0**-20, np.float32), np.full((2, 4096), 2.0**-120, np.float32))
print(int((state.matrix.view(np.uint32) == 1 << 10).sum()))
"""


def test_a2_helpers_leave_the_flush_to_zero_mode_that_they_inherit(tmp_path: Path) -> None:
    import shutil

    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler to switch flush-to-zero on")
    source = tmp_path / "flush.c"
    source.write_text(
        "#if defined(__x86_64__)\n#include <immintrin.h>\nvoid flush(void) { _mm_setcsr(_mm_getcsr() | 0x8040); }\n"
        "#else\n#include <stdint.h>\n"
        'void flush(void) { uint64_t one = 1u << 24; __asm__ volatile("msr fpcr, %0" : : "r"(one)); }\n#endif\n'
    )
    library = tmp_path / "flush.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", str(source), "-o", str(library)], check=True)
    done = subprocess.run(
        [sys.executable, "-c", FLUSHING, str(library)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == str(4096 * 16), done.stderr


def test_the_number_of_threads_comes_from_the_caller_the_environment_or_the_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EMM_THREADS", "5")
    kernel.use_threads(None)
    assert kernel.threads() == 5
    kernel.use_threads(2)
    assert kernel.threads() == 2
    monkeypatch.delenv("EMM_THREADS")
    kernel.use_threads(None)
    assert 1 <= kernel.threads() <= DEFAULT_MAX
    for bad in ("0", "65", "many", "-1", "2.5", "²"):
        monkeypatch.setenv("EMM_THREADS", bad)
        with pytest.raises(InputError, match="EMM_THREADS") as caught:
            kernel.use_threads(None)
        assert caught.value.found == bad
    for number in (0, 65, True, 1.0):
        with pytest.raises(InputError, match="number of threads"):
            kernel.use_threads(number)  # type: ignore[arg-type]
