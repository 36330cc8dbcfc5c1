"""Where memories lie during a run, and what a crash may leave of each.

Purpose: an operation may be about several directories (a merge reads two and makes a third). Recovery looks at one
directory, so crash images are built and judged one directory at a time. Invariants: what is pending elsewhere makes no
difference to a place and is left out; a place says what it may hold and how it comes to be when it holds nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import emm
from emm_fuzz.crash_states import CrashPoint, Image
from emm_fuzz.model import Moment, State
from emm_fuzz.simulated_disk import ROOT, SimulatedDisk

PATH: Final = "/lab/chemistry"

Moments = Mapping[State | None, Moment]  # the states allowed, and what each leads on from; None: no memory yet


@dataclass(frozen=True, slots=True)
class Place:
    """One memory directory. `make` brings about the memory that `allowed[None]` names, from those `beside` it."""

    path: str
    allowed: Moments
    make: Callable[[], emm.Memory]
    beside: tuple[str, ...] = ()

    def disk(self, image: Image, now: SimulatedDisk) -> SimulatedDisk:
        """A disk that holds this image, and beside it what `make` needs as it is at present."""
        disk = SimulatedDisk.holding(self.path, image)
        for path in self.beside if image is None or None in self.allowed else ():
            disk.put(path, visible(now, path) or {})
        disk.dropped = now.dropped
        return disk


def crash_point(disk: SimulatedDisk, path: str) -> CrashPoint:
    """What this moment could become, as far as one directory is concerned."""
    point = CrashPoint.of(disk, path)
    folders = {ROOT}
    entries, inodes = [], set[int]()
    for part in path.strip("/").split("/"):
        here = [each for each in point.entries if each.folder in folders and each.change.name == part]
        entries += here
        known = {point.durable_entries[folder][part] for folder in folders if part in point.durable_entries[folder]}
        folders = known | {each.change.inode for each in here if each.change.inode}
    for folder in folders & point.durable_entries.keys():
        inodes.update(point.durable_entries[folder].values())
    here = [each for each in point.entries if each.folder in folders]
    inodes.update(each.change.inode for each in here)
    point.entries = sorted([*entries, *here])
    point.parts = {sector: [each for each in parts if each.inode in inodes] for sector, parts in point.parts.items()}
    return point


def visible(disk: SimulatedDisk, path: str) -> Image:
    """What processes see in a directory."""
    return crash_point(disk, path).build_visible()
