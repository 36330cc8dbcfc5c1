"""The upgrade of a v3 file on the simulated disk: every moment at which the power could fail, every call that could.

Purpose: the promises of an upgrade. Whatever happens: the v3 file is the same bytes under the same name; the new memory
is whole or not there at all; doing it again ends in the upgraded memory; what was acknowledged is not lost. Invariants:
what a memory must be is known from the v3 file before anything is upgraded; after a violation the search goes on, and
every count says what was looked at.

    python -m emm_fuzz.upgrades
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import numpy as np

import emm
from emm import kernel
from emm.errors import EmmError, MissingError
from emm.memory.upgrading import beside
from emm.storage.names import snapshot_name
from emm.upgrading import plan_upgrade, upgrade
from emm_fuzz.crash_states import QUICK, Bounds, Image, image_hash, images
from emm_fuzz.deterministic import deterministic
from emm_fuzz.explore import HOWS
from emm_fuzz.judge import ViolationError
from emm_fuzz.places import crash_point, visible
from emm_fuzz.simulated_disk import Fault, SimulatedDisk
from emm_fuzz.simulated_os import mounted

LAB: Final = "/lab"
NAME: Final = "cell.v3"
SOURCE: Final = f"{LAB}/{NAME}"
TARGETS: Final = {"upgrade": "/lab/upgraded/cell", "append": beside(SOURCE)}
DIM: Final = 20

Digests = Mapping[str, int]  # the states allowed, and how many of the steps each comes after


@dataclass(slots=True)
class Tally:
    """What was looked at."""

    points: int = 0  # moments before a sync, and the ends
    raw: int = 0  # crash images, with repetitions
    distinct: int = 0  # that differ from one another, at all points together
    again: int = 0  # upgrades done again on what a crash, a kill or a fault left
    faults: int = 0  # runs with one call that failed
    violations: list[str] = field(default_factory=list)


class Upgrades:
    """Runs one word (`upgrade`: as the command does; `append`: opened for append, then written to) in every way."""

    def __init__(self, word: str, data: bytes, bounds: Bounds = QUICK) -> None:
        self.word, self.data, self.bounds = word, data, bounds
        self.target = TARGETS[word]
        self.tally = Tally()
        self._seen: set[tuple[bytes, int]] = set()
        self._acknowledged = 0
        self.digests = self._expected()

    # --- what is done ---------------------------------------------------------------------------

    def disk(self, faults: tuple[Fault, ...] = ()) -> SimulatedDisk:
        """A disk on which the v3 file lies, durable, and nothing else."""
        disk = SimulatedDisk(faults)
        disk.put(LAB, {NAME: self.data})
        return disk

    def act(self, told: Callable[[int], None] = lambda steps: None) -> None:
        """The operation; `told` hears how many steps are acknowledged."""
        if self.word == "upgrade":
            plan = plan_upgrade(SOURCE, self.target)
            if not plan.done:
                upgrade(plan).close()
            told(1)
            return
        with emm.open(SOURCE, "a") as memory:
            told(max(1, self.digests.get(memory.digest, 0)))
            if memory.lsn == 0:
                memory.write(*_pair())
                told(2)

    def _expected(self) -> Digests:
        """Digest of the upgraded memory, and with the pair; made on a disk that nothing befalls."""
        with deterministic(), mounted(self.disk()) as disk:
            with emm.open(SOURCE) as cell:
                first = cell.digest
                state = cell.state()
            found = {first: 1}
            if self.word == "append":
                kernel.write(state, kernel.project(_pair()[0], state.parameters), _pair()[1])
                found[emm.Snapshot(state, 1, 1, bytes(16)).digest.hex()] = 2
            disk.kill()
        return found

    # --- every crash ----------------------------------------------------------------------------

    def crashes(self) -> None:
        """Live through it once, and look at all that a power cut could leave before each sync and at the end."""
        with deterministic():
            disk = self.disk()
            disk.on_sync = lambda call: self._point(disk)
            self._acknowledged = 0
            with mounted(disk):
                self.act(self._told)
            self._point(disk)
            disk.kill()

    def _told(self, steps: int) -> None:
        self._acknowledged = max(self._acknowledged, steps)

    def _point(self, disk: SimulatedDisk) -> None:
        acknowledged = self._acknowledged
        self.tally.points += 1
        self._judged(lambda: check_source(disk, self.data), "the v3 file")
        left = disk.clone()  # the process is killed here: temporary names stay
        self._judged(lambda: self._judge(left, acknowledged), "killed")
        for chosen in images(crash_point(disk, self.target), self.bounds, seed=self.tally.points):
            self.tally.raw += 1
            key = image_hash(chosen.image), acknowledged
            if key not in self._seen:
                self._seen.add(key)
                self.tally.distinct += 1
                self._judged(partial(self._judge, self._holding(chosen.image), acknowledged), f"{chosen.spec}")

    def _holding(self, image: Image) -> SimulatedDisk:
        disk = self.disk()
        if image is not None:
            disk.put(self.target, image)
        return disk

    def _judge(self, disk: SimulatedDisk, acknowledged: int) -> None:
        """What lies there is allowed, and doing it all again ends well."""
        with mounted(disk):
            found = self._found(disk)
            if found < acknowledged:
                raise ViolationError(f"step {acknowledged} was acknowledged, what is there is step {found}")
            self.tally.again += 1
            self.act()
            if self._found(disk) != max(self.digests.values()):
                raise ViolationError("done again, it did not end in the upgraded memory")
            check_source(disk, self.data)
            if emm.verify(self.target, "numeric").exit_code:
                raise ViolationError("the upgraded memory is not clean")
        disk.kill()

    def _found(self, disk: SimulatedDisk) -> int:
        """How many steps the memory at the target comes after; 0: there is none."""
        try:
            with emm.open(self.target) as memory:
                digest = memory.digest
        except MissingError:
            names = sorted(visible(disk, self.target) or ())
            if names:
                raise ViolationError(f"no memory, but {', '.join(names)}") from None
            return 0
        except EmmError as error:
            raise ViolationError(f"a half-made memory: {error}") from None
        if digest not in self.digests:
            raise ViolationError("the memory is not what the v3 file was")
        if snapshot_name(1) not in (visible(disk, self.target) or ()):
            raise ViolationError("the first generation is gone")
        return self.digests[digest]

    # --- every fault ----------------------------------------------------------------------------

    def faults(self) -> None:
        """Once for every call that can fail and every way in which it can; then a new process does it again."""
        with deterministic():
            disk = self.disk()
            with mounted(disk):
                self.act()
            calls = dict(disk.calls)
            disk.kill()
        for call, count in sorted(calls.items()):
            for nth in range(1, count + 1):
                for fault in (Fault(call, nth, how) for how in HOWS.get(call, ())):
                    self.tally.faults += 1
                    self._judged(partial(self._with, fault), f"{call} {nth} {fault.how}")

    def _with(self, fault: Fault) -> None:
        with deterministic():
            disk = self.disk((fault,))
            self._acknowledged = 0
            with mounted(disk):
                with contextlib.suppress(EmmError, OSError):  # a fault may be told; nothing else may happen
                    self.act(self._told)
                check_source(disk, self.data)
                disk.kill()
                disk.faults = {}
            self._judge(disk, self._acknowledged)

    def _judged(self, judge: Callable[[], None], where: str) -> None:
        try:
            judge()
        except Exception as error:  # whatever it is, it is a violation at this point
            self.tally.violations.append(f"{self.word}, point {self.tally.points}, {where}: {error}")


def _pair() -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(11).standard_normal((2, 1, DIM))
    return draw[0].astype(np.float32), draw[1].astype(np.float32)


def check_source(disk: SimulatedDisk, data: bytes) -> None:
    """The v3 file: the same bytes, durable, under its name, and nothing pending about it."""
    folder = disk.walk(LAB)
    inode = disk.walk(SOURCE)
    if folder is None or inode is None or disk.folders[folder].durable.get(NAME) != inode:
        raise ViolationError("the v3 file is not where it was")
    file = disk.files[inode]
    if bytes(file.cache) != data or file.durable != data or file.pending:
        raise ViolationError("the v3 file was written to")
    if any(change.name == NAME for change in disk.folders[folder].pending):
        raise ViolationError("the v3 file's name is about to change")


def specimen() -> bytes:
    """A small v3 file."""
    from spec.vectors.v3 import written  # the writer of v3 lives with the vectors, in a checkout

    return written(DIM, 12).bytes()


def explore(word: str, data: bytes, bounds: Bounds = QUICK) -> Tally:
    """All crashes and all faults of one word."""
    found = Upgrades(word, data, bounds)
    found.crashes()
    found.faults()
    return found.tally


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m emm_fuzz.upgrades", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("word", nargs="*", choices=[*TARGETS, []], help="which operations [default: all]")
    given = parser.parse_args(arguments)
    wrong = 0
    for word in given.word or TARGETS:
        tally = explore(word, specimen())
        wrong += len(tally.violations)
        print(
            f"{word}: {tally.points} points, {tally.raw} crash images ({tally.distinct} distinct), {tally.faults} "
            f"faults, done again {tally.again} times, {len(tally.violations)} violations"
        )
        for each in tally.violations[:10]:
            print(f"  VIOLATION {each}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
