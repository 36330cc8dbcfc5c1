"""Folders, whole files and growing files that survive a power cut.

Purpose: what the engine writes beside SQLite and the memories, which have a durability of their own. Invariants: a
folder is durable before anything in it is; a file appears whole under its name or not at all; what was appended is
durable when the call returns. Everything goes through `os`, so that a simulated disk can be put under it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from emm import InputError

COPY_BYTES: Final = 1 << 20  # read at a time
READ_BYTES_MAX: Final = 1 << 30  # of one call: the system gives no more than 2 GiB
_NOT_SYNCED: Final = (errno.EACCES, errno.EPERM, errno.EINVAL, errno.EROFS, errno.ENOTSUP)  # not ours, or no such thing


def make_folder(path: Path) -> None:
    """The folder and its missing parents, each durable in its parent before the next.

    What is there already is synced as well, and the names in it: who made them may have died before that.
    """
    missing = []
    here = path.absolute()
    while not os.path.lexists(here):
        missing.append(here)
        here = here.parent
    for folder in reversed(missing):
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder)
        try:
            sync_folder(folder.parent)
        except OSError:
            with contextlib.suppress(OSError):
                os.rmdir(folder)  # not durable, so it must not be seen
            raise
    for folder in (path.absolute(), *path.absolute().parents):
        try:
            sync_folder(folder)
        except OSError as error:
            if error.errno not in _NOT_SYNCED:
                raise


def replace_durably(path: Path, data: bytes) -> None:
    """Put a file in place whole: temporary name, fsync, rename, fsync of the folder."""
    temporary = path.with_name(temporary_name())
    try:
        _write(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, data)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    sync_folder(path.parent)


def append_durably(path: Path, data: bytes) -> int:
    """Grow a file that exists; the bytes that it then has, all of them durable."""
    return _write(path, os.O_WRONLY | os.O_APPEND, data)


def read_whole(path: Path) -> bytes:
    """Every byte of a file; none where there is no file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    try:
        parts: list[bytes] = []
        offset, size = 0, os.fstat(descriptor).st_size
        while part := os.pread(descriptor, min(size - offset, READ_BYTES_MAX), offset):
            parts.append(part)
            offset += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)
    finally:
        os.close(descriptor)


def size_of(path: Path) -> int:
    """Bytes of a file; 0 where there is no file."""
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def sync_folder(path: Path) -> None:
    """fsync a folder: the names in it survive."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def rename_durably(path: Path, into: Path) -> None:
    """Give a file or folder another name on the same file system; nothing is done where it has it already.

    The new name's folder is made; an empty folder there makes way, anything else under the new name raises `OSError`.
    """
    make_folder(into.parent)
    if os.path.lexists(path):
        os.rename(path, into)
    sync_folder(into.parent)
    if path.parent.is_dir():
        sync_folder(path.parent)


def copy_folder(path: Path, into: Path, told: Callable[[int], None] | None = None) -> int:
    """Copy a folder of regular files to a new name, durably; returns the bytes, and tells them as they come.

    Links are not followed: they and everything else that is not a regular file are an `InputError`.
    """
    os.mkdir(into)
    n_bytes = 0
    for name in sorted(os.listdir(path)):
        try:
            source = os.open(path / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            raise InputError("not a regular file", file=str(path / name)) from error
        try:
            if not stat.S_ISREG(os.fstat(source).st_mode):
                raise InputError("not a regular file", file=str(path / name))
            copy = os.open(into / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            try:
                while part := os.read(source, COPY_BYTES):
                    _write_all(copy, part)
                    n_bytes += len(part)
                    if told is not None:
                        told(len(part))
                os.fsync(copy)
            finally:
                os.close(copy)
        finally:
            os.close(source)
    sync_folder(into)
    sync_folder(into.parent)
    return n_bytes


@contextlib.contextmanager
def alone(*folders: Path) -> Iterator[None]:
    """Hold the lock of each folder, which dies with the process; `BlockingIOError` where another holds one."""
    with contextlib.ExitStack() as held:
        for folder in dict.fromkeys(folders):
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            held.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def temporary_name() -> str:
    """A fresh hidden name."""
    return f".{secrets.token_hex(8)}.tmp"


def _write(path: Path, flags: int, data: bytes) -> int:
    """Open, write all, fsync; the file's size."""
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o666)
    try:
        _write_all(descriptor, data)
        os.fsync(descriptor)
        return os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
