"""Writers that kill themselves at every boundary of their system calls, on real files.

Red when a snapshot or segment can be seen half written, a name before its bytes, a commit before it is whole; when a
torn tail is taken for damage or for a clean end; when what a killed writer leaves (a directory without a memory,
temporary files, an unproven commit) stops the next one or stays; when a lock outlives its process.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from emm.vfs import local
from emm.vfs.local import LocalDirectory
from emm_fuzz.boundaries import Boundaries, replay, run
from emm_fuzz.boundary_case import Case, every_death
from emm_fuzz.fork_server import Writers, plan_of
from emm_fuzz.kill import memory_folder
from emm_fuzz.kill_judge import MUTATIONS
from emm_fuzz.system_calls import CHANGING, Death

SEEDS = (282, 341)  # two short lives that together hold every kind of step, and a batch of many pages
STAGES = 12
SECOND_EVERY = 40


def test_killed_at_every_boundary_nothing_is_lost_and_the_next_writer_goes_on() -> None:
    tally = run(SEEDS, STAGES, SECOND_EVERY, memory_folder())
    print(tally.summary())
    assert tally.faults == []
    assert {f"{moment} {name}" for moment in ("before", "after") for name in CHANGING - {"rmdir"}} <= set(tally.calls)
    assert tally.kills - tally.second > 400 and tally.second > 200
    assert tally.torn > 20 and tally.unproven > 100 and tally.absent > 50 and tally.relogged > 200
    assert {"create", "open", "mark", "close", "checkpoint", "prune-journal"} | MUTATIONS <= set(tally.acts)


def test_the_lives_hold_every_kind_of_step() -> None:
    """Red when a change to the plans leaves something out here."""
    steps = [step for seed in SEEDS for step in Case(seed, STAGES).plan.steps]
    assert {step.kind for step in steps} == MUTATIONS
    assert {name for step in steps for name in step.before} == {
        "checkpoint",
        "prune",
        "reopen",
        "prune-journal",
        "mark",
    }
    assert max(len(step.keys) for step in steps if step.kind == "write") > 100


def test_a_case_is_one_line_and_dies_where_it_says() -> None:
    """Red when a replay goes elsewhere than the line says, or nowhere and nobody says so."""
    case = Case(SEEDS[0], STAGES, (Death("half", 90), Death("after", 20)))
    assert Case.from_json(case.to_json()) == case
    beyond = replay(Case(SEEDS[0], STAGES, (Death("before", 1_000_000),)), memory_folder())
    assert beyond.kills == 0 and "did not die" in beyond.faults[0]
    found = replay(Case(SEEDS[0], STAGES, (Death("before", 90), Death("after", 20))), memory_folder())
    assert (found.kills, found.second, found.faults) == (2, 1, [])


def test_reads_are_boundaries_on_demand() -> None:
    calls = [("open", 0), ("write", 9), ("pread", 0), ("unlock", 0)]
    assert [each.call for each in every_death(calls, reading=False)] == [1, 1, 1, 3, 3]
    assert [each.call for each in every_death(calls, reading=True)] == [0, 0, 1, 1, 1, 2, 2, 3, 3]


def test_a_file_that_appears_before_its_bytes_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Red when the harness would not see a publish that is not atomic; each fault must replay from its line."""

    def publish(self: LocalDirectory, name: str, chunks: Iterable[bytes | memoryview]) -> None:
        self._owned[name] = self._write_temporary(name, chunks, self._directory_fd())
        local.os.fsync(self._directory_fd())

    monkeypatch.setattr(LocalDirectory, "publish", publish)
    with Writers() as writers:
        boundaries = Boundaries(writers, tmp_path)
        boundaries.life(SEEDS[0], 3)
    faults = boundaries.tally.faults
    assert any("half" in fault and "refuses what a kill left" in fault for fault in faults)
    line = next(fault for fault in faults if "refuses" in fault)
    case = Case.from_json(line[line.index('{"seed"') :])
    (again,) = replay(case, tmp_path).faults
    assert again.startswith("recovery refuses what a kill left") and again.endswith(case.to_json())


def test_a_temporary_file_that_nobody_sweeps_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Red when what a killed writer leaves behind is not looked at."""
    monkeypatch.setattr(LocalDirectory, "sweep", lambda self: ())
    with Writers() as writers:
        boundaries = Boundaries(writers, tmp_path)
        boundaries.life(SEEDS[0], 3)
    assert any("temporary files" in fault for fault in boundaries.tally.faults)


def test_plans_are_shared_and_not_changed() -> None:
    """The marks of a case must not find their way into the plans of other harnesses."""
    assert Case(SEEDS[0], STAGES).plan.steps != plan_of(SEEDS[0], STAGES).steps
    assert not any("mark" in step.before for step in plan_of(SEEDS[0], STAGES).steps)
