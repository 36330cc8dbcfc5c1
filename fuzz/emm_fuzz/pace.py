"""How long the acts of a writer take on this machine, learnt while it is killed.

Purpose: a kill should come while the act goes on, and how long that takes differs by a thousand between machines.
Invariants: it decides when a signal is sent, never what is judged.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Final

from emm_fuzz.fork_server import Line

_FRESHNESS: Final = 0.25  # how much of the newest duration goes into the usual one


class Pace:
    """Usual durations in seconds, by what a writer told when it began."""

    def __init__(self, first_s: float) -> None:
        self._first_s = first_s  # of an act that was not seen to end yet
        self._usual: dict[str, float] = {}

    def of(self, act: str) -> float:
        return self._usual.get(act, self._first_s)

    def learn(self, lines: Sequence[Line]) -> None:
        """From what one writer told after another of its lines: that is how long the first act took."""
        for line, after in itertools.pairwise(lines):
            if line.pid == after.pid:
                took = (after.at_ns - line.at_ns) * 1e-9
                usual = self._usual.get(line.text, took)
                self._usual[line.text] = usual + _FRESHNESS * (took - usual)
