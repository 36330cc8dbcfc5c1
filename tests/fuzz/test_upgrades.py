"""An upgrade of a v3 file survives every crash and every fault, and the harness that says so finds planted bugs.

Red when a crash leaves a half-made v4 memory or a changed v3 file, when doing it again does not end in the upgraded
memory, when an acknowledged step is lost, or when one of the bugs below is not found.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

import pytest

from emm.memory import opening, upgrading
from emm.state import empty_state
from emm.storage.snapshot_file import publish_snapshot
from emm.vfs import local
from emm.vfs.handles import OwnedFile
from emm.vfs.local import LocalDirectory
from emm_fuzz import upgrades
from emm_fuzz.upgrades import TARGETS, explore, specimen

WORDS = list(TARGETS)


@pytest.mark.parametrize("word", WORDS)
def test_no_crash_and_no_fault_breaks_an_upgrade(word: str) -> None:
    tally = explore(word, specimen())
    assert tally.violations == []
    assert tally.points >= 8 and tally.faults >= 40 and tally.distinct >= 4 and tally.again >= 50


Plant = Callable[[pytest.MonkeyPatch], None]


def two_steps(patch: pytest.MonkeyPatch) -> None:
    """First an empty memory, then the upgraded state."""

    def publish(directory, snapshot):
        parameters = snapshot.state.parameters
        publish_snapshot(directory, replace(snapshot, state=empty_state(parameters)))
        return publish_snapshot(directory, replace(snapshot, generation=2, lineage=replace(
            snapshot.lineage, floor_generation=2)))  # fmt: skip

    patch.setattr(opening, "publish_snapshot", publish)


def unsynced_bytes(patch: pytest.MonkeyPatch) -> None:
    """The name before the bytes are durable."""

    def write(self, temporary, chunks, directory):
        fd = local.os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=directory)
        size = sum(local.write_all(fd, chunk) for chunk in chunks)
        status = local.os.fstat(fd)
        local.os.close(fd)
        return OwnedFile(status.st_dev, status.st_ino, size)

    patch.setattr(LocalDirectory, "_write_temporary", write)


def not_whole(patch: pytest.MonkeyPatch) -> None:
    """Under the final name from the first byte on."""

    def publish(self, name, chunks):
        directory = self._directory_fd()
        self._owned[name] = self._write_temporary(name, chunks, directory)
        local.os.fsync(directory)

    patch.setattr(LocalDirectory, "publish", publish)


def source_removed(patch: pytest.MonkeyPatch) -> None:
    """The v3 file goes once the memory is there."""
    publish = opening.upgrade

    def upgrade(plan):
        memory = publish(plan)
        LocalDirectory("/lab").remove("cell.v3")
        return memory

    patch.setattr(opening, "upgrade", upgrade)
    patch.setattr(upgrades, "upgrade", upgrade)


def never_done(patch: pytest.MonkeyPatch) -> None:
    """An upgrade that is there is not recognised."""
    patch.setattr(upgrading, "_is_done", lambda target, source, pairs: False)


@pytest.mark.parametrize("plant", [two_steps, unsynced_bytes, not_whole, source_removed, never_done])
def test_planted_bugs_are_found(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    assert explore("upgrade", specimen()).violations
