"""A repaired memory appears whole or not at all, and nothing else is ever touched.

Red when a killed repair leaves something under the name, or a hidden directory that opens as less than the whole state;
when a full disk or a failing one leaves debris or no sentence; when a taken name is written to.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import emm
from emm.errors import EmmError, ExistsError, FencedError, InputError, StorageError, UnsupportedError
from emm.repair import execute, plan
from emm.vfs import handles
from tests.repair.lab import (
    History,
    hashes,
    in_block,
    write_files,
)

ROOT = Path(__file__).parents[2]
NEWEST = "0000000000000006.emm"
_KILLED = """
import os, signal, sys
from emm.repair import execute, plan
from emm.repair import staging
from emm.vfs import LocalDirectory
step, when, damaged, out = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
publish, rename, count = LocalDirectory.publish, os.rename, 0
def killed(real):
    def call(*arguments, **named):
        global count
        count += 1
        if count == step and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*arguments, **named)
        if count == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return call
LocalDirectory.publish = killed(publish)
staging.os.rename = killed(rename)
execute(plan(damaged), out)
print(count)
"""


@pytest.fixture
def damaged(history: History, tmp_path: Path) -> Path:
    (tmp_path / "place").mkdir()
    return write_files(tmp_path / "damaged", history.damaged({NEWEST: in_block(history.files[NEWEST], 1)}))


def killed_at(step: int, when: str, damaged: Path, out: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _KILLED, str(step), when, str(damaged), str(out)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_kill_at_every_step_leaves_nothing_half_made(history: History, damaged: Path, tmp_path: Path) -> None:
    out = tmp_path / "place" / "out"
    steps = len(history.files) + 2  # every file, the record of provenance, the rename
    before = hashes(damaged)
    for step in range(1, steps + 1):
        done = killed_at(step, "before", damaged, out)
        assert done.returncode == -signal.SIGKILL, (step, done.stderr)
        assert not out.exists() and hashes(damaged) == before
        for left in (tmp_path / "place").iterdir():  # the hidden directory of the dead
            try:
                with emm.open(left) as memory:
                    assert memory.digest == history.digests[9], step
            except EmmError:
                pass
    done = killed_at(steps, "after", damaged, out)
    assert done.returncode == -signal.SIGKILL and emm.verify(out).exit_code == 0
    with emm.open(out) as memory:
        assert memory.digest == history.digests[9]


def test_a_full_disk_is_told_in_one_sentence(
    history: History, damaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every write. Red when debris is left, or the error is not the medium's."""
    found, write, room = plan(damaged), os.write, [0]

    def full(fd: int, data: bytes) -> int:
        if len(data) > room[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        room[0] -= len(data)
        return write(fd, data)

    monkeypatch.setattr(handles.os, "write", full)
    out = tmp_path / "place" / "out"
    for space in (0, 1000, 150_000, 300_000, found.bytes_out):  # the last lacks room for the record alone
        room[0] = space
        with pytest.raises(StorageError, match="No space left") as caught:
            execute(found, out)
        assert caught.value.exit_code == 6 and str(caught.value.file).startswith(str(out))
        assert list((tmp_path / "place").iterdir()) == []


def test_a_disk_that_is_visibly_too_small_is_refused_first(
    damaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = plan(damaged)

    class Small:
        f_bavail, f_frsize = 10, 4096

    monkeypatch.setattr(os, "statvfs", lambda _: Small)
    with pytest.raises(StorageError, match="no room") as caught:
        execute(found, tmp_path / "place" / "out")
    assert str(found.bytes_out) in str(caught.value.expected)
    assert list((tmp_path / "place").iterdir()) == []


def test_a_taken_name_is_refused_and_not_touched(damaged: Path, tmp_path: Path) -> None:
    found = plan(damaged)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "place")
    for name in ("file", "full", "link", "damaged"):
        with pytest.raises(ExistsError) as caught:
            execute(found, tmp_path / name)
        assert caught.value.exit_code == 2
    assert (tmp_path / "file").read_text() == "mine" and (tmp_path / "full" / "x").read_text() == "mine"
    with pytest.raises(InputError, match="into the damaged memory"):
        execute(found, tmp_path / "damaged" / "inside")
    with pytest.raises(UnsupportedError):
        execute(found, "memory://somewhere/else")
    assert execute(found, tmp_path / "place").exit_code == 0  # an empty directory is room


def test_a_name_taken_meanwhile_is_refused(damaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process makes a memory there while we write ours. Red when `rename` could replace it."""
    out, rename = tmp_path / "place" / "out", os.rename

    def late(source: str, target: str) -> None:
        emm.create(out, dim=4, rank=16, key_dim=16).close()
        rename(source, target)

    monkeypatch.setattr(os, "rename", late)
    with pytest.raises(ExistsError, match="meanwhile"):
        execute(plan(damaged), out)
    with emm.open(out) as memory:
        assert memory.dim == 4
    assert [each.name for each in (tmp_path / "place").iterdir()] == ["out"]


def test_a_writer_and_a_repair_keep_out_of_each_others_way(history: History, tmp_path: Path) -> None:
    damaged = write_files(
        tmp_path / "damaged", history.damaged({history.snapshots[0]: in_block(history.files[history.snapshots[0]], 1)})
    )
    with emm.open(damaged, "a"), pytest.raises(FencedError):
        execute(plan(damaged), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert execute(plan(damaged), tmp_path / "out").exit_code == 0
    with emm.open(damaged, "a"):  # the lock was given back
        pass


def test_parents_of_the_new_place_are_made(damaged: Path, tmp_path: Path) -> None:
    assert execute(plan(damaged), tmp_path / "a" / "b" / "out").exit_code == 0
    assert emm.verify(tmp_path / "a" / "b" / "out").exit_code == 0


def test_everything_is_durable_before_it_has_its_name(
    history: History, damaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Red when a file, the hidden directory or the final name is not synced, or only after the rename."""
    log: list[str] = []
    fsync, rename = os.fsync, os.rename

    def synced(fd: int) -> None:
        log.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}")))
        fsync(fd)

    def renamed(source: str, target: str) -> None:
        log.append("rename")
        rename(source, target)

    found = plan(damaged)
    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "rename", renamed)
    execute(found, tmp_path / "place" / "out")
    at = log.index("rename")
    assert sum(name.endswith(".tmp") for name in log[:at]) == len(history.files) + 1
    assert log[at - 1].startswith(".emm-repair-out") and log[at + 1 :] == ["place"]
