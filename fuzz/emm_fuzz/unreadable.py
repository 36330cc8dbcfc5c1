"""A medium that cannot be read: nobody may say that it is damaged, that it is clean, or that it ends there.

Purpose: read errors while a memory is recovered and verified, by the call and by the place on the disk. Invariants: a
reader and a writer give the state that was acknowledged or a `StorageError`; verify says that it could not tell, or,
when it has read every byte all the same (the error met a question for a size), what it says of a healthy memory; once
the medium reads again, everything is there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import emm
from emm.errors import EmmError, StorageError
from emm.verify.verdict import Verdict
from emm_fuzz.damage import Scene
from emm_fuzz.judge import PATH, ViolationError, name, state_of
from emm_fuzz.simulated_disk import SimulatedDisk
from emm_fuzz.simulated_os import mounted

CALLS: Final = ("open", "scandir", "pread")  # what reading consists of; a mapping fails by a signal, not by a call
SECTOR: Final = 4096


@dataclass(slots=True)
class Unreadable:
    """What came of the errors, by who met them."""

    outcomes: Counter[str] = field(default_factory=Counter)


def failing_calls(after: Scene) -> Unreadable:
    """Each call of a reader, a writer and verify fails once."""
    tally = Unreadable()
    for who, act in WHO.items():
        with mounted(_disk(after)) as disk:
            act(after)
            counts = Counter(disk.calls)
            disk.kill()
        for call in CALLS:
            for nth in range(1, counts[call] + 1):
                disk = _disk(after)
                disk.faults[call, nth] = "eio"
                _meet(after, disk, f"{who}, {call} {nth}", who, tally)
    return tally


def bad_sectors(after: Scene, *, sector: int = SECTOR) -> Unreadable:
    """One sector of one file can never be read again; verify at its default depth reads them all."""
    tally = Unreadable()
    for file, at in _sectors(after, sector):
        for who in WHO:
            disk = _disk(after)
            inode = disk.walk(f"{PATH}/{file}")
            assert inode is not None
            disk.unreadable.add((inode, at))
            outcome = _meet(after, disk, f"{who}, byte {at} of {file}", who, tally)
            if who == "verify" and outcome != Verdict.INDETERMINATE:
                raise ViolationError(f"verify says {outcome} though byte {at} of {file} cannot be read")
    return tally


def _disk(after: Scene) -> SimulatedDisk:
    return SimulatedDisk.holding(PATH, after.files)


def _sectors(after: Scene, sector: int) -> Iterator[tuple[str, int]]:
    for file, data in sorted(after.files.items()):
        for start in range(0, len(data), sector):
            yield file, min(len(data) - 1, start + sector // 2)


def _meet(after: Scene, disk: SimulatedDisk, where: str, who: str, tally: Unreadable) -> str:
    """What comes of it; then the medium reads again."""
    with mounted(disk):
        try:
            outcome = WHO[who](after)
        except StorageError as error:
            outcome = type(error).__name__
        except EmmError as error:
            raise ViolationError(f"{where} cannot be read: {type(error).__name__}: {error}") from error
        finally:
            disk.kill()
        disk.unreadable.clear()
        disk.faults.clear()
        _write(after)
        disk.kill()
    tally.outcomes[f"{who}: {outcome}"] += 1
    return outcome


def _read(after: Scene) -> str:
    with emm.open(PATH) as memory:
        return _same(state_of(memory), after)


def _write(after: Scene) -> str:
    return _same(state_of(emm.open(PATH, "a")), after)


def _same(state: tuple[int, str], after: Scene) -> str:
    if state != after.moment.state:
        raise ViolationError(f"{name(state)} was read, {name(after.moment.state)} is there")
    return "the state"


def _verify(after: Scene) -> str:
    report = emm.verify(PATH)
    healthy = report.verdict in (Verdict.CLEAN, Verdict.CLEAN_UNSEALED) and report.coverage.complete
    if not healthy and report.verdict != Verdict.INDETERMINATE:
        raise ViolationError(f"verify says {report.verdict} of a medium that cannot be read")
    return report.verdict


WHO: Final[dict[str, Callable[[Scene], str]]] = {"reader": _read, "writer": _write, "verify": _verify}
