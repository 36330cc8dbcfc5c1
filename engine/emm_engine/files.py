"""Folders, whole files and growing files that survive a power cut.

Purpose: what the engine writes beside SQLite and the memories, which have a durability of their own. Invariants: a
folder is durable before anything in it is; a file appears whole under its name or not at all; what was appended is
durable when the call returns. Everything goes through `os`, so that a simulated disk can be put under it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from emm import InputError

COPY_BYTES: Final = 1 << 20  # read at a time
READ_BYTES_MAX: Final = 1 << 30  # of one call: the system gives no more than 2 GiB
_NOT_SYNCED: Final = (errno.EACCES, errno.EPERM, errno.EINVAL, errno.EROFS, errno.ENOTSUP)  # not ours, or no such thing


class Identity(NamedTuple):
    """What tells a file from one that was put in its place, and from itself once it has grown."""

    inode: int
    size: int  # bytes


NO_FILE: Final = Identity(0, 0)


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


def replace_durably(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Put a file in place whole, from its bytes or its parts: temporary name, fsync, rename, fsync of the folder."""
    temporary = temporary_beside(path)
    try:
        _write(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, (data,) if isinstance(data, bytes) else data)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    sync_folder(path.parent)


def sweep_temporaries(path: Path) -> None:
    """Remove what died while it was to replace this file. Nobody may be replacing it."""
    for each in path.parent.glob(f".{path.name}.{'[0-9a-f]' * 16}.tmp"):
        each.unlink(missing_ok=True)


def append_durably(path: Path, data: bytes) -> Identity:
    """Grow a file that exists; every byte of it is durable then."""
    return _write(path, os.O_WRONLY | os.O_APPEND, (data,))


def remove_durably(path: Path) -> None:
    """Take a file away, for good; nothing is done where there is none."""
    if identity_of(path) != NO_FILE:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        sync_folder(path.parent)


def read_whole(path: Path) -> bytes:
    """Every byte of a file; none where there is no file."""
    return read_ends(path, 0, 0)[1]


def read_ends(path: Path, head_bytes: int, start: int) -> tuple[bytes, bytes, Identity]:
    """(the first `head_bytes`, everything from byte `start` on, whose these are); nothing where there is no file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return b"", b"", NO_FILE
    try:
        status = os.fstat(descriptor)
        head = _read(descriptor, 0, min(head_bytes, status.st_size))
        return head, _read(descriptor, start, status.st_size), Identity(status.st_ino, status.st_size)
    finally:
        os.close(descriptor)


def _read(descriptor: int, offset: int, end: int) -> bytes:
    parts: list[bytes] = []
    while offset < end and (part := os.pread(descriptor, min(end - offset, READ_BYTES_MAX), offset)):
        parts.append(part)
        offset += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def identity_of(path: Path) -> Identity:
    """Which file this is, and how long."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return NO_FILE
    return Identity(status.st_ino, status.st_size)


def sync_file(path: Path) -> None:
    """fsync a file that someone else has written."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_tree_durably(path: Path) -> None:
    """Take a file, or a folder with all that is in it, away for good, with what dead writers of it left beside it.

    What is not there is gone already. A folder gets a hidden name first, so that nobody meets half of it. Only for who
    holds the lock over whatever `path` is.
    """
    with contextlib.suppress(FileNotFoundError):
        os.rename(path, temporary_beside(path))
    if path.parent.is_dir():
        sync_folder(path.parent)
        for gone in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
            while gone.is_dir() and not gone.is_symlink():
                with contextlib.suppress(FileNotFoundError):  # another process may be at the same work
                    shutil.rmtree(gone)
            gone.unlink(missing_ok=True)
        sync_folder(path.parent)


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
def held_alone(folder: Path, *, wait: bool) -> Iterator[bool]:
    """Hold a folder against every other process that asks for it so; False where it is taken and we do not wait."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def alone(*folders: Path) -> Iterator[None]:
    """Hold several folders so; `BlockingIOError` where another process has one."""
    with contextlib.ExitStack() as held:
        for folder in dict.fromkeys(folders):
            if not held.enter_context(held_alone(folder, wait=False)):
                raise BlockingIOError(errno.EWOULDBLOCK, "another process is at work there", str(folder))
        yield


def temporary_name() -> str:
    """A fresh hidden name."""
    return f".{secrets.token_hex(8)}.tmp"


def temporary_beside(path: Path) -> Path:
    """A fresh hidden name beside a path, which tells whose it is."""
    return path.with_name(f".{path.name}{temporary_name()}")


def _write(path: Path, flags: int, parts: Iterable[bytes]) -> Identity:
    """Open, write all, fsync."""
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o666)
    try:
        for part in parts:
            _write_all(descriptor, part)
        os.fsync(descriptor)
        status = os.fstat(descriptor)
        return Identity(status.st_ino, status.st_size)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
