"""What kills mutants: crash exploration, faults, damage, and the contract of the vfs, each as one value.

Purpose: a killer is data that a person can read (`explored("write")`). Invariants: it returns the first violation as
text and None when everything is well, which it must be without a mutant.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from unittest import mock

import emm
from emm.errors import EmmError, StorageError
from emm.storage import session
from emm.storage.checkpoint import prune
from emm.storage.names import segment_name
from emm.storage.recovery import recover
from emm.testing import DirectoryContract
from emm.vfs.local import LocalDirectory
from emm.vfs.protocol import Directory
from emm_fuzz.cases import Case
from emm_fuzz.crash_states import LIGHT, QUICK
from emm_fuzz.damage import Damage, Files, Scene, notice
from emm_fuzz.deterministic import TIME_US, deterministic
from emm_fuzz.explore import Explorer
from emm_fuzz.geometry import DEFAULT
from emm_fuzz.judge import PATH, ViolationError, read
from emm_fuzz.memo import ImageDirectory
from emm_fuzz.readers import read_beside
from emm_fuzz.record import Record
from emm_fuzz.runs import Run
from emm_fuzz.simulated_disk import SimulatedDisk
from emm_fuzz.simulated_os import mounted


@dataclass(frozen=True, slots=True)
class Killer:
    """`run` returns the first violation that it sees, or None; equal labels do equal things."""

    label: str
    run: Callable[[], str | None] = field(compare=False)


def _first(explorer: Explorer) -> str | None:
    for case, message in explorer.tally.violations:
        if message.startswith(("NameError", "UnboundLocalError", "AttributeError", "TypeError")):  # a wrong patch
            raise LookupError(message)
        return f"{message} | {case.to_json()}"
    return None


def _text(workload: tuple[str, ...], geometry: str = DEFAULT) -> str:
    return (" ".join(workload) or "create") + (f" ({geometry})" if geometry != DEFAULT else "")


def explored(*workload: str, geometry: str = DEFAULT) -> Killer:
    """Every crash image in the last operation of a workload, and in the recovery from each."""

    def kill() -> str | None:
        explorer = Explorer(LIGHT, stop_at_first=True)
        explorer.run(Case(workload, geometry=geometry), last_only=True)
        return _first(explorer)

    return Killer(f"crashes in {_text(workload, geometry)}", kill)


def faulted(*workload: str, calls: tuple[str, ...] = ()) -> Killer:
    """One workload with every fault of every call, or of these."""

    def kill() -> str | None:
        explorer = Explorer(LIGHT, stop_at_first=True)
        explorer.run_faults(workload, calls=calls)
        return _first(explorer)

    return Killer(f"every {' '.join((*calls, 'fault'))} in {_text(workload)}", kill)


def damaged(
    *workload: str, by: Damage, what: str, must_refuse: bool = False, then: str = "notice", geometry: str = DEFAULT
) -> Killer:
    """What a workload leaves, damaged: somebody must notice; with `then="prune"` a prune must keep what is whole.

    `what` says in words what `by` does; with `must_refuse` it is not enough that verify speaks of it.
    """

    def kill() -> str | None:
        found = left_by(*workload, geometry=geometry)
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

    return Killer(f"{what} after {_text(workload, geometry)}" + (", then a prune" if then == "prune" else ""), kill)


def left_by(*workload: str, geometry: str = DEFAULT) -> Scene:
    """What lies on the disk when the process of a workload ends."""
    with deterministic() as source:
        run = Run(Record(QUICK), Case(workload, geometry=geometry), source, last_only=False, blind=True)
        run.go()
        return Scene(run.files(), run.moment)


def _prune_keeps(after: Scene) -> None:
    """A prune beside a damaged newest snapshot refuses, or leaves enough to recover from."""
    with mounted(SimulatedDisk.holding(PATH, after.files)):
        directory = LocalDirectory(PATH)
        with contextlib.suppress(EmmError):
            prune(directory, keep=1)
        left = {each: directory.read_at(each, 0, directory.size(each)) for each in directory.list()}
        directory.close()
    read(left, {after.moment.state: after.moment})


class _BadSector(ImageDirectory):
    """One byte of one file cannot be read, at the first attempts."""

    def __init__(self, files: Files, bad: tuple[str, int], attempts: int) -> None:
        super().__init__(files, PATH)
        self._bad, self._left = bad, attempts

    def read_at(self, name: str, offset: int, length: int) -> bytes:
        if name == self._bad[0] and offset <= self._bad[1] < offset + length and self._left:
            self._left -= 1
            raise StorageError("cannot read: a bad sector", file=f"{PATH}/{name}")
        return super().read_at(name, offset, length)


def unreadable(*workload: str, segment: int, offset: int, attempts: int) -> Killer:
    """What a workload leaves, with a bad sector in it: a reader may fail, but not find less than there was."""

    def kill() -> str | None:
        found = left_by(*workload)
        try:
            recovered = recover(_BadSector(found.files, (segment_name(segment), offset), attempts))
        except EmmError:
            return None
        behind = recovered.lsn != found.moment.lsn
        return f"recovered lsn {recovered.lsn} of {found.moment.lsn}" if behind else None

    what = f"a sector of segment {segment} that fails {attempts} times"
    return Killer(f"{what} after {_text(workload)}", kill)


def beside(*workload: str) -> Killer:
    """Readers and verify while a writer lives through a workload."""

    def kill() -> str | None:
        return next(iter(read_beside(workload, samples=10, calls_max=24).violations), None)

    return Killer(f"readers beside {_text(workload)}", kill)


def clock_set_back(*workload: str) -> Killer:
    """A life in which the clock only goes backwards: what is newest must not depend on it."""

    def kill() -> str | None:
        with deterministic() as source, mock.patch.object(session, "now_us", lambda: TIME_US - source.now_us()):
            run = Run(Record(QUICK), Case(workload), source, last_only=False, blind=True)
            run.go()
            try:
                read(run.files(), {run.moment.state: run.moment})
            except ViolationError as error:
                return str(error)
        return None

    return Killer(f"a clock that goes backwards in {_text(workload)}", kill)


def believed(*workload: str, with_: Damage, what: str) -> Killer:
    """What a workload leaves, with bytes beside it that prove nothing: it must open as it is."""

    def kill() -> str | None:
        found = left_by(*workload)
        with mounted(SimulatedDisk.holding(PATH, with_(found.files))) as disk:
            try:
                memory = emm.open(PATH, "a")
                state = memory.lsn, memory.digest
            except EmmError as error:
                return f"refused: {error}"
            finally:
                disk.kill()
        return None if state == found.moment.state else f"opened lsn {state[0]}"

    return Killer(f"{what} after {_text(workload)}", kill)


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
