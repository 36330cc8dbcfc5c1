"""Real writers killed at hundreds of random moments: nothing acknowledged is lost, every digest is the model's.

Red when a write is acknowledged before it is synced, when a snapshot is published before its segment is sealed, when
pruning removes what is needed, when recovery replays a commit twice or not at all, when an unclean end is not logged
again, when two writers can hold one memory, or when verify calls such a memory damaged.
"""

from __future__ import annotations

import pytest

from emm_fuzz.kill import run
from emm_fuzz.workload import build_plan

ROUNDS = 300


def test_killed_at_random_moments_loses_nothing_acknowledged() -> None:
    tally = run(ROUNDS, seed=20261)
    print(tally.summary())
    assert tally.faults == []
    assert tally.kills >= 200
    assert tally.acknowledged > 100 and tally.in_flight > 0 and tally.relogged > 0 and tally.unproven > 0
    assert tally.races == ROUNDS // 10 and tally.fenced > 0
    assert {"open", "write"} <= set(tally.phases)


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
    assert {step.kind for step in steps} == {"write", "unlearn", "forget", "configure", "bare", "resolve"}
    assert {name for step in steps for name in step.before} == {"checkpoint", "prune", "reopen", "prune-journal"}
