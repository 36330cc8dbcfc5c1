"""The system calls of `emm.vfs.local`, answered by a simulated disk.

Purpose: while a disk is `mounted`, every `LocalDirectory` works on it. So the order of operations under test is the
one that ships, `emm.create` and `emm.open` work as they are, and a bug planted in `emm/vfs/local.py` is a bug of the
code under test. Invariants: a call that is not simulated raises `AttributeError`, it never reaches the real disk;
closing a real descriptor (something dropped in the meantime) does.
"""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import stat
from collections.abc import Iterator
from typing import Any, Final, NamedTuple
from unittest import mock

from emm.vfs import handles, local, resolve
from emm_fuzz.simulated_disk import SimulatedDisk


@contextlib.contextmanager
def mounted(disk: SimulatedDisk) -> Iterator[SimulatedDisk]:
    """Everything that `emm.vfs.local` does in this block happens on `disk`. Blocks nest."""
    system = System(disk)
    with contextlib.ExitStack() as stack:
        for module, name, value in (
            (local, "os", system),
            (handles, "os", system),
            (resolve, "os", system),
            (local, "fcntl", _Fcntl(disk)),
            (local, "mmap", _Mmap(disk)),
            (local, "temporary_name", lambda: f".emm-{next(disk.temporary):024x}.tmp"),
        ):
            stack.enter_context(mock.patch.object(module, name, value))
        yield disk


class _Status(NamedTuple):
    st_mode: int
    st_ino: int
    st_size: int
    st_dev: int = 1


class _Entry(NamedTuple):
    name: str
    path: str
    regular: bool

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        return self.regular

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return not self.regular


class System:
    """What `emm.vfs` uses of the module `os`, on a simulated disk; the rest that is pure comes from the real one."""

    def __init__(self, disk: SimulatedDisk) -> None:
        self._disk = disk
        self.path = _Path(disk)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("O_") or name in ("fspath", "fsencode", "fsdecode", "strerror", "PathLike", "curdir"):
            return getattr(os, name)
        raise AttributeError(f"os.{name} is not simulated")

    def getpid(self) -> int:
        return self._disk.pid

    def _fail_if_due(self, call: str) -> None:
        how = self._disk.fault(call)
        if how is not None:
            raise OSError(code := getattr(errno, how.upper()), os.strerror(code))

    def open(self, path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        disk = self._disk
        self._fail_if_due("open")
        folder, name = disk.place(path, dir_fd)
        inode = (
            folder if name in (".", "") else disk.folders[folder].entries.get(name) if folder in disk.folders else None
        )
        if inode is not None and flags & os.O_EXCL:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        if inode is None and flags & os.O_CREAT:
            inode = disk.new_file()
            disk.change(folder, name, inode)
        if inode is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        if flags & os.O_DIRECTORY and inode not in disk.folders:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        return disk.new_fd(inode)

    def close(self, fd: int) -> None:
        self._disk.close(fd)

    def fsync(self, fd: int) -> None:
        self._disk.sync(fd)

    fdatasync = fsync

    def write(self, fd: int, data: bytes | memoryview) -> int:
        return self._disk.write(fd, bytes(data))

    def pread(self, fd: int, length: int, offset: int) -> bytes:
        self._fail_if_due("pread")
        return self._disk.read(fd, length, offset)

    def fstat(self, fd: int) -> _Status:
        return self._status(self._disk.at(fd))

    def stat(self, path: str, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> _Status:
        folder, name = self._disk.place(path, dir_fd)
        inode = self._disk.folders[folder].entries.get(name)
        if inode is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return self._status(inode)

    def lstat(self, path: str) -> _Status:
        return self.stat(path)

    def _status(self, inode: int) -> _Status:
        file = self._disk.files.get(inode)
        return _Status(stat.S_IFDIR, inode, 0) if file is None else _Status(stat.S_IFREG, inode, len(file.cache))

    def listdir(self, fd: int) -> list[str]:
        self._fail_if_due("scandir")
        return list(self._disk.folders[self._disk.at(fd)].entries)

    @contextlib.contextmanager
    def scandir(self, where: int | str) -> Iterator[list[_Entry]]:
        self._fail_if_due("scandir")
        folder = where if isinstance(where, int) else self.open(where, os.O_RDONLY | os.O_DIRECTORY)
        try:
            entries = self._disk.folders[self._disk.at(folder)].entries
            yield [
                _Entry(name, posixpath.join(str(where), name), inode in self._disk.files)
                for name, inode in entries.items()
            ]
        finally:
            if folder is not where:
                self.close(folder)

    def link(self, src: str, dst: str, *, src_dir_fd: int, dst_dir_fd: int, follow_symlinks: bool = True) -> None:
        self._fail_if_due("link")
        folder, name = self._disk.place(dst, dst_dir_fd)
        if name in self._disk.folders[folder].entries:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), dst)
        self._disk.change(folder, name, self.stat(src, dir_fd=src_dir_fd).st_ino)

    def replace(self, src: str, dst: str) -> None:
        """Atomic for processes; after a power cut the new name may be there or the old file under it."""
        self._fail_if_due("replace")
        (folder, name), (old_folder, old_name) = self._disk.place(dst, None), self._disk.place(src, None)
        self._disk.change(folder, name, self.stat(src).st_ino)
        self._disk.change(old_folder, old_name, 0)

    def unlink(self, path: str, *, dir_fd: int | None = None) -> None:
        self._fail_if_due("unlink")
        self.stat(path, dir_fd=dir_fd)
        self._disk.change(*self._disk.place(path, dir_fd), 0)

    def rmdir(self, path: str) -> None:
        self._fail_if_due("rmdir")
        folder, name = self._disk.place(path, None)
        inode = self._disk.folders[folder].entries.get(name, 0)
        if inode not in self._disk.folders or self._disk.folders[inode].entries:
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), path)
        self._disk.change(folder, name, 0)

    def mkdir(self, path: str) -> None:
        self._fail_if_due("mkdir")
        folder, name = self._disk.place(path, None)
        if name in self._disk.folders[folder].entries:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        self._disk.change(folder, name, self._disk.new_folder())


class _Path:
    """`os.path`, on a simulated disk."""

    join = staticmethod(posixpath.join)
    dirname = staticmethod(posixpath.dirname)
    split = staticmethod(posixpath.split)

    def __init__(self, disk: SimulatedDisk) -> None:
        self._disk = disk

    def abspath(self, path: str) -> str:
        return posixpath.normpath(posixpath.join("/", path))

    def lexists(self, path: str) -> bool:
        return self._disk.walk(path) is not None

    def isdir(self, path: str) -> bool:
        return self._disk.walk(path) in self._disk.folders


class _Fcntl:
    LOCK_EX: Final = 2
    LOCK_NB: Final = 4

    def __init__(self, disk: SimulatedDisk) -> None:
        self._disk = disk

    def flock(self, fd: int, operation: int) -> None:
        self._disk.flock(fd)


class _Mmap:
    ACCESS_READ: Final = 1

    def __init__(self, disk: SimulatedDisk) -> None:
        self._disk = disk

    def mmap(self, fd: int, length: int, *, access: int) -> bytes:
        """The page cache as it is; files only grow behind what was mapped, so a copy shows the same."""
        return bytes(self._disk.files[self._disk.at(fd)].cache[:length])
