"""What a run of kills came to.

Purpose: the numbers, and nothing that is not one. Invariants: a kill counts only when SIGKILL found a writer alive and
at work: after it told its first act, before it told that it was done or at rest; the others are counted apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import asdict, dataclass, field, fields
from typing import Any


@dataclass(slots=True)
class Tally:
    """Counts that add up."""

    rounds: int = 0
    kills: int = 0  # of writers at work
    early: int = 0  # killed before a first act
    at_rest: int = 0  # killed while it held the memory and did nothing, or after it was fenced off
    finished: int = 0  # had come to its end before the signal
    acknowledged: int = 0  # stages that writers acknowledged
    in_flight: int = 0  # stages found beyond the last acknowledged one: written, not yet acknowledged
    replayed: int = 0  # commits replayed when reading after a kill
    torn: int = 0  # torn tails found
    unproven: int = 0  # ends with a whole commit that nothing proved
    absent: int = 0  # kills within create that left no memory
    taken_over: int = 0  # openings for append right after a kill, at the first attempt
    relogged: int = 0  # of them those that logged again
    verified: int = 0
    races: int = 0
    fenced: int = 0  # losers of races
    lives: int = 0  # memories made
    phases: Counter[str] = field(default_factory=Counter)  # what writers at work were doing when they were killed
    faults: list[str] = field(default_factory=list)

    def count_kill(self, last: str, at_rest: Collection[str]) -> None:
        """A writer that SIGKILL found alive, by the last that it told."""
        if not last:
            self.early += 1
        elif last in at_rest:
            self.at_rest += 1
        else:
            self.kills += 1
            self.phases["between" if last.startswith("=") else last] += 1

    def add(self, other: Tally) -> None:
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"phases": dict(sorted(self.phases.items()))}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Tally:
        known = {each.name: plain[each.name] for each in fields(cls)}
        return cls(**known | {"phases": Counter(plain["phases"])})

    def summary(self) -> str:
        doing = ", ".join(f"{name} {count}" for name, count in self.phases.most_common())
        return (
            f"{self.kills} kills of writers at work in {self.rounds} rounds on {self.lives} memories "
            f"(not counted: {self.early} before a first act, {self.at_rest} at rest, {self.finished} finished first): "
            f"{self.acknowledged} stages acknowledged, {self.in_flight} found in flight, {self.replayed} commits "
            f"replayed, {self.torn} torn tails, {self.unproven} unproven ends, {self.absent} without a memory yet, "
            f"{self.taken_over} taken over at the first attempt ({self.relogged} logged again), "
            f"{self.verified} verified, {self.races} races ({self.fenced} fenced), {len(self.faults)} faults\n"
            f"killed during: {doing}"
        )
