"""A kill at an exact system call as data, and what many of them came to.

Purpose: cases that can be enumerated, and replayed from one line of JSON. Invariants: a life follows from its seed and
its number of stages; a death is a moment and the number of a call, counted from the start of its process.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Final

from emm_fuzz.fork_server import Line, plan_of
from emm_fuzz.system_calls import CHANGING, Death
from emm_fuzz.workload import Plan

MARK_EVERY: Final = 3  # steps between the marks of an idle second

Call = tuple[str, int]  # (name, bytes of a write)


@dataclass(frozen=True, slots=True)
class Case:
    """A life and where its writers kill themselves: the first one, and perhaps the one that takes over."""

    seed: int
    stages: int
    deaths: tuple[Death, ...] = ()

    def to_json(self) -> str:
        deaths = [[each.moment, each.call] for each in self.deaths]
        return json.dumps({"seed": self.seed, "stages": self.stages, "deaths": deaths}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Case:
        plain = json.loads(text)
        return cls(plain["seed"], plain["stages"], tuple(Death(*each) for each in plain["deaths"]))

    @property
    def plan(self) -> Plan:
        """The life, with marks where the journal would make them by itself after an idle second."""
        plan = plan_of(self.seed, self.stages)
        steps = [
            replace(step, before=("mark", *step.before)) if number % MARK_EVERY == MARK_EVERY - 1 else step
            for number, step in enumerate(plan.steps)
        ]
        return Plan(plan.seed, steps, plan.stages)

    def dying(self, death: Death) -> Case:
        """The same, and one more death at the end."""
        return replace(self, deaths=(*self.deaths, death))


def calls_of(lines: Sequence[Line]) -> list[Call]:
    """The calls that a process told, in order."""
    told = (line.text.split() for line in lines if line.text.startswith("@"))
    return [(name, int(size)) for _, name, size in told]


def every_death(calls: Sequence[Call], *, reading: bool) -> Iterator[Death]:
    """Every boundary of these calls: before each, within each write, after each.

    Without `reading` the calls that others cannot notice are left out: the boundaries within a run of them leave the
    same as the one after the call before it.
    """
    for number, (name, size) in enumerate(calls):
        if not reading and name not in CHANGING:
            continue
        yield Death("before", number)
        if size > 1:
            yield Death("half", number)
        yield Death("after", number)


@dataclass(slots=True)
class BoundaryTally:
    """What an enumeration came to."""

    lives: int = 0
    kills: int = 0  # each at a boundary of its own
    second: int = 0  # of them kills of a writer that was taking over
    torn: int = 0
    unproven: int = 0
    absent: int = 0
    relogged: int = 0
    calls: Counter[str] = field(default_factory=Counter)  # moment and name of the last call
    acts: Counter[str] = field(default_factory=Counter)  # what the writers were doing
    faults: list[str] = field(default_factory=list)

    def add(self, other: BoundaryTally) -> None:
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))

    def summary(self) -> str:
        counted = ", ".join(f"{name} {count}" for name, count in sorted(self.calls.items()))
        doing = ", ".join(f"{name} {count}" for name, count in self.acts.most_common())
        return (
            f"{self.kills} kills of {self.lives} lives, each at a boundary of its own ({self.second} while taking "
            f"over): {self.torn} torn tails, {self.unproven} unproven ends, {self.absent} without a memory yet, "
            f"{self.relogged} logged again, {len(self.faults)} faults\nkilled {counted}\nduring {doing}"
        )
