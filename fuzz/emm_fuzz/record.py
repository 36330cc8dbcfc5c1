"""What a run of the harness has looked at: the numbers, and what need not be looked at again.

Purpose: what an explorer keeps between cases. Invariants: every state that is judged goes through `is_new` and is
counted there; the trace digest depends on the order of what was done and on nothing else.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from emm_fuzz.cases import Case
from emm_fuzz.counts import States
from emm_fuzz.crash_states import Bounds, Chosen
from emm_fuzz.judge import Moments, Nested, state_key


@dataclass(slots=True)
class Tally:
    """What a run looked at."""

    cases: int = 0
    points: int = 0
    first: States = field(default_factory=States)
    nested: Nested = field(default_factory=Nested)
    verdicts: Counter[str] = field(default_factory=Counter)
    killed: int = 0  # processes killed with something in the page cache only
    faults: Counter[str] = field(default_factory=Counter)  # faults that a workload met
    violations: list[tuple[Case, str]] = field(default_factory=list)
    trace: str = ""

    @property
    def raw(self) -> int:
        return self.first.raw

    @property
    def distinct(self) -> int:
        return self.first.distinct

    def to_dict(self) -> dict[str, object]:
        return {
            "cases": self.cases,
            "points": self.points,
            "first": self.first.to_dict(),
            "nested": self.nested.to_dict(),
            "recovered_for_append": self.nested.aftermaths,
            "killed": self.killed,
            "leftovers": self.nested.leftovers,
            "verdicts": dict(sorted(self.verdicts.items())),
            "faults": dict(sorted(self.faults.items())),
            "violations": len(self.violations),
            "trace": self.trace,
        }


class Record:
    """A tally, and the memory that keeps images from being judged twice."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.tally = Tally()
        self._signatures: set[object] = set()
        self._trace = hashlib.sha256()

    def begin(self, case: Case) -> None:
        """Another case begins: it is part of the trace, and may fill its own share of states."""
        self.tally.cases += 1
        self.trace(case.to_json())
        for states in (self.tally.first, self.tally.nested):
            states.begin(case.shape.bounds or self.bounds)

    def trace(self, text: str) -> None:
        self._trace.update(text.encode() + b"\n")
        self.tally.trace = self._trace.hexdigest()[:16]

    def violation(self, case: Case, message: str) -> None:
        self.tally.violations.append((case, message))
        self.trace(message)

    def is_new(self, chosen: Chosen, allowed: Moments) -> bool:
        """True, and counted, when no image like this was judged under these states before."""
        return self.tally.first.is_new(state_key(chosen.image, allowed), chosen)

    def keys(self) -> npt.NDArray[np.uint64]:
        """A hash of every state judged, in first and nested crashes together."""
        seen = (*self.tally.first.seen, *self.tally.nested.seen)
        hashes = (hashlib.blake2b(key, digest_size=8).digest() for key in seen)
        return np.unique(np.frombuffer(b"".join(hashes), np.uint64))

    def is_new_signature(self, signature: object) -> bool:
        before = len(self._signatures)
        self._signatures.add(signature)
        return len(self._signatures) > before
