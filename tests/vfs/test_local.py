"""The local disk keeps the contract, and its own promises under crashes, races, full disks and strange files.

Every test says which change to `emm/vfs` would turn it red.
"""

from __future__ import annotations

import errno
import multiprocessing
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from emm.errors import ClosedError, ExistsError, FencedError, MissingError, StorageError, TruncatedError
from emm.testing import DirectoryContract
from emm.vfs import Directory, LocalDirectory


class TestLocalContract(DirectoryContract):
    @pytest.fixture(autouse=True)
    def _place(self, tmp_path: Path) -> None:
        self.root = tmp_path
        self.count = 0

    def fresh_directory(self) -> Directory:
        self.count += 1
        return LocalDirectory(self.root / "deep" / "er" / str(self.count))

    def same_directory(self, directory: Directory) -> Directory:
        return LocalDirectory(directory.url)


def made(path: Path) -> LocalDirectory:
    directory = LocalDirectory(path / "memory")
    directory.create()
    return directory


def in_child(body) -> int:
    """Run `body` in a forked child; its exit status as `os.waitstatus_to_exitcode` gives it."""
    pid = os.fork()
    if pid == 0:
        status = 99
        try:
            status = body() or 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


# --- publish --------------------------------------------------------------------------------------


def test_a_crash_between_write_and_link_leaves_no_name_and_the_next_writer_sweeps(tmp_path, monkeypatch):
    """Red when the file is written under its final name, or when `sweep` forgets temporary files."""
    directory = made(tmp_path)

    def die():
        monkeypatch.setattr(os, "link", lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL))
        LocalDirectory(directory.url).publish("a.emm", [b"x" * 100000])

    assert in_child(die) == -signal.SIGKILL
    assert directory.list() == []
    left = os.listdir(directory.url)
    assert len(left) == 1 and left[0].startswith(".")
    with pytest.raises(FencedError):
        directory.sweep()
    lock = directory.lock()
    assert directory.sweep() == left
    assert os.listdir(directory.url) == []
    lock.release()
    with pytest.raises(FencedError):
        directory.sweep()


def test_a_directory_with_only_a_dead_creators_temporary_file_counts_as_empty(tmp_path):
    """Red when a crash inside the very first publish makes the name unusable for ever."""
    directory = made(tmp_path)
    (tmp_path / "memory" / ".emm-0123.tmp").write_bytes(b"half")
    LocalDirectory(directory.url).create()
    (tmp_path / "memory" / ".other").write_bytes(b"")
    with pytest.raises(ExistsError):
        LocalDirectory(directory.url).create()


def test_of_two_publishers_racing_exactly_one_wins(tmp_path):
    """Red when `link` is replaced by `rename`: both would win and one file would be lost."""
    directory = made(tmp_path)
    for round_number in range(20):
        name = f"{round_number}.emm"
        gate = threading.Barrier(2)
        outcome: list[str] = []

        def contend(who: bytes, name=name, gate=gate, outcome=outcome):
            gate.wait()
            try:
                LocalDirectory(directory.url).publish(name, [who * 5000])
                outcome.append(who.decode())
            except ExistsError:
                outcome.append("")

        threads = [threading.Thread(target=contend, args=(who,)) for who in (b"a", b"b")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        winner = "".join(outcome)
        assert len(winner) == 1 and bytes(directory.map(name)) == winner.encode() * 5000
    assert [name for name in os.listdir(directory.url) if name.startswith(".")] == []


def test_publish_syncs_file_before_link_and_directory_after(tmp_path, monkeypatch):
    """Red when either fsync is dropped or moved: after a power cut the name would be empty or gone."""
    directory = made(tmp_path)
    directory.list()  # the directory's descriptor exists before the log starts
    log: list[str] = []
    real_fsync, real_link = os.fsync, os.link

    def fsync(fd):
        log.append("sync directory" if os.path.isdir(f"/proc/self/fd/{fd}") else "sync file")
        real_fsync(fd)

    def link(*arguments, **keywords):
        log.append("link")
        real_link(*arguments, **keywords)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "link", link)
    directory.publish("a.emm", [b"1"])
    assert log == ["sync file", "link", "sync directory"]
    log.clear()
    directory.remove("a.emm")
    assert log == ["sync directory"]


def test_create_syncs_the_parent_of_every_new_directory(tmp_path, monkeypatch):
    """Red when only the last parent is synced: a power cut could lose the whole path."""
    synced: list[str] = []
    real = os.fsync

    def fsync(fd):
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    LocalDirectory(tmp_path / "a" / "b" / "c").create()
    base = str(tmp_path)
    assert synced[:3] == [base, f"{base}/a", f"{base}/a/b"]


def test_a_failed_directory_sync_takes_the_name_back(tmp_path, monkeypatch):
    """Red when a publish that raised leaves a name that a power cut may take away."""
    directory = made(tmp_path)
    real = os.fsync

    def fsync(fd):
        if os.path.isdir(f"/proc/self/fd/{fd}"):
            raise OSError(errno.EIO, "injected")
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StorageError) as caught:
        directory.publish("a.emm", [b"1"])
    assert caught.value.file == os.path.join(directory.url, "a.emm")
    assert directory.list() == []
    with pytest.raises(FencedError):
        directory.open_append("a.emm")


def file_size_limit(bytes_max: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_max, bytes_max))


def test_a_full_medium_fails_a_publish_without_a_name(tmp_path):
    """A real EFBIG from the kernel. Red when a short write is taken for a whole one."""
    directory = made(tmp_path)

    def body():
        file_size_limit(1 << 16)
        child = LocalDirectory(directory.url)
        try:
            child.publish("a.emm", [b"x" * (1 << 15)] * 3)
        except StorageError as error:
            return 0 if error.file == os.path.join(directory.url, "a.emm") and os.listdir(child.url) == [] else 2
        return 1

    assert in_child(body) == 0
    assert directory.list() == []


def test_a_full_medium_poisons_the_appender(tmp_path):
    """A real EFBIG. Red when an append is retried, or goes on after part of a record was written."""
    directory = made(tmp_path)

    def body():
        file_size_limit(1 << 16)
        child = LocalDirectory(directory.url)
        child.publish("a.wal", [b"head"])
        appender = child.open_append("a.wal")
        appender.append(b"x" * (1 << 15))
        try:
            appender.append(b"y" * (1 << 16))
            return 1
        except StorageError:
            pass
        for call in (lambda: appender.append(b"z"), appender.sync):
            try:
                call()
                return 2
            except ClosedError:
                pass
        appender.close()
        return 0

    assert in_child(body) == 0
    assert directory.size("a.wal") == 1 << 16  # what the kernel took; nothing after it
    assert directory.read_at("a.wal", (1 << 16) - 1, 1) == b"y"


def test_no_space_left_is_a_storage_error(tmp_path):
    """A real ENOSPC from /dev/full. Red when `write_all` ignores errno or loops for ever."""
    from emm.vfs.handles import storage_error, write_all

    fd = os.open("/dev/full", os.O_WRONLY)
    try:
        with pytest.raises(OSError) as caught:
            write_all(fd, b"1")
    finally:
        os.close(fd)
    error = storage_error(caught.value, "a.emm", "publish")
    assert isinstance(error, StorageError) and "space" in str(error) and error.exit_code == 6


def test_writes_that_come_short_are_continued(tmp_path, monkeypatch):
    """Red when `write_all` trusts one write to take everything."""
    directory = made(tmp_path)
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, memoryview(data)[:7]))
    data = bytes(range(200))
    directory.publish("a.wal", [data, data])
    appender = directory.open_append("a.wal")
    appender.append(data)
    assert bytes(directory.map("a.wal")) == data * 3


def test_reads_that_come_short_are_continued(tmp_path, monkeypatch):
    """Red when `read_at` takes the first pread for the whole."""
    directory = made(tmp_path)
    data = bytes(range(200))
    directory.publish("a.wal", [data])
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, length, offset: real(fd, min(length, 7), offset))
    assert directory.read_at("a.wal", 3, 190) == data[3:193]


def test_a_read_error_is_not_the_end_of_the_file(tmp_path, monkeypatch):
    """Red when EIO maps to `TruncatedError`: recovery would cut a journal at a bad sector."""
    directory = made(tmp_path)
    directory.publish("a.wal", [b"12345678"])

    def pread(fd, length, offset):
        raise OSError(errno.EIO, "injected")

    monkeypatch.setattr(os, "pread", pread)
    with pytest.raises(StorageError) as caught:
        directory.read_at("a.wal", 0, 8)
    assert caught.value.file == os.path.join(directory.url, "a.wal")
    assert not isinstance(caught.value, MissingError)


# --- appenders ------------------------------------------------------------------------------------


def test_a_failed_sync_poisons(tmp_path, monkeypatch):
    """Red when `sync` may be tried again: the kernel reports a lost page once, then success."""
    directory = made(tmp_path)
    directory.publish("a.wal", [b"head"])
    appender = directory.open_append("a.wal")
    appender.append(b"1")

    def fdatasync(fd):
        raise OSError(errno.EIO, "injected")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fdatasync)
        with pytest.raises(StorageError):
            appender.sync()
    with pytest.raises(ClosedError):
        appender.sync()
    with pytest.raises(ClosedError):
        appender.append(b"2")


def test_a_file_replaced_under_its_name_is_fenced(tmp_path):
    """Red when `open_append` checks the name and not the inode."""
    directory = made(tmp_path)
    directory.publish("a.wal", [b"head"])
    path = tmp_path / "memory" / "a.wal"
    other = tmp_path / "memory" / "b"
    other.write_bytes(b"head")
    os.rename(other, path)
    with pytest.raises(FencedError):
        directory.open_append("a.wal")


def test_a_file_that_someone_else_grew_is_fenced(tmp_path):
    """Red when the length that this handle wrote is not compared at `open_append`."""
    directory = made(tmp_path)
    directory.publish("a.wal", [b"head"])
    with open(tmp_path / "memory" / "a.wal", "ab") as stranger:
        stranger.write(b"!")
    with pytest.raises(FencedError):
        directory.open_append("a.wal")


def test_an_appender_replaced_by_a_symlink_is_refused(tmp_path):
    """Red when O_NOFOLLOW is dropped from the append flags."""
    directory = made(tmp_path)
    directory.publish("a.wal", [b"head"])
    path = tmp_path / "memory" / "a.wal"
    os.rename(path, tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError):
        directory.open_append("a.wal")


def test_handles_refuse_use_after_fork(tmp_path):
    """Red when the process id is not compared: a child would append into its parent's segment."""
    directory = made(tmp_path)
    directory.publish("a.wal", [b"head"])
    appender = directory.open_append("a.wal")

    def body():
        for call in (
            directory.list,
            lambda: directory.read_at("a.wal", 0, 1),
            lambda: directory.publish("b", [b""]),
            lambda: directory.remove("a.wal"),
            directory.lock,
            lambda: appender.append(b"child"),
            appender.sync,
        ):
            try:
                call()
                return 1
            except ClosedError:
                pass
        return 0

    assert in_child(body) == 0
    appender.append(b"parent")
    assert bytes(directory.map("a.wal")) == b"headparent"


# --- the lock -------------------------------------------------------------------------------------

HOLDER = """
import sys, time
from emm.vfs import LocalDirectory
lock = LocalDirectory(sys.argv[1]).lock()
print("held", flush=True)
time.sleep(60)
"""


def holder(directory: LocalDirectory) -> subprocess.Popen:
    path = os.pathsep.join(p for p in sys.path if p)
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, directory.url],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_another_process_is_fenced_and_kill_9_frees_the_lock(tmp_path):
    """Red when the lock is a file that outlives its process, or is not seen by other processes."""
    directory = made(tmp_path)
    process = holder(directory)
    try:
        with pytest.raises(FencedError) as caught:
            directory.lock()
        assert caught.value.exit_code == 11
        process.send_signal(signal.SIGSTOP)  # a stopped writer still holds it
        with pytest.raises(FencedError):
            directory.lock()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    directory.lock().release()


def test_a_forked_child_does_not_keep_a_dead_writers_lock(tmp_path):
    """flock belongs to the open file, which a fork shares. Red when the child keeps its copy open."""
    directory = made(tmp_path)
    ready_r, ready_w = os.pipe()
    stop_r, stop_w = os.pipe()
    writer = os.fork()
    if writer == 0:
        lock = LocalDirectory(directory.url).lock()
        if os.fork() == 0:  # a helper that outlives the writer
            os.close(stop_w)
            os.write(ready_w, b"1")
            os.read(stop_r, 1)
            os._exit(0)
        time.sleep(60)
        lock.release()
        os._exit(0)
    try:
        assert os.read(ready_r, 1) == b"1"
        with pytest.raises(FencedError):
            directory.lock()
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)
        directory.lock().release()
    finally:
        for fd in (stop_w, stop_r, ready_r, ready_w):
            os.close(fd)


def test_a_forked_child_that_ends_does_not_free_its_parents_lock(tmp_path):
    """Red when a child's copy is released with LOCK_UN."""
    directory = made(tmp_path)
    lock = directory.lock()

    def body():
        lock.release()
        return 0

    assert in_child(body) == 0
    with pytest.raises(FencedError):
        LocalDirectory(directory.url).lock()
    lock.release()


def test_a_lock_that_is_dropped_is_freed(tmp_path):
    """Red when the lock needs an explicit release."""
    directory = made(tmp_path)
    lock = directory.lock()
    del lock
    directory.lock().release()


# --- strange files --------------------------------------------------------------------------------


def test_only_regular_files_are_listed_and_opened(tmp_path):
    """Red when O_NOFOLLOW or the S_ISREG check goes: a FIFO would hang the reader, a link leave the directory."""
    directory = made(tmp_path)
    root = tmp_path / "memory"
    (tmp_path / "outside").write_bytes(b"secret")
    (root / "link.emm").symlink_to(tmp_path / "outside")
    (root / "dangling.emm").symlink_to(tmp_path / "nowhere")
    (root / "directory.emm").mkdir()
    os.mkfifo(root / "fifo.emm")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(os.path.relpath(root / "socket.emm"))
    directory.publish("a.emm", [b"1"])
    assert directory.list() == ["a.emm"]
    for name in ("link.emm", "dangling.emm", "directory.emm", "fifo.emm", "socket.emm"):
        for call in (directory.size, directory.map, lambda name: directory.read_at(name, 0, 1)):
            with pytest.raises(StorageError) as caught:
                call(name)
            assert caught.value.file == os.path.join(directory.url, name)
        with pytest.raises(ExistsError):
            directory.publish(name, [b"2"])
    assert (tmp_path / "outside").read_bytes() == b"secret"


def test_a_path_that_is_a_file_is_not_a_directory(tmp_path):
    """Red when `create` treats a file as its directory, or `list` answers for one."""
    path = tmp_path / "file"
    path.write_bytes(b"1")
    with pytest.raises(ExistsError):
        LocalDirectory(path).create()
    with pytest.raises(MissingError):
        LocalDirectory(path).list()
    with pytest.raises(StorageError):
        LocalDirectory(path / "below").create()
    assert path.read_bytes() == b"1"


def test_a_huge_length_is_refused_before_it_is_allocated(tmp_path):
    """Red when pread is asked for what a hostile header claims."""
    directory = made(tmp_path)
    directory.publish("a.emm", [b"1"])
    from emm.errors import TruncatedError

    with pytest.raises(TruncatedError):
        directory.read_at("a.emm", 0, 1 << 60)


def test_a_file_that_may_not_be_read_is_a_storage_error(tmp_path):
    """Red when EACCES maps to `MissingError`: what may not be read is not known to be absent."""
    directory = made(tmp_path)
    directory.publish("a.emm", [b"1"])
    os.chmod(tmp_path / "memory" / "a.emm", 0)
    os.chmod(tmp_path / "memory", 0o755)

    def body():
        child = LocalDirectory(directory.url)
        child.list()  # the directory is open before privileges go
        if os.geteuid() == 0:
            os.setuid(65534)
        try:
            child.read_at("a.emm", 0, 1)
        except StorageError as error:
            return 0 if type(error) is StorageError else 2
        return 1

    assert in_child(body) == 0


def test_a_handle_made_under_spawn_works(tmp_path):
    """Red when module state assumes fork: spawned workers open their own handles by path."""
    directory = made(tmp_path)
    directory.publish("a.emm", [b"1"])
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_list_there, (directory.url,)) == ["a.emm"]


def _list_there(path: str) -> list[str]:
    return LocalDirectory(path).list()


# --- a file that is read several times ------------------------------------------------------------


def test_a_held_file_is_opened_once_and_stays_itself(tmp_path: Path, monkeypatch) -> None:
    """Red when a read opens it again, when its size is remembered, or when its descriptor is left open."""
    directory = made(tmp_path)
    directory.publish("a.emm", [b"first"])
    opened = []
    monkeypatch.setattr(os, "open", lambda path, *a, _open=os.open, **k: opened.append(path) or _open(path, *a, **k))
    before = len(os.listdir("/proc/self/fd"))
    with directory.held("a.emm"), directory.held("a.emm"):
        assert directory.size("a.emm") == 5
        with open(directory.path + "/a.emm", "ab") as file:
            file.write(b" more")
        assert directory.size("a.emm") == 10 and directory.read_at("a.emm", 6, 4) == b"more"
        os.unlink(directory.path + "/a.emm")
        assert directory.read_ranges("a.emm", [(0, 5)]) == [b"first"]
        with pytest.raises(TruncatedError):
            directory.read_at("a.emm", 8, 4)
    assert opened == ["a.emm"] and len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(MissingError):
        directory.size("a.emm")
    with pytest.raises(MissingError), directory.held("a.emm"):
        pass


def test_what_is_held_must_be_a_regular_file(tmp_path: Path) -> None:
    """Red when holding a name passes over what every read asks: a link is refused, a FIFO is never read."""
    directory = made(tmp_path)
    os.symlink("/etc/passwd", directory.path + "/link.emm")
    os.mkfifo(directory.path + "/fifo.emm")
    with pytest.raises(StorageError), directory.held("link.emm"):
        pass
    with directory.held("fifo.emm"), pytest.raises(StorageError):
        directory.size("fifo.emm")
