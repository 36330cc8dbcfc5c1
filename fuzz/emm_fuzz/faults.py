"""Plans of faults: every call that can fail, two failures in a row, and a medium that stays full.

Purpose: what the explorer's single faults leave out. Invariants: a plan is a tuple of faults and part of a case, so one
line replays it; plans follow from the calls that the case makes without them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace

from emm_fuzz.cases import Case
from emm_fuzz.explore import HOWS, Explorer
from emm_fuzz.simulated_disk import Fault

Plan = tuple[Fault, ...]


def singles(case: Case, calls: Collection[str] = tuple(HOWS)) -> Iterator[Plan]:
    """Every call of these kinds failing once, in every way in which it can."""
    counts = Explorer().calls(case)
    for call in calls:
        for nth in range(1, counts[call] + 1):
            yield from ((Fault(call, nth, how),) for how in HOWS[call])


def in_a_row(case: Case, calls: Collection[str] = ("write", "fsync", "fsync-dir", "link")) -> Iterator[Plan]:
    """Every call of these kinds failing, and the call that comes next as well: what cleans up, or tries again."""
    counts = Explorer().calls(case)
    for call in calls:
        for nth in range(1, counts[call] + 1):
            yield from ((Fault(call, nth, how), Fault("next", 1, "eio")) for how in HOWS[call] if how != "short")


def full_from(case: Case, length: int = 4) -> Iterator[Plan]:
    """The medium is full from some write on, and stays so for a while: also for whoever takes over."""
    for nth in range(1, Explorer().calls(case)["write"] + 1):
        yield tuple(Fault("write", nth + later, "enospc") for later in range(length))


def run_plans(explorer: Explorer, case: Case, plans: Iterable[Plan]) -> int:
    """The case once with every plan; how many there were."""
    count = 0
    for plan in plans:
        if explorer.done:
            break
        count += 1
        explorer.run(replace(case, faults=plan))
    return count
