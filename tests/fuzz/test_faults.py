"""Faults beyond a single one: two in a row, a full medium, failures while pruning, listing, merging and reading.

Red when what a first failure leaves is not survived together with a second one, when a retry that succeeds is believed,
when a large snapshot that does not fit harms what was there, or when a read error is taken for damage, for a clean
memory or for the end of the log.
"""

from __future__ import annotations

import pytest

from emm.verify.verdict import Verdict
from emm_fuzz.cases import Case
from emm_fuzz.crash_states import Bounds
from emm_fuzz.damage import scene
from emm_fuzz.explore import Explorer, report
from emm_fuzz.faults import Plan, full_from, in_a_row, run_plans, singles
from emm_fuzz.simulated_disk import Fault
from emm_fuzz.unreadable import bad_sectors, failing_calls

FEW = Bounds(8, 2, 1)


def survived(case: Case, plans: list[Plan]) -> Explorer:
    explorer = Explorer(FEW)
    assert run_plans(explorer, case, plans) == len(plans) > 5
    assert explorer.tally.violations == [], report(explorer.tally, 0.0)
    return explorer


def test_every_fault_during_a_prune_is_survived() -> None:
    case = Case(("write", "checkpoint", "write", "checkpoint", "prune-journal"))
    plans = list(singles(case, ("unlink", "scandir", "fsync-dir")))
    explorer = survived(case, plans)
    assert set(explorer.tally.faults) == {"unlink eio", "scandir eio", "fsync-dir drop", "fsync-dir keep"}


def test_two_faults_in_a_row_are_survived() -> None:
    """The second one meets what cleans up after the first, or tries again."""
    case = Case(("write", "kill", "write"))
    explorer = survived(case, list(in_a_row(case)))
    assert explorer.tally.faults["next"] == explorer.tally.cases


def test_a_retry_that_succeeds_after_a_failed_sync_is_not_believed() -> None:
    """The handle that failed tries to write, to checkpoint and to close; the next process opens and writes."""
    case = Case(("write", "write-large", "checkpoint"))
    plans = list(singles(case, ("fsync",)))
    explorer = survived(case, plans)
    assert explorer.tally.faults["fsync drop"] == explorer.tally.faults["fsync keep"] == Explorer().calls(case)["fsync"]


def test_a_medium_that_is_full_amid_a_large_snapshot_keeps_what_was_there() -> None:
    case = Case(("write", "checkpoint"), geometry="blocks")
    snapshot_writes = Explorer().calls(case)["write"]
    plans = list(full_from(case))
    assert len(plans) == snapshot_writes
    survived(case, plans)


def test_every_fault_in_a_merge_leaves_its_sources_and_all_or_nothing_of_it() -> None:
    case = Case(("write", "merge"))
    survived(case, list(singles(case, ("mkdir", "link", "fsync", "fsync-dir", "scandir"))))


def test_a_fault_after_a_fault_is_counted_from_the_first() -> None:
    """Red when `next` strikes before anything else did, or more than once."""
    case = Case(("write",), (Fault("next", 1, "eio"),))
    explorer = Explorer(FEW)
    explorer.run(case)
    assert not explorer.tally.faults and not explorer.tally.violations


SCENES = {
    "killed": ("write", "checkpoint", "write-large", "kill", "write"),
    "closed": ("write", "write", "close"),
}


@pytest.mark.parametrize("left", SCENES)
def test_a_read_that_fails_is_neither_damage_nor_an_end(left: str) -> None:
    tally = failing_calls(scene(*SCENES[left]))
    outcomes = tally.outcomes
    assert outcomes[f"verify: {Verdict.INDETERMINATE}"] >= 15  # verify opens each file once, so few calls can fail
    assert outcomes["reader: StorageError"] >= 10 and outcomes["writer: StorageError"] >= 10
    clean = sum(count for name, count in outcomes.items() if "clean" in name)  # all was read: a size asked, a window
    assert clean <= 13 and outcomes.total() >= 45


@pytest.mark.parametrize("left", SCENES)
def test_a_sector_that_cannot_be_read_makes_verify_say_so_wherever_it_is(left: str) -> None:
    tally = bad_sectors(scene(*SCENES[left]))
    verdicts = {name for name in tally.outcomes if name.startswith("verify")}
    assert verdicts == {f"verify: {Verdict.INDETERMINATE}"}
    assert tally.outcomes["writer: StorageError"] >= 10
