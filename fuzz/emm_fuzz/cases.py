"""Workloads as data: cases that can be enumerated, drawn, shrunk, and replayed from one line of JSON.

Purpose: a case is a list of words, a geometry, faults and perhaps one crash image. What a memory must be after each
word is the model's business, whose names are given on here. Invariants: a case survives its JSON, and a line that was
written before a field existed means what it meant; an operation that a memory must refuse at that moment makes the
workload inapplicable, it is not skipped in silence.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from emm_fuzz.crash_states import Spec, Tear
from emm_fuzz.geometry import DEFAULT, GEOMETRIES, Geometry
from emm_fuzz.model import EVENTS, MUTATIONS, NEUTRAL, OPERATIONS, Moment, State, advance, first_moment, step_for
from emm_fuzz.simulated_disk import Fault

__all__ = [
    "EVENTS",
    "MUTATIONS",
    "NEUTRAL",
    "OPERATIONS",
    "Case",
    "Moment",
    "State",
    "advance",
    "applicable",
    "first_moment",
    "random_workload",
    "step_for",
    "workloads",
]


@dataclass(frozen=True, slots=True)
class Case:
    """One run: a new memory lives through `workload`. With `point` and `spec` only that crash image is looked at."""

    workload: tuple[str, ...]
    faults: tuple[Fault, ...] = ()
    seed: int = 0
    point: int | None = None
    spec: Spec | None = None
    geometry: str = DEFAULT

    @property
    def shape(self) -> Geometry:
        return GEOMETRIES[self.geometry]

    def to_json(self) -> str:
        plain: dict[str, Any] = {"workload": self.workload, "seed": self.seed}
        if self.geometry != DEFAULT:
            plain["geometry"] = self.geometry
        if self.faults:
            plain["faults"] = [[each.call, each.nth, each.how] for each in self.faults]
        if self.point is not None:
            plain["point"] = self.point
        if self.spec is not None:
            plain["spec"] = self.spec
        return json.dumps(plain, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Case:
        plain = json.loads(text)
        spec = plain.get("spec")
        if spec is not None:
            sector, kept, fill, tear = spec
            spec = Spec(sector, kept, fill, None if tear is None else Tear(*tear))
        faults = tuple(Fault(*each) for each in plain.get("faults", ()))
        geometry = plain.get("geometry", DEFAULT)
        return cls(tuple(plain["workload"]), faults, plain.get("seed", 0), plain.get("point"), spec, geometry)


def applicable(workload: Sequence[str], geometry: str = DEFAULT) -> bool:
    """True when a memory can live through all of it."""
    moment = first_moment(GEOMETRIES[geometry].parameters)
    for place, word in enumerate(workload):
        found = advance(moment, word, place)
        if found is None:
            return False
        moment = found[0]
    return True


def workloads(length: int, words: Sequence[str] = OPERATIONS, geometry: str = DEFAULT) -> Iterator[tuple[str, ...]]:
    """Every applicable workload of exactly this length, in a fixed order."""
    return (each for each in itertools.product(words, repeat=length) if applicable(each, geometry))


def random_workload(random: np.random.Generator, length: int, geometry: str = DEFAULT) -> tuple[str, ...]:
    """A seeded workload in which most operations write."""
    weights = np.array([3.0] * len(MUTATIONS) + [1.5] * len(NEUTRAL))
    moment = first_moment(GEOMETRIES[geometry].parameters)
    found: list[str] = []
    while len(found) < length:
        word = str(random.choice(OPERATIONS, p=weights / weights.sum()))
        after = advance(moment, word, len(found))
        if after is not None:
            moment = after[0]
            found.append(word)
    return tuple(found)
