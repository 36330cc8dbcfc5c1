"""A memory directory on a local file system, with the durability that `protocol` promises.

Purpose: publish by temporary file, fsync, `link`, directory fsync; append by the creator alone;
one writer by `flock`. Invariants:

- No call follows a symbolic link inside the directory, and none blocks on a FIFO or device: every file
  is opened with O_NOFOLLOW and O_NONBLOCK relative to the directory's own descriptor, and must be regular.
- The lock is on the directory itself (no lock file), so it is freed when its process dies, also by
  kill -9. A forked child closes its copy of the lock at once: a child never keeps a dead writer's lock.
- A failed append or sync poisons the appender: what reached the medium is unknown, so nothing is retried
  (after a failed fsync Linux marks the lost pages clean; a second fsync would report success).
- Handles belong to the process that made them; after a fork they raise `ClosedError`.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import stat
import weakref
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from emm.errors import ClosedError, ExistsError, FencedError, MissingError, StorageError, TruncatedError
from emm.vfs.handles import (
    DIRECTORY_FLAGS,
    LocalAppender,
    LocalLock,
    OwnedFile,
    fsync_directory,
    fsync_parents,
    storage_error,
    write_all,
)
from emm.vfs.names import check_name, check_range, is_name, is_temporary, temporary_name
from emm.vfs.protocol import Directory

_READ_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_APPEND_FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class LocalDirectory:
    """`emm.vfs.protocol.Directory` over a path. Opens nothing until it is used."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)
        self._fd = -1
        self._pid = os.getpid()
        self._owned: dict[str, OwnedFile] = {}
        self._held: dict[str, int] = {}  # descriptors of files that are read several times, by name
        self._lock: weakref.ref[LocalLock] | None = None

    def __repr__(self) -> str:
        return f"LocalDirectory({self._path!r})"

    @property
    def url(self) -> str:
        return self._path

    @property
    def path(self) -> str:
        return self._path

    def _file(self, name: str) -> str:
        return os.path.join(self._path, name)

    def _directory_fd(self) -> int:
        """Descriptor of the directory, opened at first use and kept, so a rename does not redirect us."""
        if self._pid != os.getpid():
            raise ClosedError("this directory handle belongs to the process that was forked", file=self._path)
        if self._fd < 0:
            try:
                self._fd = os.open(self._path, DIRECTORY_FLAGS)
            except NotADirectoryError as error:
                raise MissingError("not a directory", file=self._path) from error
            except (OSError, ValueError) as error:
                if isinstance(error, ValueError):
                    raise MissingError("a path cannot hold NUL", file=repr(self._path)) from error
                raise storage_error(error, self._path, "open the directory") from error
        return self._fd

    def close(self) -> None:
        """Release the descriptor; a later call opens it again."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.close(fd)

    def __del__(self) -> None:
        if hasattr(self, "_fd"):
            self.close()

    # --- reading ------------------------------------------------------------------------------

    def list(self) -> list[str]:
        """Regular files only: no links, FIFOs, devices, directories, hidden or temporary names."""
        try:
            # A fresh descriptor: the position inside a directory is shared by duplicates.
            fd = os.open(".", DIRECTORY_FLAGS, dir_fd=self._directory_fd())
            try:
                with os.scandir(fd) as entries:
                    return sorted(e.name for e in entries if is_name(e.name) and e.is_file(follow_symlinks=False))
            finally:
                os.close(fd)
        except OSError as error:
            raise storage_error(error, self._path, "list the directory") from error

    def _open(self, name: str) -> int:
        try:
            return os.open(check_name(name), _READ_FLAGS, dir_fd=self._directory_fd())
        except OSError as error:
            raise storage_error(error, self._file(name), "open") from error

    @contextlib.contextmanager
    def held(self, name: str) -> Iterator[None]:
        """Open a file once for all that is read of it meanwhile, whatever becomes of its name; raises as `size` does.

        Its size is asked for anew by every read.
        """
        if name in self._held:
            yield
            return
        self._held[name] = self._open(name)
        try:
            yield
        finally:
            os.close(self._held.pop(name))

    @contextlib.contextmanager
    def _open_regular(self, name: str) -> Iterator[tuple[int, int]]:
        """(descriptor, size) of a regular file; closed afterwards, unless it is held."""
        held = self._held.get(name)
        fd = self._open(name) if held is None else held
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise StorageError("not a regular file", file=self._file(name))
            yield fd, status.st_size
        except OSError as error:
            raise storage_error(error, self._file(name), "read") from error
        finally:
            if held is None:
                os.close(fd)

    def size(self, name: str) -> int:
        with self._open_regular(name) as (_, size):
            return size

    def _pread(self, fd: int, name: str, offset: int, length: int) -> bytes:
        parts: list[bytes] = []
        done = 0
        while done < length:
            part = os.pread(fd, length - done, offset + done)
            if not part:
                raise TruncatedError(
                    "the file ends inside the bytes asked for",
                    file=self._file(name),
                    offset=offset,
                    expected=length,
                    found=done,
                )
            parts.append(part)
            done += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read_at(self, name: str, offset: int, length: int) -> bytes:
        return self.read_ranges(name, [(offset, length)])[0]

    def read_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> Sequence[bytes]:
        for offset, length in ranges:
            check_range(offset, length)
        with self._open_regular(name) as (fd, size):
            found = []
            for offset, length in ranges:
                if length and offset + length > size:  # before pread allocates what a hostile length asks for
                    raise TruncatedError(
                        "the file ends inside the bytes asked for",
                        file=self._file(name),
                        offset=offset,
                        expected=length,
                        found=max(0, size - offset),
                    )
                found.append(self._pread(fd, name, offset, length))
            return found

    def map(self, name: str) -> memoryview:
        with self._open_regular(name) as (fd, size):
            if size == 0:  # mmap refuses an empty file
                return memoryview(b"")
            return memoryview(mmap.mmap(fd, size, access=mmap.ACCESS_READ))

    # --- writing ------------------------------------------------------------------------------

    def create(self) -> None:
        """Make the directory and its missing parents, each one durable before the next.

        Parents that are there are synced as well: who made them may have died before that.
        """
        path = os.path.abspath(self._path)
        missing: list[str] = []
        try:
            while not os.path.lexists(path):
                missing.append(path)
                path = os.path.dirname(path)
            for each in reversed(missing):
                with contextlib.suppress(FileExistsError):  # another creator came first; the emptiness check decides
                    os.mkdir(each)
                try:
                    fsync_directory(os.path.dirname(each))
                except OSError:
                    with contextlib.suppress(OSError):
                        os.rmdir(each)  # not durable, so it must not be seen
                    raise
            fsync_parents(path)
            if not os.path.isdir(self._path):
                raise ExistsError("the name is taken by something that is not a directory", file=self._path)
            fd = self._directory_fd()
            if any(not is_temporary(name) for name in os.listdir(fd)):
                raise ExistsError("the directory exists and is not empty", file=self._path)
            os.fsync(fd)
        except (OSError, ValueError) as error:
            if isinstance(error, ValueError):
                raise StorageError("a path cannot hold NUL", file=repr(self._path)) from error
            raise storage_error(error, self._path, "create the directory") from error

    def publish(self, name: str, chunks: Iterable[bytes | memoryview]) -> None:
        file = self._file(check_name(name))
        directory = self._directory_fd()
        temporary = temporary_name()
        try:
            self._refuse_taken(name, file, directory)
            owned = self._write_temporary(temporary, chunks, directory)
            os.link(temporary, name, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
        except FileExistsError as error:
            self._unlink_quietly(temporary, directory)
            raise ExistsError("the name is taken", file=file) from error
        except OSError as error:
            self._unlink_quietly(temporary, directory)
            raise storage_error(error, file, "publish") from error
        except BaseException:
            self._unlink_quietly(temporary, directory)
            raise
        self._unlink_quietly(temporary, directory)
        try:
            os.fsync(directory)
        except OSError as error:
            self._unlink_quietly(name, directory)  # not durable, so it must not be seen
            raise storage_error(error, file, "make the name durable") from error
        self._owned[name] = owned

    def _refuse_taken(self, name: str, file: str, directory: int) -> None:
        """Spare the writing when the name is visibly taken; `link` alone decides a race."""
        with contextlib.suppress(FileNotFoundError):
            os.stat(name, dir_fd=directory, follow_symlinks=False)
            raise ExistsError("the name is taken", file=file)

    def _write_temporary(self, temporary: str, chunks: Iterable[bytes | memoryview], directory: int) -> OwnedFile:
        fd = os.open(temporary, _CREATE_FLAGS, 0o666, dir_fd=directory)
        try:
            size = 0
            for chunk in chunks:
                size += write_all(fd, chunk)
            os.fsync(fd)
            status = os.fstat(fd)
            return OwnedFile(status.st_dev, status.st_ino, size)
        finally:
            os.close(fd)

    def _unlink_quietly(self, name: str, directory: int) -> None:
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=directory)

    def open_append(self, name: str) -> LocalAppender:
        file = self._file(check_name(name))
        directory = self._directory_fd()
        owned = self._owned.get(name)
        if owned is None:
            raise FencedError("only the handle that published a file may append to it", file=file)
        try:
            fd = os.open(name, _APPEND_FLAGS, dir_fd=directory)
        except OSError as error:
            raise storage_error(error, file, "open for appending") from error
        status = os.fstat(fd)
        if (status.st_dev, status.st_ino) != (owned.device, owned.inode) or status.st_size != owned.size:
            os.close(fd)
            raise FencedError("the file was replaced or changed by another writer", file=file)
        return LocalAppender(fd, file, owned)

    def sync(self, name: str) -> None:
        with self._open_regular(name) as (fd, _):
            try:
                os.fdatasync(fd)
            except OSError as error:
                raise storage_error(error, self._file(name), "sync") from error

    def remove(self, name: str) -> None:
        file = self._file(check_name(name))
        directory = self._directory_fd()
        self._owned.pop(name, None)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=directory)
            os.fsync(directory)
        except OSError as error:
            raise storage_error(error, file, "remove") from error

    def lock(self) -> LocalLock:
        try:
            fd = os.open(".", DIRECTORY_FLAGS, dir_fd=self._directory_fd())
        except OSError as error:
            raise storage_error(error, self._path, "open the directory") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(fd)
            raise FencedError("another writer holds this memory", file=self._path) from error
        except OSError as error:
            os.close(fd)
            raise storage_error(error, self._path, "lock (does this file system support flock?)") from error
        lock = LocalLock(fd)
        self._lock = weakref.ref(lock)
        return lock

    def sweep(self) -> Sequence[str]:
        """Remove temporary files that dead writers left behind; the names. Only for the lock's holder.

        The directory is synced whatever was found: a writer killed between `link` and fsync leaves a name that
        everybody sees and a power cut would take.
        """
        directory = self._directory_fd()
        lock = None if self._lock is None else self._lock()
        if lock is None or not lock.held:
            raise FencedError("only the holder of the lock may sweep", file=self._path)
        try:
            left = sorted(name for name in os.listdir(directory) if is_temporary(name))
            for name in left:
                os.unlink(name, dir_fd=directory)
            os.fsync(directory)
        except OSError as error:
            raise storage_error(error, self._path, "sweep") from error
        return left


def holding(directory: Directory, name: str) -> contextlib.AbstractContextManager[None]:
    """`LocalDirectory.held`; another medium opens nothing that could be kept."""
    return directory.held(name) if isinstance(directory, LocalDirectory) else contextlib.nullcontext()
