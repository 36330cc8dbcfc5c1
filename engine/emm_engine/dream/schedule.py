"""When to dream: in idle time, for as long as nobody else needs the machine.

Purpose: look, wait, dream, and give way. The machine is idle when nobody has used the archive for a while and its load
is low; a dream stops between two steps as soon as somebody does, and goes on where it was when it is quiet again.
Invariants: all time comes from the clock that was given, so a night passes in a test at once; a run that cannot be
dreamt about is said and does not end the watch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import emm
from emm_engine.dream.activity import Activity
from emm_engine.dream.budget import Budget, Clock
from emm_engine.dream.dreamer import Dreamer
from emm_engine.dream.reports import DreamReport
from emm_engine.hierarchy import Place


@dataclass(frozen=True, slots=True)
class Policy:
    """When it is idle, and what a cycle may take."""

    quiet_seconds: float = 300.0  # since anybody asked or ingested
    load_max: float = 0.7  # of the last minute, for each processor
    poll_seconds: float = 5.0
    seconds: float | None = 300.0  # of one cycle at a time
    writes: int | None = None  # pairs that one cycle may write


def load_average() -> float:
    """Processes that ran or wanted to, in the last minute, for each processor this process may use."""
    return os.getloadavg()[0] / max(len(os.sched_getaffinity(0)), 1)


class Scheduler:
    """Watches one archive."""

    def __init__(
        self,
        dreamer: Dreamer,
        activity: Activity,
        clock: Clock,
        policy: Policy,
        place: Place | None = None,
        load: Callable[[], float] = load_average,
    ) -> None:
        self._dreamer = dreamer
        self._activity = activity
        self._clock = clock
        self._policy = policy
        self._place = place
        self._load = load
        self._mark = activity.mark()
        self._quiet_since = clock.monotonic()

    def is_quiet(self) -> bool:
        """Nobody has used the archive for a while."""
        mark, now = self._activity.mark(), self._clock.monotonic()
        if mark != self._mark:
            self._mark, self._quiet_since = mark, now
        return now - self._quiet_since >= self._policy.quiet_seconds

    def step(self) -> Iterator[DreamReport]:
        """One look: the dreams that are due, when it is quiet and the machine has little to do."""
        if self.is_quiet() and self._load() <= self._policy.load_max:
            yield from self._dreamer.dream(self._budget, self._place)

    def follow(self, go_on: Callable[[], bool], tell: Callable[[str], None]) -> Iterator[DreamReport]:
        """Look again and again, as long as `go_on` says so; `tell` hears of what could not be done."""
        while go_on():
            try:
                yield from self.step()
            except emm.EmmError as error:
                tell(str(error))
            self._clock.sleep(self._policy.poll_seconds)

    def _budget(self) -> Budget:
        return Budget(self._clock, self._policy.seconds, self._policy.writes, self._disturbed)

    def _disturbed(self) -> str | None:
        return None if self.is_quiet() else "the archive is in use"
