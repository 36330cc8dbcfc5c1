"""Killers that let other processes take part: creators that die or fail, writers that are faster.

Purpose: what no single life shows. Invariants: those of `killers`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import emm
from emm.errors import EmmError, FencedError
from emm_fuzz.cases import State, step_for
from emm_fuzz.crash_states import SECTORS, CrashPoint, Spec
from emm_fuzz.geometry import DEFAULT, GEOMETRIES
from emm_fuzz.judge import PATH, name, state_of
from emm_fuzz.mutants.killers import Killer, left_by
from emm_fuzz.simulated_disk import SimulatedDisk
from emm_fuzz.simulated_os import mounted
from emm_fuzz.workload import Step, perform


class _Dies(BaseException):
    """The process is no more."""


def created_after(*ends: tuple[str, int]) -> Killer:
    """Creators that die, or fail, at their n-th sync; then one that does not: its memory must survive a power cut."""

    def kill() -> str | None:
        with mounted(SimulatedDisk()) as disk:
            for how, nth in ends:
                _end_at(disk, how, nth)
            create()
            disk.on_sync = None
            image = CrashPoint.of(disk, PATH).build(Spec(SECTORS[0], 0))
            disk.kill()
        return "a power cut takes away the memory that was created" if image is None else None

    text = ", ".join(f"one that {how}s at sync {nth}" for how, nth in ends)
    return Killer(f"a creator after {text}", kill)


def _end_at(disk: SimulatedDisk, how: str, nth: int) -> None:
    """A creator that does not get further than its n-th sync."""
    left = nth

    def count_down(kind: str) -> None:
        nonlocal left
        left -= 1
        if left == 0 and how == "die":
            raise _Dies
        if left == 0:
            disk.faults[kind, disk.calls[kind] + 1] = "drop"

    disk.on_sync = count_down
    with contextlib.suppress(_Dies, EmmError):
        create()
    disk.on_sync = None
    disk.kill()


def create() -> emm.Memory:
    return GEOMETRIES[DEFAULT].create(PATH)


class _Interrupted(SimulatedDisk):
    """A disk on which another process does something just before the first one gets its lock, or its next sync."""

    intrude: Callable[[], None] | None = None

    def flock(self, fd: int) -> None:
        self._let_in()
        super().flock(fd)

    def sync(self, fd: int) -> None:
        self._let_in()
        super().sync(fd)

    def _let_in(self) -> None:
        if self.intrude is not None:
            act, self.intrude = self.intrude, None
            pid, self.pid = self.pid, self.pid + 500
            with contextlib.suppress(FencedError):
                act()
            self.pid = pid


def overtaken(*workload: str, while_: str) -> Killer:
    """While a writer "opens" or "closes", another is faster: the one must see what the other wrote, or be fenced."""

    def kill() -> str | None:
        newest: list[State] = []

        def write_beside() -> None:
            with emm.open(PATH, "a") as other:
                perform(other, _step(997))
                newest.append(state_of(other))

        with mounted(_Interrupted.holding(PATH, left_by(*workload).files)) as disk:
            assert isinstance(disk, _Interrupted)
            state: State | None = None
            with contextlib.suppress(EmmError):
                if while_ == "opens":
                    disk.intrude = write_beside
                memory = emm.open(PATH, "a")
                state = state_of(memory)
                if while_ == "closes":
                    perform(memory, _step(996))
                    state = state_of(memory)
                    disk.intrude = write_beside
                    memory.close()
            disk.kill()
        if not newest or state is None or (while_ == "opens" and state == newest[0]):
            return None
        return f"a writer that {while_} has {name(state)}, another one was told that {name(newest[0])} is safe"

    return Killer(f"another writer while one {while_} after {' '.join(workload)}", kill)


def _step(place: int) -> Step:
    return step_for(0, "write", place)
