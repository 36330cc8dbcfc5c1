"""Units that do to a worker what real ones do only by accident, and workers that are no others."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from threadpoolctl import threadpool_limits

from emm import InputError
from emm_engine.scale.unit import Result, Unit, perform, releases


class Here:
    """Workers that are this process: what the others must equal."""

    count = 1

    def results(self, units: Iterable[Unit[Result]]) -> Iterator[Result]:
        for unit in units:
            with threadpool_limits(1):
                yield perform(unit, releases())


@dataclass(frozen=True, slots=True)
class Echo:
    """Gives its number back, later ones sooner."""

    number: int
    seconds: float = 0.0

    @property
    def identity(self) -> str:
        return f"echo-{self.number:064x}"

    def run(self) -> int:
        time.sleep(self.seconds)
        return self.number


@dataclass(frozen=True, slots=True)
class Fatal:
    """Ends the process that runs it."""

    @property
    def identity(self) -> str:
        return "fatal-" + "0" * 64

    def run(self) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return 0


@dataclass(frozen=True, slots=True)
class Failing:
    """Raises: an error of the input, or a fault of ours."""

    expected: bool

    @property
    def identity(self) -> str:
        return "failing-" + "0" * 64

    def run(self) -> int:
        if self.expected:
            raise InputError("this input is refused", expected="another", found=1)
        return 1 // 0
