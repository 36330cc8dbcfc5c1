"""Real processes that meet over one memory: races, stopped and killed writers, and what a fork inherits.

Red when the lock is not taken, taken too late or released early; when it outlives a killed process or is stolen from a
stopped one; when a fork's child may use what it inherited, takes its parent's lock along or frees it; when a stage is
acknowledged twice, or lost between two writers that take turns.
"""

from __future__ import annotations

import ctypes
import gc
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

import emm
from emm_fuzz.contest import contest, judge
from emm_fuzz.fork_server import Line, Writers, plan_of
from emm_fuzz.kill import memory_folder
from emm_fuzz.puppet import Held, Puppet, close_memory, fork_child, open_memory, reap_child, write_step
from emm_fuzz.workload import Plan, perform

N_STAGES = 20


@pytest.fixture
def plan() -> Plan:
    return plan_of(7, N_STAGES)


@pytest.fixture
def url(tmp_path: Path, plan: Plan) -> str:
    url = str(tmp_path / "memory")
    plan.create(url)
    return url


def stage_of(url: str, plan: Plan) -> int | None:
    with emm.open(url) as memory:
        return plan.stage_of(memory.digest)


# --- stopped and killed writers -------------------------------------------------------------------


def test_a_stopped_writer_keeps_its_lock_and_goes_on(url: str, plan: Plan) -> None:
    """Red when a lock is broken because its holder does not answer, or a stopped writer's state is lost."""
    with Puppet() as first, Puppet() as second:
        first.ask(open_memory, url)
        assert first.ask(write_step, plan, 0) == plan.stages[1].digest
        first.stop()
        for _ in range(20):
            with pytest.raises(emm.FencedError):
                second.ask(open_memory, url)
        assert second.ask(open_memory, url, "r") == (plan.stages[1].lsn, plan.stages[1].digest)
        first.go_on()
        assert first.ask(write_step, plan, 1) == plan.stages[2].digest
        with pytest.raises(emm.FencedError):
            second.ask(open_memory, url)
        first.ask(close_memory)
        assert second.ask(open_memory, url) == (plan.stages[2].lsn, plan.stages[2].digest)
        assert second.ask(write_step, plan, 2) == plan.stages[3].digest
    assert stage_of(url, plan) == 3


def test_a_writer_stopped_within_a_step_ends_it_when_it_goes_on(url: str, plan: Plan) -> None:
    """Stopped anywhere between its calls: nobody else gets in, and the step is there afterwards."""
    with Puppet() as first, Puppet() as second:
        first.ask(open_memory, url)
        for index in range(len(plan.steps)):
            first.send(write_step, plan, index)
            first.stop()
            with pytest.raises(emm.FencedError):
                second.ask(open_memory, url)
            first.go_on()
            assert first.answer() == plan.stages[index + 1].digest
    assert stage_of(url, plan) == len(plan.steps)


@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
def test_a_killed_writers_lock_is_free_at_once(url: str, plan: Plan, stopped: bool) -> None:
    """The very next open succeeds, without a second attempt, and finds what was acknowledged."""
    for index in range(8):
        with Puppet() as writer, Puppet() as successor:
            assert writer.ask(open_memory, url)[1] == plan.stages[index].digest
            assert writer.ask(write_step, plan, index) == plan.stages[index + 1].digest
            if stopped:
                writer.stop()
            with pytest.raises(emm.FencedError):
                successor.ask(open_memory, url)
            writer.kill()
            assert successor.ask(open_memory, url) == (plan.stages[index + 1].lsn, plan.stages[index + 1].digest)
    with emm.open(url, "a"):
        pass
    assert str(emm.verify(url).verdict) == "clean"


# --- races ----------------------------------------------------------------------------------------


def test_of_two_that_open_at_once_one_wins_and_both_write_in_turn() -> None:
    """Dozens of races for one memory, each won by one; both sides win some, and no stage is lost or made twice."""
    run_contests(seeds=range(3), killing=False)


def test_taking_turns_survives_kills() -> None:
    """The same with processes killed at random moments: what they began is found whole or not at all."""
    run_contests(seeds=range(3), killing=True)


def run_contests(seeds: range, killing: bool) -> None:
    with tempfile.TemporaryDirectory(dir=memory_folder()) as root, Writers() as writers:
        fenced, killed = 0, 0
        for seed in seeds:
            url, plan = f"{root}/memory-{seed}", plan_of(seed, 40)
            found = contest(writers, url, plan, 2, seed=seed, killing=killing)
            assert found.faults == []
            assert sum(found.acknowledged.values()) + found.inherited == len(plan.steps)
            assert killing or (len(found.acknowledged) == 2 and min(found.acknowledged.values()) > 0)
            assert stage_of(url, plan) == len(plan.steps)
            assert str(emm.verify(url).verdict) == "clean"
            fenced += found.fenced
            killed += found.killed
        assert fenced > 0 and (killed > 0) is killing


@pytest.mark.parametrize(
    ("story", "fault"),
    [
        ([(1, "got 0"), (2, "got 0")], "process 2 gets what process 1 has"),
        ([(1, "got 0"), (1, "begin"), (1, "= 1"), (1, "let go"), (2, "got 0")], "finds stage 0, allowed [1]"),
        ([(1, "got 0"), (1, "let go"), (2, "got 1")], "finds stage 1, allowed [0]"),
        ([(1, "got None")], "finds stage None"),
        ([(1, "got 0"), (3, "got 0"), (3, "let go")], "process 3 gets what process 1 has"),
    ],
)
def test_the_judge_of_contests_sees_what_must_not_be(plan: Plan, story: list[tuple[int, str]], fault: str) -> None:
    """Red when the contest's invariants are not looked at."""
    lines = [Line(pid, number, text) for number, (pid, text) in enumerate(story)]
    assert any(fault in each for each in judge(lines, set(), plan).faults)


# --- what a fork inherits -------------------------------------------------------------------------


def use_everything(held: Held) -> None:
    """In a child: every use of what was inherited is refused, closing is harmless; exits 0 when that is so."""
    memory, plan = held.open_memory, plan_of(7, N_STAGES)
    uses: list[Callable[[], object]] = [
        lambda: perform(memory, plan.steps[1]),
        lambda: memory.recall(plan.steps[0].keys),
        memory.checkpoint,
        memory.prune,
        lambda: memory.configure(expand_at=0.5),
        lambda: memory.digest,
    ]
    refused = 0
    for use in uses:
        try:
            use()
        except emm.ClosedError:
            refused += 1
    memory.close()
    memory.close()
    os._exit(len(uses) - refused)


def do_nothing(held: Held) -> None:
    """In a child: live on with what was inherited."""


def drop_everything(held: Held) -> None:
    """In a child: let go of what was inherited without closing it, so that every destructor runs; exits 0."""
    held.memory = None
    gc.collect()
    os._exit(0)


@pytest.mark.parametrize("act", [use_everything, drop_everything])
def test_use_after_fork_is_refused_and_the_parent_goes_on(url: str, plan: Plan, act: Callable[[Held], None]) -> None:
    """Red when a child writes into its parent's segment, or its `close` or destructors checkpoint, seal or unlock."""
    with Puppet() as parent, Puppet() as other:
        parent.ask(open_memory, url)
        for index in range(5):
            child = parent.ask(fork_child, act)
            assert parent.ask(reap_child, child) == 0
            with pytest.raises(emm.FencedError):
                other.ask(open_memory, url)
            assert parent.ask(write_step, plan, index) == plan.stages[index + 1].digest
        parent.ask(close_memory)
    assert stage_of(url, plan) == 5 and str(emm.verify(url).verdict) == "clean"


def test_a_child_that_outlives_a_killed_parent_has_no_lock(url: str, plan: Plan) -> None:
    """A flock belongs to the open file, which a fork shares; the child closed its copy before it did anything else."""
    with Puppet() as parent, Puppet() as successor:
        parent.ask(open_memory, url)
        parent.ask(write_step, plan, 0)
        child = parent.ask(fork_child, do_nothing)
        parent.ask(write_step, plan, 1)
        with pytest.raises(emm.FencedError):
            successor.ask(open_memory, url)
        parent.kill()
        os.kill(child, 0)  # it lives
        try:
            assert successor.ask(open_memory, url) == (plan.stages[2].lsn, plan.stages[2].digest)
            assert successor.ask(write_step, plan, 2) == plan.stages[3].digest
        finally:
            os.kill(child, signal.SIGKILL)
    assert stage_of(url, plan) == 3


def fork_past_python(held: Held) -> int:
    """A fork that Python's hooks do not see, as a C library makes one; the child waits to be killed. Its id."""
    libc = ctypes.CDLL(None)
    pid = int(libc.fork())
    if pid == 0:
        while True:
            libc.pause()
    held.children.append(pid)
    return pid


def test_a_fork_past_python_holds_the_lock_and_nobody_else_gets_in(url: str, plan: Plan) -> None:
    """No hook runs in such a child, so it keeps the lock of a killed parent: others are fenced, never two writers.

    Red when the lock is taken from the process instead of the open file: then a second writer would come in here.
    """
    with Puppet() as parent, Puppet() as successor:
        parent.ask(open_memory, url)
        parent.ask(write_step, plan, 0)
        child = parent.ask(fork_past_python)
        parent.kill()
        try:
            with pytest.raises(emm.FencedError):
                successor.ask(open_memory, url)
            assert successor.ask(open_memory, url, "r")[1] == plan.stages[1].digest
        finally:
            kill_and_wait(child)
        assert successor.ask(open_memory, url) == (plan.stages[1].lsn, plan.stages[1].digest)


def spawn_helper(held: Held) -> int:
    """A program started by a writer: fork and exec, without Python's hooks. Its id."""
    process = subprocess.Popen([sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"], stdout=-1)
    assert process.stdout is not None
    process.stdout.readline()  # it runs: the exec has closed what was inherited
    held.children.append(process.pid)
    return process.pid


def test_a_program_started_by_a_killed_writer_has_no_lock(url: str, plan: Plan) -> None:
    """Red when a descriptor of the lock is not close-on-exec."""
    with Puppet() as parent, Puppet() as successor:
        parent.ask(open_memory, url)
        parent.ask(write_step, plan, 0)
        child = parent.ask(spawn_helper)
        parent.kill()
        os.kill(child, 0)
        try:
            assert successor.ask(open_memory, url)[1] == plan.stages[1].digest
        finally:
            os.kill(child, signal.SIGKILL)


def kill_and_wait(pid: int) -> None:
    """SIGKILL for a process that is not our child, and wait until it is gone or a zombie."""
    descriptor = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        select.select([descriptor], [], [], 10)
    finally:
        os.close(descriptor)
