"""What a local directory hands out: the appender and the lock, and the system calls they share.

Purpose: growing one file durably, and being the one writer. Invariants: a failed append or sync poisons
the appender, because what reached the medium is unknown (after a failed fsync Linux marks the lost pages
clean, so a second fsync would report success); a handle belongs to the process that made it; a forked
child closes its copy of a lock at once, so a child never keeps a dead writer's lock.
"""

from __future__ import annotations

import contextlib
import errno
import os
import weakref
from dataclasses import dataclass
from typing import Final

from emm.errors import ClosedError, EmmError, MissingError, StorageError

DIRECTORY_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NOT_SYNCED: Final = (errno.EACCES, errno.EPERM, errno.EINVAL, errno.EROFS, errno.ENOTSUP)  # not ours, or no such thing


def storage_error(error: OSError, file: str, doing: str) -> EmmError:
    """The `EmmError` that says what the operating system refused, and for which file."""
    if isinstance(error, FileNotFoundError):
        return MissingError("no such file or directory", file=file)
    if error.errno == errno.ELOOP:
        return StorageError("a symbolic link is refused inside a memory directory", file=file)
    reason = os.strerror(error.errno) if error.errno else str(error)
    return StorageError(f"cannot {doing}: {reason}", file=file)


def write_all(fd: int, data: bytes | bytearray | memoryview) -> int:
    """Write every byte, however short the single writes are; the number of bytes."""
    view = memoryview(data).cast("B") if memoryview(data).nbytes else memoryview(b"")
    total = len(view)
    while view:
        written = os.write(fd, view)
        if written <= 0:
            raise OSError(errno.EIO, "a write made no progress")
        view = view[written:]
    return total


@dataclass(slots=True)
class OwnedFile:
    """A file that this handle published: its identity, and how long this handle has made it."""

    device: int
    inode: int
    size: int


class LocalLock:
    """The writer's guard: a `flock` on the directory, held until released or until the process dies."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._pid = os.getpid()
        _LOCKS.add(self)

    @property
    def held(self) -> bool:
        return self._fd >= 0 and self._pid == os.getpid()

    def release(self) -> None:
        """Let others write. Releasing twice is harmless; a forked child has nothing to release."""
        fd, self._fd = self._fd, -1
        if fd >= 0 and self._pid == os.getpid():
            os.close(fd)  # the only descriptor of this open file, so the lock goes with it

    def __del__(self) -> None:
        self.release()


_LOCKS: weakref.WeakSet[LocalLock] = weakref.WeakSet()


def _forget_locks_in_child() -> None:
    """Close inherited copies, without LOCK_UN, which would take the parent's lock away."""
    for lock in list(_LOCKS):
        fd, lock._fd = lock._fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.close(fd)


os.register_at_fork(after_in_child=_forget_locks_in_child)


class LocalAppender:
    """Grows one file that its `LocalDirectory` published."""

    def __init__(self, fd: int, file: str, owned: OwnedFile) -> None:
        self._fd = fd
        self._file = file
        self._owned = owned
        self._pid = os.getpid()
        self._poisoned = False

    def _check(self) -> None:
        if self._fd < 0:
            raise ClosedError("this file handle is closed", file=self._file)
        if self._pid != os.getpid():
            raise ClosedError("this file handle belongs to the process that was forked", file=self._file)
        if self._poisoned:
            raise ClosedError("an earlier write or sync failed; what is durable is unknown", file=self._file)

    def append(self, data: bytes | bytearray) -> None:
        """Hand bytes to the operating system; `StorageError` poisons the handle."""
        self._check()
        try:
            self._owned.size += write_all(self._fd, data)
        except OSError as error:
            self._poisoned = True
            raise storage_error(error, self._file, "append") from error

    def sync(self) -> None:
        """Make every byte appended so far durable; `StorageError` poisons the handle."""
        self._check()
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            self._poisoned = True
            raise storage_error(error, self._file, "sync") from error

    def close(self) -> None:
        """Close without promising durability. Closing twice is harmless."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.close(fd)

    def __del__(self) -> None:
        self.close()


def fsync_directory(path: str) -> None:
    """Make the names in a directory durable. Raises `OSError`."""
    fd = os.open(path, DIRECTORY_FLAGS)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def fsync_parents(path: str) -> None:
    """Make the names that lead to an absolute path durable, where their directories can be opened and synced."""
    while path != (parent := os.path.dirname(path)):
        try:
            fsync_directory(parent)
        except OSError as error:
            if error.errno not in _NOT_SYNCED:
                raise
        path = parent
