"""How long each step of an answer took.

Purpose: milliseconds by name, for a person and for benchmarks. Invariants: steps of one thread follow each other and
leave nothing out; what runs beside them is measured by itself.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Started when it is made."""

    def __init__(self) -> None:
        self._marks: dict[str, float] = {}
        self._started = self._last = time.perf_counter()

    def mark(self, name: str) -> None:
        """The step that ends now."""
        now = time.perf_counter()
        self._marks[name] = _ms(now - self._last)
        self._last = now

    @contextmanager
    def measuring(self, name: str) -> Iterator[None]:
        """A step in another thread."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._marks[name] = _ms(time.perf_counter() - started)

    def total(self) -> dict[str, float]:
        """All of it, with the whole time as `total`."""
        return {**self._marks, "total": _ms(time.perf_counter() - self._started)}


def _ms(seconds: float) -> float:
    return round(1000.0 * seconds, 3)
