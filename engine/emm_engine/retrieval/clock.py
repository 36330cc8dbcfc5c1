"""How long each step of an answer took.

Purpose: milliseconds by name, for a person and for benchmarks. Invariant: the steps follow each other and leave nothing
out, so a recall that runs beside another shows only what had to be waited for.
"""

from __future__ import annotations

import time


class Clock:
    """Started when it is made."""

    def __init__(self) -> None:
        self._marks: dict[str, float] = {}
        self._started = self._last = time.perf_counter()

    def mark(self, name: str) -> None:
        """The step that ends now; one that is taken up again goes on."""
        now = time.perf_counter()
        self._marks[name] = self._marks.get(name, 0.0) + _ms(now - self._last)
        self._last = now

    def total(self) -> dict[str, float]:
        """All of it, with the whole time as `total`."""
        return {**self._marks, "total": _ms(time.perf_counter() - self._started)}


def _ms(seconds: float) -> float:
    return round(1000.0 * seconds, 3)
