"""Time, and how much of it (and of writing) a dream may take.

Purpose: every loop of a dream asks the budget between its steps, so a dream stops soon after its time is up or somebody
needs the machine. Invariants: stopping is an exception that changes nothing by itself; what was recorded before it
is where the next dream goes on; no clock is read but the one that was given.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from emm_engine.documents import utc_text


class Clock(Protocol):
    """What a dream knows of time."""

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back."""
        ...

    def utc(self) -> str:
        """`YYYY-MM-DDTHH:MM:SSZ`."""
        ...

    def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's clock."""

    def monotonic(self) -> float:
        return time.monotonic()

    def utc(self) -> str:
        return utc_text(datetime.now(UTC))

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class Paused(Exception):
    """The dream stops here and goes on another time."""


class Yielded(Exception):
    """The dream's work is void: the memory is no longer what it was when the dream read it."""


class Budget:
    """What is left for one cycle."""

    def __init__(
        self,
        clock: Clock,
        seconds: float | None = None,
        writes: int | None = None,
        disturbed: Callable[[], str | None] = lambda: None,
    ) -> None:
        self.clock = clock
        self._disturbed = disturbed  # why the machine is needed by somebody else, if it is
        self._seconds = seconds
        self._started = clock.monotonic()
        self.writes_max = writes

    def elapsed(self) -> float:
        return self.clock.monotonic() - self._started

    def check(self) -> None:
        """Raise `Paused` when time is up or the machine is needed."""
        if self._seconds is not None and self.elapsed() >= self._seconds:
            raise Paused(f"its time of {self._seconds:g} s is up")
        reason = self._disturbed()
        if reason is not None:
            raise Paused(reason)
