"""Every directory that a power cut can leave after every short workload: nothing acknowledged is lost.

Red when a sync is left out or misplaced, when recovery refuses what a crash left or believes what it should not, when
verify and recovery disagree, and when a run does not follow from its case and seed. `test_mutants` shows of each of
seventy such bugs that it would be seen.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emm_fuzz import explore
from emm_fuzz.cases import MUTATIONS, OPERATIONS, Case, Moment, advance, applicable, workloads
from emm_fuzz.crash_states import LIGHT, QUICK, Spec, Tear
from emm_fuzz.deterministic import deterministic
from emm_fuzz.explore import HOWS, Explorer, explore_exhaustively, explore_randomly, main, report
from emm_fuzz.runs import Run
from emm_fuzz.simulated_disk import Fault

PARTS = 4


def held(explorer: Explorer) -> None:
    assert explorer.tally.violations == [], report(explorer.tally, 0.0)


@pytest.mark.parametrize("part", range(PARTS))
def test_every_workload_of_up_to_three_operations_survives_every_crash(
    part: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Each operation in each situation that two can lead to; workers share the parts, the last one counts them all."""
    explorer = Explorer(replace(QUICK, tears_per_unit=1))
    lengths = Counter(explore_exhaustively(explorer, 3, part, PARTS))
    print(report(explorer.tally, 0.0))
    held(explorer)
    tally = explorer.tally
    assert lengths.total() == tally.cases and lengths[3] >= 250
    assert tally.first.distinct >= 5000 and tally.nested.distinct >= 5000
    assert tally.killed >= 150 and tally.nested.aftermaths >= 300
    assert tally.first.cut == tally.nested.cut == 0
    assert {"clean", "clean-unsealed", "torn-or-damaged-tail"} == set(tally.verdicts)
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    half = shared / f"states-{part}.half"
    with half.open("wb") as file:
        np.save(file, explorer.keys())
    half.replace(shared / f"states-{part}.npy")
    parts = [np.load(each) for each in shared.glob("states-*.npy")]
    if len(parts) == PARTS:
        distinct = len(np.unique(np.concatenate(parts)))
        print(f"{distinct} distinct states in all parts together")
        assert distinct >= 50_000


@pytest.mark.parametrize(
    "workload",
    [
        ("write", "checkpoint", "write-large", "checkpoint", "prune-journal"),
        ("write", "write-large", "resolve", "write", "close"),
        ("write-large", "mark", "kill", "unlearn", "bare", "write", "kill"),
        ("decay", "forget", "configure", "reopen", "write", "prune"),
    ],
    ids=" ".join,
)
def test_longer_workloads_survive_crashes_at_every_point(workload: tuple[str, ...]) -> None:
    explorer = Explorer(LIGHT)
    explorer.run(Case(workload))
    held(explorer)
    assert explorer.tally.points >= 20 and explorer.tally.raw > explorer.tally.distinct > 50


@pytest.mark.parametrize("workload", [(), ("write-large", "checkpoint"), ("write", "resolve", "reopen")], ids=" ".join)
def test_every_fault_of_every_call_loses_nothing(workload: tuple[str, ...]) -> None:
    """EIO, ENOSPC, short writes, and syncs that fail, drop what was pending and succeed the next time."""
    explorer = Explorer(LIGHT)
    explorer.run_faults(workload)
    held(explorer)
    assert explorer.tally.cases == sum(explorer.tally.faults.values()) >= 40
    assert {f"{call} {how}" for call in ("write", "fsync", "fsync-dir", "open") for how in HOWS[call]} <= set(
        explorer.tally.faults
    )


def test_a_writer_killed_before_its_directory_syncs_is_followed_by_one_that_does() -> None:
    """Found by this harness. A creator was killed after `mkdir` or `link` and before the directory's fsync. The next
    process saw the name, took it for durable and acknowledged writes; a power cut then took the memory away, or left a
    later segment without the one before it (R-2), which nobody can open. `create` now syncs the parents that it finds,
    opening for append syncs the directory.
    """
    explorer = Explorer()
    for workload in ((), ("write",), ("write", "checkpoint"), ("write", "resolve")):
        explorer.run(Case(workload))
    held(explorer)
    assert explorer.tally.killed >= 8


def test_a_new_directory_whose_name_could_not_be_synced_is_taken_back() -> None:
    """Found by this harness. The fsync of the parent failed and dropped the new name, which everybody still saw; the
    next `create` took the directory as it was, and a power cut took it with everything acknowledged in it.
    """
    explorer = Explorer()
    explorer.run(Case(("write", "close"), (Fault("fsync-dir", 2, "drop"),)))
    held(explorer)


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
@given(
    workload=st.lists(st.sampled_from(OPERATIONS), max_size=7).map(tuple).filter(applicable),
    fault=st.none() | st.sampled_from([(call, how) for call in HOWS for how in HOWS[call]]),
    nth=st.integers(1, 60),
)
def test_drawn_workloads_with_a_fault_lose_nothing(
    workload: tuple[str, ...], fault: tuple[str, str] | None, nth: int
) -> None:
    """Hypothesis shrinks what fails; the message replays it without Hypothesis."""
    explorer = Explorer(LIGHT, stop_at_first=True)
    explorer.run(Case(workload, () if fault is None else (Fault(fault[0], nth, fault[1]),)))
    held(explorer)


def test_the_same_seed_gives_the_same_trace_and_another_seed_another() -> None:
    """Red when a clock, entropy, a thread or the order of a set comes in."""

    def trace(seed: int) -> str:
        explorer = Explorer(LIGHT)
        for number in explore_randomly(explorer, seed):
            if number == 1:
                break
        held(explorer)
        return explorer.tally.trace

    first = trace(11)
    assert first == trace(11) != trace(12)


def test_what_is_remembered_of_equal_bytes_changes_no_judgement() -> None:
    """Red when an answer is kept that depends on more than the bytes that it was kept for."""

    def judged(remember: bool) -> dict[str, object]:
        explorer = Explorer(LIGHT)
        with contextlib.nullcontext() if remember else mock.patch.object(explore, "remembered", contextlib.nullcontext):
            explorer.run(Case(("write-large", "checkpoint", "kill", "forget")))
        held(explorer)
        return explorer.tally.to_dict()

    assert judged(True) == judged(False)


def test_a_workload_that_has_had_enough_is_not_judged_further_and_the_rest_is_counted() -> None:
    explorer = Explorer(replace(LIGHT, states_max=20))
    for workload in (("write",), ("write-large",)):
        explorer.run(Case(workload))
    for states in (explorer.tally.first, explorer.tally.nested):
        assert 20 < states.distinct <= 40 and states.cut > 20 and len(states.seen) == states.distinct
        assert states.raw > states.distinct + states.cut


def test_a_case_survives_its_json() -> None:
    case = Case(("write", "kill"), (Fault("fsync", 3, "drop"),), 7, 5, Spec(512, 3, "zeros", Tear(1, 4, "garbage")))
    assert Case.from_json(case.to_json()) == case
    assert Case.from_json(Case(("write",)).to_json()) == Case(("write",))


def test_the_model_agrees_with_a_live_memory_in_every_operation() -> None:
    """Also under the operations that the exhaustive engine cannot reach with two words."""
    seen = set()
    for workload in [*workloads(1), ("write", "unlearn"), ("write", "forget"), ("write", "bare", "unlearn")]:
        with deterministic() as source:
            run = Run(Explorer(LIGHT), Case(workload), source, last_only=False, blind=True)
            run.go()  # raises when digests differ
        seen |= set(workload)
    assert seen == set(OPERATIONS)


def test_what_a_memory_must_refuse_is_no_workload() -> None:
    assert advance(Moment(), "unlearn", 0) is None and advance(Moment(), "forget", 0) is None
    assert not applicable(("bare", "bare")) and not applicable(("decay", "resolve"))
    assert applicable(("write", *(word for word in MUTATIONS if word not in ("resolve", "unlearn", "decay"))))


def test_the_command_line_reports_replays_and_appends_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = tmp_path / "results.jsonl"
    assert main(["--seconds", "0.2", "--length", "0", "--seed", "5", "--jsonl", str(lines)]) == 0
    found = json.loads(lines.read_text())
    assert found["seed"] == 5 and found["violations"] == 0 and found["first"]["distinct"] > 0
    assert main(["--replay", '{"workload":["write"],"seed":0,"point":8}']) == 0
    assert "1 crash points" in capsys.readouterr().out
