"""A medium that fails at the n-th change, for every n of a whole session.

After the failure the handle refuses everything; opened again, the memory holds every acknowledged commit and its digest
is one that an uninterrupted life has. Red when a failed append or sync is retried, when state and log may differ after
a failure, when a snapshot is published before its segment is sealed, or when a failure of close keeps the lock.
"""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import emm
from emm.errors import ClosedError, EmmError, StorageError
from emm.memory import opening
from emm.storage.journal_writer import JournalWriter
from emm.storage.recovery import recover
from emm.vfs.local import LocalDirectory
from tests.storage.faulty import HOWS, FaultyDirectory
from tests.storage.lab import DIM, RANK, batch

KEY_DIM = 64
Acknowledge = Callable[[emm.Memory], None]


def pairs(seed: int) -> tuple[np.ndarray, np.ndarray]:
    keys, values = batch(seed, 6, KEY_DIM)
    return keys / 4, values


def session(url: str, acknowledge: Acknowledge) -> None:
    """Create, write, unlearn, checkpoint, expand, prune, reopen, close; `acknowledge` after each that returned."""
    memory = emm.create(url, dim=DIM, rank=RANK, key_dim=KEY_DIM, expand_at=0.0)
    with memory:
        acknowledge(memory)
        for seed in range(3):
            memory.write(*pairs(seed))
            acknowledge(memory)
        memory.checkpoint()
        acknowledge(memory)
        keys, values = pairs(1)
        memory.unlearn(keys[:2], values[:2])
        acknowledge(memory)
        memory.expand(32)
        acknowledge(memory)
        memory.forget(pairs(2)[0][:1])
        acknowledge(memory)
        memory.checkpoint()
        acknowledge(memory)
        memory.prune(keep=1)
        acknowledge(memory)
    with emm.open(url, "a") as memory:
        memory.write(*pairs(7))
        acknowledge(memory)


Moment = tuple[int, int, str]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> list[Moment]:
    """(lsn, rank, digest) of every acknowledged moment."""
    seen: list[Moment] = []
    session(str(tmp_path_factory.mktemp("whole") / "memory"), lambda memory: seen.append(moment(memory)))
    return seen


def moment(memory: emm.Memory) -> Moment:
    return memory.lsn, memory.rank, memory.digest


def check_what_is_left(url: str, acknowledged: list[Moment], whole: list[Moment]) -> None:
    """Everything acknowledged is there, in both modes; a second opening for append finds nothing to mend."""
    if not acknowledged:
        return
    for mode in ("r", "a", "r"):
        with emm.open(url, mode) as memory:
            assert moment(memory) in whole
            assert moment(memory)[:2] >= acknowledged[-1][:2], (mode, acknowledged[-1])
    assert emm.verify(url).exit_code == 0


@pytest.mark.parametrize("how", HOWS)
def test_failure_of_any_single_change_loses_nothing_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uninterrupted: list[Moment], how: str
) -> None:
    for fail_at in range(1, 200):
        url = str(tmp_path / f"{how}-{fail_at}")
        made: list[FaultyDirectory] = []

        def open_faulty(location: str, made: list[FaultyDirectory] = made, fail_at: int = fail_at) -> FaultyDirectory:
            done = sum(directory.changes for directory in made)
            made.append(FaultyDirectory(location, max(0, fail_at - done), how))
            return made[-1]

        seen: list[Moment] = []
        handles: list[emm.Memory] = []

        def acknowledge(memory: emm.Memory, seen: list[Moment] = seen, handles: list[emm.Memory] = handles) -> None:
            seen.append(moment(memory))
            handles[:] = [memory]

        monkeypatch.setattr(opening, "open_directory", open_faulty)
        failed = False
        try:
            session(url, acknowledge)
        except StorageError:
            failed = True
        finally:
            monkeypatch.undo()
        if not failed:
            assert seen == uninterrupted
            assert fail_at > 30, made[0].log
            return
        for memory in handles:
            with pytest.raises(ClosedError):
                memory.write(*batch(50, key_dim=KEY_DIM))
            memory.close()
        check_what_is_left(url, seen, uninterrupted)
    pytest.fail("the session never came to its end")


@pytest.mark.parametrize("what", ["append", "sync"])
@pytest.mark.parametrize("how", HOWS)
def test_failed_write_poisons_the_handle_and_is_never_retried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, how: str
) -> None:
    url = str(tmp_path / "memory")
    emm.create(url, dim=DIM, rank=RANK, key_dim=KEY_DIM).close()
    directory = FaultyDirectory(url, 0, how)
    monkeypatch.setattr(opening, "open_directory", lambda _: directory)
    memory = emm.open(url, "a")
    memory.write(*batch(0, key_dim=KEY_DIM))
    acknowledged = moment(memory)
    directory.fail_at = directory.changes + (1 if what == "append" else 2)
    with pytest.raises(StorageError, match="the medium says no"):
        memory.write(*batch(1, key_dim=KEY_DIM))
    changes = directory.changes
    refusals: list[Callable[[], object]] = [
        lambda: memory.write(*batch(2, key_dim=KEY_DIM)),
        memory.checkpoint,
        memory.prune,
        lambda: memory.expand(32),
        lambda: memory.recall(batch(0, key_dim=KEY_DIM)[0]),
        lambda: memory.digest,
        lambda: memory.matrix,
    ]
    for act in refusals:
        with pytest.raises(ClosedError):
            act()
    memory.close()
    memory.close()
    assert directory.changes == changes, "nothing may be written after a failed write"
    monkeypatch.undo()
    with emm.open(url, "a") as again:
        assert again.lsn in (1, 2) and (again.lsn == 2 or moment(again) == acknowledged)


def test_interrupt_in_the_middle_of_a_write_breaks_the_handle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C between applying and logging once left a state that the log does not have, and a handle that went on."""
    url = str(tmp_path / "memory")
    memory = emm.create(url, dim=DIM, rank=RANK, key_dim=KEY_DIM)
    memory.write(*batch(0, key_dim=KEY_DIM))
    acknowledged = moment(memory)

    from emm.storage import replay

    real = replay.kernel.write

    def interrupted(*arguments: object) -> object:
        real(*arguments)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(replay.kernel, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        memory.write(*batch(1, key_dim=KEY_DIM))
    monkeypatch.undo()
    with pytest.raises(ClosedError):
        memory.write(*batch(2, key_dim=KEY_DIM))
    memory.close()
    assert recover(LocalDirectory(url)).clean, "the log was not touched by it, and is sealed"
    with emm.open(url) as again:
        assert moment(again) == acknowledged


def test_interrupt_inside_an_append_is_not_followed_by_a_seal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A seal behind half a record would prove an LSN in a segment whose end is unknown."""
    url = str(tmp_path / "memory")
    memory = emm.create(url, dim=DIM, rank=RANK, key_dim=KEY_DIM)
    memory.write(*batch(0, key_dim=KEY_DIM))
    acknowledged = moment(memory)
    writer = memory._session._writer
    assert isinstance(writer, JournalWriter) and writer._appender is not None
    appender = writer._appender

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(appender, "sync", interrupted, raising=False)
    with pytest.raises(KeyboardInterrupt):
        memory.write(*batch(1, key_dim=KEY_DIM))
    size = (tmp_path / "memory" / "0000000000000001.wal").stat().st_size
    memory.close()
    assert (tmp_path / "memory" / "0000000000000001.wal").stat().st_size == size
    with emm.open(url, "a") as again:
        assert again.lsn in (1, 2) and (again.lsn == 2 or moment(again) == acknowledged)


def test_full_disk_loses_nothing_acknowledged(tmp_path: Path, uninterrupted: list[Moment]) -> None:
    """A real limit on file size (RLIMIT_FSIZE) stands in for a full disk: writes come back short, then fail."""
    for limit in (100, 128, 300, 1000, 2000, 4096, 20_000, 70_000, 70_100):
        url = str(tmp_path / f"limit-{limit}")
        read_end, write_end = os.pipe()
        pid = os.fork()
        if pid == 0:
            status = 2
            try:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

                def acknowledge(memory: emm.Memory, write_end: int = write_end) -> None:
                    os.write(write_end, f"{memory.lsn} {memory.rank} {memory.digest}\n".encode())

                session(url, acknowledge)
                status = 0
            except EmmError:
                status = 1
            finally:
                os._exit(status)
        os.close(write_end)
        with os.fdopen(read_end) as pipe:
            lines = [line.split() for line in pipe]
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) in (0, 1)
        seen = [(int(lsn), int(rank), digest) for lsn, rank, digest in lines]
        check_what_is_left(url, seen, uninterrupted)


def test_read_only_failure_at_open_releases_lock_and_descriptors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = str(tmp_path / "memory")
    with emm.create(url, dim=DIM, rank=RANK, key_dim=KEY_DIM) as memory:
        memory.write(*batch(0, key_dim=KEY_DIM))
        import shutil

        shutil.copytree(url, str(tmp_path / "crashed"))
    crashed = str(tmp_path / "crashed")
    directory = FaultyDirectory(crashed, 1, "before")  # the re-logged segment cannot be published
    monkeypatch.setattr(opening, "open_directory", lambda _: directory)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(StorageError):
        emm.open(crashed, "a")
    monkeypatch.undo()
    assert len(os.listdir("/proc/self/fd")) == before
    with emm.open(crashed, "a") as memory:
        assert memory.lsn == 1
