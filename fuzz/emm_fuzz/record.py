"""What a run of the harness has looked at: the numbers, and what need not be looked at again.

Purpose: one place that counts. Invariants: raw and distinct, exhaustive and sampled are counted apart and never mixed;
the trace digest depends on the order of what was done and on nothing else.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from emm_fuzz.cases import Case
from emm_fuzz.crash_states import Bounds, Chosen
from emm_fuzz.judge import Moments, Nested, state_key


@dataclass(slots=True)
class Tally:
    """What a run looked at. `distinct` is the number of different (image, allowed states)."""

    cases: int = 0
    points: int = 0
    raw: int = 0
    distinct: int = 0
    why: Counter[str] = field(default_factory=Counter)  # distinct ones that are exhaustive, sampled, torn
    verdicts: Counter[str] = field(default_factory=Counter)
    killed: int = 0  # processes killed with something in the page cache only
    faults: Counter[str] = field(default_factory=Counter)  # faults that a workload met
    nested: Nested = field(default_factory=Nested)
    violations: list[tuple[Case, str]] = field(default_factory=list)
    trace: str = ""

    def to_dict(self) -> dict[str, object]:
        return {
            "cases": self.cases,
            "points": self.points,
            "raw": self.raw,
            "distinct": self.distinct,
            "exhaustive": self.why["exhaustive"],
            "sampled": self.why["sampled"],
            "torn": self.why["torn"],
            "nested_raw": self.nested.raw,
            "nested_distinct": self.nested.distinct,
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
        self._seen: set[bytes] = set()
        self._signatures: set[object] = set()
        self._trace = hashlib.sha256()

    def trace(self, text: str) -> None:
        self._trace.update(text.encode() + b"\n")
        self.tally.trace = self._trace.hexdigest()[:16]

    def violation(self, case: Case, message: str) -> None:
        self.tally.violations.append((case, message))
        self.trace(message)

    def is_new(self, chosen: Chosen, allowed: Moments) -> bytes | None:
        """A key when no image like this was judged under these states before."""
        key = state_key(chosen.image, allowed)
        if key in self._seen:
            return None
        self._seen.add(key)
        return key

    def keys(self) -> npt.NDArray[np.uint64]:
        """A hash of every state judged, in first and second crashes together."""
        hashes = (hashlib.blake2b(key, digest_size=8).digest() for key in (*self._seen, *self.tally.nested.seen))
        return np.unique(np.frombuffer(b"".join(hashes), np.uint64))

    def is_new_signature(self, signature: object) -> bool:
        before = len(self._signatures)
        self._signatures.add(signature)
        return len(self._signatures) > before
