"""Folders, whole files and growing files that survive a power cut.

Purpose: what the engine writes beside SQLite and the memories, which have a durability of their own. Invariants: a
folder is durable before anything in it is; a file appears whole under its name or not at all; what was appended is
durable when the call returns. Everything goes through `os`, so that a simulated disk can be put under it.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import secrets
import shutil
from pathlib import Path
from typing import Final

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
    temporary = temporary_beside(path)
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


def remove_durably(path: Path) -> None:
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


def temporary_name() -> str:
    """A fresh hidden name."""
    return f".{secrets.token_hex(8)}.tmp"


def temporary_beside(path: Path) -> Path:
    """A fresh hidden name beside a path, which tells whose it is."""
    return path.with_name(f".{path.name}{temporary_name()}")


def _write(path: Path, flags: int, data: bytes) -> int:
    """Open, write all, fsync; the file's size."""
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o666)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
        return os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)
