"""What kills mutants: crash exploration, faults, damage, and the contract of the vfs, each as one value.

Purpose: a killer is data that a person can read (`explored("write")`). Invariants: it returns the first violation as
text and None when everything is well, which it must be without a mutant.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import emm
from emm.errors import EmmError
from emm.storage.checkpoint import prune
from emm.testing import DirectoryContract
from emm.vfs.local import LocalDirectory
from emm.vfs.protocol import Directory
from emm_fuzz.cases import Case, State, step_for
from emm_fuzz.crash_states import LIGHT
from emm_fuzz.damage import Damage, Scene, notice, scene
from emm_fuzz.explore import Explorer
from emm_fuzz.judge import PATH, ViolationError, name, read, state_of
from emm_fuzz.readers import read_beside
from emm_fuzz.simulated_disk import Fault, SimulatedDisk
from emm_fuzz.simulated_os import mounted
from emm_fuzz.workload import perform


@dataclass(frozen=True, slots=True)
class Killer:
    """`run` returns the first violation that it sees, or None; equal labels do equal things."""

    label: str
    run: Callable[[], str | None] = field(compare=False)


def _first(explorer: Explorer) -> str | None:
    for case, message in explorer.tally.violations:
        if message.startswith("NameError"):  # the patch is wrong, not the library
            raise LookupError(message)
        return f"{message} | {case.to_json()}"
    return None


_numbers = itertools.count(1)


def _text(workload: tuple[str, ...]) -> str:
    return " ".join(workload) or "create"


def explored(*workload: str, fault: tuple[str, int, str] | None = None) -> Killer:
    """Every crash image of one workload, perhaps with one fault in it."""

    def kill() -> str | None:
        explorer = Explorer(LIGHT, stop_at_first=True)
        explorer.run(Case(workload, () if fault is None else (Fault(*fault),)))
        return _first(explorer)

    return Killer(f"crashes in {_text(workload)}" + (f", {fault[0]} {fault[1]} {fault[2]}" if fault else ""), kill)


def faulted(*workload: str, calls: tuple[str, ...] = ()) -> Killer:
    """One workload with every fault of every call, or of these."""

    def kill() -> str | None:
        explorer = Explorer(LIGHT, stop_at_first=True)
        explorer.run_faults(workload, calls=calls)
        return _first(explorer)

    return Killer(f"every {' '.join((*calls, 'fault'))} in {_text(workload)}", kill)


def damaged(*workload: str, by: Damage, must_refuse: bool = False, then: str = "notice") -> Killer:
    """What a workload leaves, damaged: somebody must notice; with `then="prune"` a prune must keep what is whole."""

    def kill() -> str | None:
        found = scene(*workload)
        files = by(found.files)
        assert files != found.files
        try:
            if then == "prune":
                _prune_keeps(Scene(files, found.moment))
            else:
                notice(Scene(files, found.moment), recovery_must_refuse=must_refuse)
        except ViolationError as error:
            return str(error)
        return None

    return Killer(f"damage {next(_numbers)} after {_text(workload)}", kill)


def _prune_keeps(after: Scene) -> None:
    """A prune beside a damaged newest snapshot refuses, or leaves enough to recover from."""
    with mounted(SimulatedDisk.holding(PATH, after.files)):
        directory = LocalDirectory(PATH)
        with contextlib.suppress(EmmError):
            prune(directory, keep=1)
        left = {each: directory.read_at(each, 0, directory.size(each)) for each in directory.list()}
        directory.close()
    read(left, {after.moment.state: after.moment})


def beside(*workload: str) -> Killer:
    """Readers and verify while a writer lives through a workload."""

    def kill() -> str | None:
        return next(iter(read_beside(workload, samples=50).violations), None)

    return Killer(f"readers beside {_text(workload)}", kill)


class _Interrupted(SimulatedDisk):
    """A disk on which another process opens, writes and closes just before the first one gets its lock."""

    newest: State | None = None  # what the other one acknowledged

    def flock(self, fd: int) -> None:
        if self.newest is None:
            self.newest = 0, ""
            pid, self.pid = self.pid, self.pid + 500
            with emm.open(PATH, "a") as other:
                perform(other, step_for(0, "write", 997))
                self.newest = state_of(other)
            self.pid = pid
        super().flock(fd)


def overtaken() -> Killer:
    """A writer opens, another one is faster: the first must see what that one wrote, or be fenced."""

    def kill() -> str | None:
        found = scene("write", "close")
        with mounted(_Interrupted.holding(PATH, found.files)) as disk:
            assert isinstance(disk, _Interrupted)
            try:
                state = state_of(emm.open(PATH, "a"))
            except EmmError:
                return None
            finally:
                disk.kill()
        behind = state != disk.newest
        return f"a writer opened {name(state)} after {name(disk.newest)} was acknowledged" if behind else None

    return Killer("a writer that is overtaken while it opens", kill)


def believed(*workload: str, with_: Damage) -> Killer:
    """What a workload leaves, with bytes beside it that prove nothing: it must open as it is."""

    def kill() -> str | None:
        found = scene(*workload)
        with mounted(SimulatedDisk.holding(PATH, with_(found.files))) as disk:
            try:
                memory = emm.open(PATH, "a")
                state = memory.lsn, memory.digest
            except EmmError as error:
                return f"refused: {error}"
            finally:
                disk.kill()
        return None if state == found.moment.state else f"opened lsn {state[0]}"

    return Killer(f"leftovers after {_text(workload)}", kill)


class _Contract(DirectoryContract):
    _count = 0

    def fresh_directory(self) -> Directory:
        self._count += 1
        return LocalDirectory(f"/lab/{self._count}")

    def same_directory(self, directory: Directory) -> Directory:
        return LocalDirectory(directory.url)


def contract(test: str) -> Killer:
    """One test of the vfs contract, on the simulated disk."""

    def kill() -> str | None:
        with mounted(SimulatedDisk()) as disk:
            try:
                getattr(_Contract(), test)()
            except (AssertionError, EmmError) as error:
                return f"{test}: {error}"
            finally:
                disk.kill()
        return None

    return Killer(f"contract {test}", kill)
