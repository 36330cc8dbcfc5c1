"""Counting crash states, first crashes and nested ones by the same rules.

Purpose: raw and distinct, exhaustive, sampled and torn are counted apart and never mixed; what a bound left out is
counted as well. Invariants: a state is distinct when no other had the same key (visible bytes and states allowed);
`distinct` is the sum of what `why` counts, so nothing is counted without a reason; only `is_new` changes a number.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from emm_fuzz.crash_states import Bounds, Chosen


@dataclass(slots=True)
class States:
    """What was built and what was judged."""

    raw: int = 0
    why: Counter[str] = field(default_factory=Counter)  # distinct ones that are exhaustive, sampled, torn
    left_out: int = 0  # prefixes, drops and tears that `Bounds` left out at points with many units
    cut: int = 0  # states that were built and not judged, because their workload had used up `states_max`
    seen: set[bytes] = field(default_factory=set)
    _room: int = 1 << 62

    @property
    def distinct(self) -> int:
        return self.why.total()

    def begin(self, bounds: Bounds) -> None:
        """Another workload begins."""
        self._room = bounds.states_max

    def is_new(self, key: bytes, chosen: Chosen) -> bool:
        """True when this state is to be judged: it was not before, and its workload has not had enough."""
        self.raw += 1
        self.left_out += chosen.left_out
        if key in self.seen:
            return False
        if self._room == 0:
            self.cut += 1
            return False
        self._room -= 1
        self.seen.add(key)
        self.why[chosen.why] += 1
        return True

    def to_dict(self) -> dict[str, int]:
        kinds = {kind: self.why[kind] for kind in ("exhaustive", "sampled", "torn")}
        return {"raw": self.raw, "distinct": self.distinct, **kinds, "left_out": self.left_out, "cut": self.cut}
