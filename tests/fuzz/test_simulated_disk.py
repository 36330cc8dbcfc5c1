"""The simulated disk keeps the same contract as the real one, and forgets what a power cut would take.

Red when a name survives without its directory's sync, when data survives without its file's, when a failed sync
keeps what it should drop, or when a lock outlives the process that held it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from emm.errors import ClosedError, FencedError, StorageError
from emm.testing import DirectoryContract
from emm.vfs.local import LocalDirectory
from emm.vfs.protocol import Directory
from emm_fuzz.simulated_disk import Fault, SimulatedDisk
from emm_fuzz.simulated_os import mounted


class TestSimulatedDisk(DirectoryContract):
    @pytest.fixture(autouse=True)
    def disk(self) -> Iterator[SimulatedDisk]:
        self.numbers = itertools.count()
        with mounted(SimulatedDisk()) as disk:
            yield disk

    def fresh_directory(self) -> Directory:
        return LocalDirectory(f"/lab/{next(self.numbers)}")

    def same_directory(self, directory: Directory) -> Directory:
        return LocalDirectory(directory.url)


@pytest.fixture
def disk() -> Iterator[SimulatedDisk]:
    with mounted(SimulatedDisk()) as disk:
        yield disk


def begin(disk: SimulatedDisk, *faults: Fault) -> LocalDirectory:
    directory = LocalDirectory("/m")
    directory.create()
    directory.publish("a.wal", [b"head"])
    disk.calls.clear()
    disk.faults = {(each.call, each.nth): each.how for each in faults}
    return directory


def test_publishing_is_logged_in_the_order_that_makes_it_durable(disk: SimulatedDisk) -> None:
    directory = begin(disk)
    del disk.log[:]
    directory.publish("b.wal", [b"x"])
    verbs = [line.split()[0] for line in disk.log]
    assert verbs == ["link", "write", "fsync", "link", "unlink", "fsync-dir"]


def test_what_was_not_synced_is_seen_but_not_durable(disk: SimulatedDisk) -> None:
    directory = begin(disk)
    appender = directory.open_append("a.wal")
    appender.append(b"one")
    (file,) = disk.files.values()
    assert directory.read_at("a.wal", 0, 7) == b"headone" and file.durable == b"head"
    appender.sync()
    assert file.durable == b"headone" and not file.pending


def test_a_failed_sync_drops_the_data_and_still_shows_it(disk: SimulatedDisk) -> None:
    """What Linux does: the pages are marked clean, a second fsync succeeds, the bytes are lost."""
    directory = begin(disk, Fault("fsync", 1, "drop"))
    appender = directory.open_append("a.wal")
    appender.append(b"one")
    with pytest.raises(StorageError):
        appender.sync()
    with pytest.raises(ClosedError):
        appender.sync()
    appender._poisoned = False  # a caller that retries
    appender.sync()
    assert directory.size("a.wal") == 7
    assert [each.durable for each in disk.files.values()] == [b"head"]


def test_short_writes_are_carried_on(disk: SimulatedDisk) -> None:
    directory = begin(disk, Fault("write", 1, "short"))
    directory.publish("b.wal", [b"12345678"])
    assert directory.read_at("b.wal", 0, 8) == b"12345678"


@pytest.mark.parametrize("how", ["eio", "enospc"])
@pytest.mark.parametrize("call", ["write", "open", "link", "fsync"])
def test_a_publish_that_fails_leaves_nothing(disk: SimulatedDisk, call: str, how: str) -> None:
    directory = begin(disk, Fault(call, 1, how))
    with pytest.raises(StorageError):
        directory.publish("b.wal", [b"12345678"])
    assert directory.list() == ["a.wal"] and disk.faults_met == 1


def test_a_lock_ends_with_its_process(disk: SimulatedDisk) -> None:
    directory = begin(disk)
    lock = directory.lock()
    with pytest.raises(FencedError):
        LocalDirectory("/m").lock()
    disk.kill()
    LocalDirectory("/m").lock().release()
    lock.release()
