"""Real writers killed at two thousand random moments: nothing acknowledged is lost, every digest is the model's.

Red when a write is acknowledged before it is handed to the system, when a snapshot is published before its segment is
sealed, when pruning removes what is needed, when recovery replays a commit twice or not at all, when an unclean end is
not logged again, when two writers can hold one memory, when a killed writer's lock is not free at once, or when verify
calls such a memory damaged.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path

import pytest

import emm
from emm.vfs.handles import LocalAppender, LocalLock
from emm.vfs.local import LocalDirectory
from emm_fuzz import kill_rounds
from emm_fuzz.fork_server import KILLED, Tell, Writers
from emm_fuzz.kill import PIECES_PER_SEED, file_system, memory_folder, pieces, run
from emm_fuzz.kill_judge import MUTATIONS, Account
from emm_fuzz.kill_rounds import KillRounds
from emm_fuzz.kill_tally import Tally
from emm_fuzz.workload import build_plan

KILLS = 2000
KILLS_ON_DISK = 100


def test_killed_at_random_moments_loses_nothing_acknowledged() -> None:
    tally = run(KILLS, 20261, memory_folder())
    print(tally.summary())
    assert tally.faults == []
    assert tally.kills >= KILLS
    assert tally.acknowledged > KILLS / 4 and tally.in_flight > 0 and tally.unproven > 0 and tally.absent > 0
    assert tally.taken_over > KILLS / 4 and tally.relogged > 0
    assert tally.races > KILLS / 20 and tally.fenced > tally.races / 2
    assert {"create", "open", "reopen", "checkpoint", "prune", "close"} | MUTATIONS <= set(tally.phases)


def test_killed_on_the_disk_of_the_tests_loses_nothing_either(tmp_path: Path) -> None:
    """Where an fsync takes its time, kills fall into it."""
    tally = run(KILLS_ON_DISK, 7, tmp_path)
    print(f"{file_system(tmp_path)}: {tally.summary()}")
    assert tally.faults == [] and tally.kills >= KILLS_ON_DISK


# --- the harness sees what it is made for ----------------------------------------------------------


TRIES = 8  # seeds; on a loaded machine the moments of one of them may all miss


def faults_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *wanted: str, kills: int = 150) -> list[str]:
    """What some rounds find in a process that was tampered with, up to a fault that says one of these words."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # where evidence is kept
    monkeypatch.setattr(kill_rounds, "FAULTS_MAX", 3)
    faults: list[str] = []
    for seed in range(3, 3 + TRIES):
        with Writers() as writers:
            faults += KillRounds(writers, tmp_path, seed).run(kills).faults
        if any(word in fault for fault in faults for word in wanted):
            return faults
    raise AssertionError(f"none of {wanted} in {faults}")


def test_a_write_that_is_acknowledged_too_early_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Red when the harness does not compare with what was acknowledged: here each append waits for the next one."""
    waiting: dict[LocalAppender, bytes] = {}
    append, close = LocalAppender.append, LocalAppender.close

    def late_append(self: LocalAppender, data: bytes) -> None:
        append(self, waiting.pop(self, b""))
        waiting[self] = data

    def late_close(self: LocalAppender) -> None:
        if self in waiting:
            append(self, waiting.pop(self))
        close(self)

    monkeypatch.setattr(LocalAppender, "append", late_append)
    monkeypatch.setattr(LocalAppender, "close", late_close)
    faults = faults_with(tmp_path, monkeypatch, "acknowledged")
    assert all("seed " in fault and "round" in fault for fault in faults)
    assert list(tmp_path.glob("emm-kill-fault-*/memory/*.emm"))  # the evidence


def test_two_writers_at_once_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Red when races are not looked at: here the lock is taken and given back."""

    def lock(self: LocalDirectory) -> LocalLock:
        found = taken(self)
        found.release()
        return found

    taken = LocalDirectory.lock
    monkeypatch.setattr(LocalDirectory, "lock", lock)
    monkeypatch.setattr(LocalDirectory, "sweep", lambda self: ())
    assert faults_with(tmp_path, monkeypatch, "got the lock")


def test_a_lock_that_outlives_its_holder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Red when a lock of the dead goes unnoticed: here it is a file beside the memory, which no kill removes."""
    take, release = LocalDirectory.lock, LocalLock.release
    files: dict[LocalLock, Path] = {}

    def lock(self: LocalDirectory) -> LocalLock:
        file = Path(f"{self.path}.lock")
        try:
            file.touch(exist_ok=False)
        except FileExistsError:
            raise emm.FencedError("another writer holds this memory") from None
        found = take(self)
        files[found] = file
        return found

    def release_file(self: LocalLock) -> None:
        if self in files:
            files.pop(self).unlink()
        release(self)

    monkeypatch.setattr(LocalDirectory, "lock", lock)
    monkeypatch.setattr(LocalLock, "release", release_file)
    assert faults_with(tmp_path, monkeypatch, "FencedError", "lock of a killed writer")


def test_only_writers_that_were_alive_count_as_killed() -> None:
    """Red when a signal to a zombie counts as a kill."""

    def waiting(tell: Tell) -> None:
        tell("write")
        time.sleep(60)

    with Writers() as writers:
        pid = writers.start(lambda tell: tell("done"))
        assert [line.text for line in writers.told(10)] == ["done"]
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # it is a zombie now
        assert writers.kill(pid) == 0
        pid = writers.start(waiting)
        writers.told(10)
        assert writers.kill(pid) == KILLED


@pytest.mark.parametrize(
    ("told", "acknowledged", "started"),
    [
        ([], -1, -1),
        (["create"], -1, 0),
        (["create", "= 0", "open", "= 0"], 0, 0),
        (["open", "= 3", "write"], 3, 4),
        (["open", "= 3", "write", "= 4", "checkpoint", "reopen"], 4, 4),
    ],
)
def test_an_account_knows_what_was_begun(told: list[str], acknowledged: int, started: int) -> None:
    """Red when a stage that nobody began is allowed."""
    account = Account()
    for text in told:
        account.hear(text)
    assert (account.acknowledged, account.started) == (acknowledged, started)


# --- runs in pieces -------------------------------------------------------------------------------


def test_a_run_goes_on_where_its_file_ends(tmp_path: Path) -> None:
    """Red when a piece is run twice or counted twice, or a line cannot be read back."""
    jsonl = tmp_path / "kills.jsonl"
    first = run(20, 5, memory_folder(), jsonl=jsonl)
    (line,) = [json.loads(text) for text in jsonl.read_text().splitlines()]
    assert line["kills"] == first.kills >= 20 and line["seed"] == 5 * PIECES_PER_SEED and line["faults"] == []
    assert line["file_system"] == file_system(memory_folder()) and line["commit"]
    assert Tally.from_dict(line).to_dict() == first.to_dict()
    again = run(30, 5, memory_folder(), jsonl=jsonl)
    lines = [json.loads(text) for text in jsonl.read_text().splitlines()]
    assert [each["seed"] for each in lines] == [5 * PIECES_PER_SEED, 5 * PIECES_PER_SEED + 1]
    assert again.kills == sum(each["kills"] for each in lines) >= 30
    assert list(pieces(5, 30, lines)) == []


# --- the plans ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_plans_hold_what_they_promise(seed: int) -> None:
    """A harness that never expands, forgets or prunes would prove less than it says."""
    plan = build_plan(seed)
    again = build_plan(seed)
    assert [stage.digest for stage in plan.stages] == [stage.digest for stage in again.stages]
    assert len(plan.stages) == len(plan.steps) + 1 == len({stage.digest for stage in plan.stages})
    assert plan.stages[-1].rank > plan.stages[0].rank
    assert plan.stage_of("00") is None


def test_plans_together_hold_every_kind_of_step() -> None:
    steps = [step for seed in range(12) for step in build_plan(seed).steps]
    assert {step.kind for step in steps} == MUTATIONS
    assert {name for step in steps for name in step.before} == {"checkpoint", "prune", "reopen", "prune-journal"}
