"""A disk in memory that knows what a power cut would leave, and the part of a kernel that the format relies on.

Purpose: `simulated_os.mounted` puts it under the real `emm.vfs.local`, which then keeps what it writes here.
Invariants:

- What processes see (`cache`, `entries`) and what is durable (`durable`) are apart. `pending` leads from one to the
  other: writes until the file is synced, names until their directory is. Syncing a file does not sync its name.
- A link binds the inode, so what was written through another name of it is the same pending data.
- A failed sync drops what was pending and keeps showing it; the next sync then succeeds without it.
- A lock belongs to an open file of a process and ends with it. No clock, no threads, no randomness: the same calls
  give the same log.
"""

from __future__ import annotations

import errno
import itertools
import os
import posixpath
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from emm.vfs import handles
from emm_fuzz.inodes import File, Folder, Rename, Write, overlay, rename

__all__ = ["FD_FIRST", "ROOT", "Fault", "File", "Folder", "Rename", "SimulatedDisk", "Write", "overlay", "rename"]

ROOT: Final = 1
FD_FIRST: Final = 1 << 30  # far from the real ones, so that each kernel knows its own
_fd_numbers = itertools.count(FD_FIRST)


@dataclass(frozen=True, slots=True)
class Fault:
    """The n-th call of a kind fails: `eio`, `enospc` (half goes in), `short` (a write), `drop` or `keep` (a sync)."""

    call: str  # open, scandir, pread, write, fsync, fsync-dir, link, unlink, mkdir; next: so many after a fault
    nth: int  # from 1
    how: str


@dataclass(slots=True)
class _Open:
    inode: int
    pid: int


class SimulatedDisk:
    """One disk and the kernel above it. `on_sync` hears of every sync just before it happens."""

    def __init__(self, faults: Sequence[Fault] = ()) -> None:
        self.files: dict[int, File] = {}
        self.folders: dict[int, Folder] = {ROOT: Folder()}
        self.log: list[str] = []
        self.pid = 1
        self.on_sync: Callable[[str], None] | None = None
        self.on_change: Callable[[], None] | None = None  # after every write and every change of a name
        self.faults = {(each.call, each.nth): each.how for each in faults}
        self.faults_met = 0
        self.dropped = False  # a failed sync has dropped data that processes still see
        self.unreadable: set[tuple[int, int]] = set()  # (inode, byte) that no read gets past
        self.calls: Counter[str] = Counter()
        self._since_fault = 0  # which call after the last fault comes next; 0: there was none
        self._inodes = itertools.count(ROOT + 1)
        self._open: dict[int, _Open] = {}
        self._locks: dict[int, int] = {}  # inode → descriptor
        self.temporary = itertools.count(1)

    # --- the harness's side -----------------------------------------------------------------------

    def kill(self) -> None:
        """The running process ends without a word: its descriptors and locks go, the page cache stays."""
        dead = {fd for fd, each in self._open.items() if each.pid == self.pid}
        for fd in dead:
            self.close(fd)
        for lock in list(handles._LOCKS):
            if lock._fd in dead:
                lock._fd = -1  # so that its end does not close a descriptor that is gone
        self.pid += 1

    def clone(self) -> SimulatedDisk:
        """The same disk and page cache, with no process."""
        other = SimulatedDisk()
        other.files = {n: File(bytearray(f.cache), f.durable, list(f.pending)) for n, f in self.files.items()}
        other.folders = {n: Folder(dict(f.entries), dict(f.durable), list(f.pending)) for n, f in self.folders.items()}
        other._inodes = itertools.count(1 + max([*self.files, *self.folders]))
        other.temporary = itertools.count(1 << 40)
        other.log = list(self.log)
        other.dropped = self.dropped
        return other

    @classmethod
    def holding(cls, path: str, files: Mapping[str, bytes] | None) -> SimulatedDisk:
        """A disk on which all of this is durable; None: the directory does not exist."""
        disk = cls()
        if files is not None:
            disk.put(path, files)
        return disk

    def put(self, path: str, files: Mapping[str, bytes]) -> None:
        """A directory that was here before, all of it durable."""
        folder = ROOT
        for part in path.strip("/").split("/"):
            inode = self.folders[folder].entries.get(part)
            folder = self._adopt(folder, part, Folder()) if inode is None else inode
        for name, data in files.items():
            self._adopt(folder, name, File(bytearray(data), data))

    def become(self, other: SimulatedDisk) -> None:
        """Hold what another disk holds, its page cache too. Processes have ended; faults and call counts live on."""
        self.kill()
        self.files, self.folders, self.dropped = other.files, other.folders, other.dropped

    @property
    def in_doubt(self) -> bool:
        """True when names are seen that no later sync makes durable: their failed sync took them (spec 1.1)."""
        return bool(self.faults_met) and any(folder.in_doubt for folder in self.folders.values())

    def _adopt(self, folder: int, name: str, node: File | Folder) -> int:
        inode = next(self._inodes)
        if isinstance(node, File):
            self.files[inode] = node
        else:
            self.folders[inode] = node
        self.folders[folder].entries[name] = self.folders[folder].durable[name] = inode
        return inode

    def fault(self, call: str) -> str | None:
        """What this call, the n-th of its kind, meets."""
        self.calls[call] += 1
        how = self.faults.get((call, self.calls[call]))
        if how is not None:
            self._since_fault = 1
        elif self._since_fault:
            how = self.faults.get(("next", self._since_fault))
            self._since_fault = 0 if how else self._since_fault + 1
        self.faults_met += how is not None
        return how

    def note(self, text: str) -> int:
        """Write a line into the log; its number."""
        self.log.append(text)
        return len(self.log)

    # --- the kernel -------------------------------------------------------------------------------

    def walk(self, path: str | os.PathLike[str]) -> int | None:
        """The inode at an absolute path, as processes see it."""
        inode: int | None = ROOT
        parts = os.fspath(path).strip("/")
        for part in parts.split("/") if parts else ():
            inode = None if inode is None or inode not in self.folders else self.folders[inode].entries.get(part)
        return inode

    def at(self, fd: int) -> int:
        if fd not in self._open:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return self._open[fd].inode

    def place(self, path: str | os.PathLike[str], dir_fd: int | None) -> tuple[int, str]:
        """(folder, name) of a path that need not exist."""
        path = os.fspath(path)
        if dir_fd is not None:
            return self.at(dir_fd), path
        parent, name = posixpath.split(path.rstrip("/"))
        folder = self.walk(parent)
        if folder is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return folder, name

    def change(self, folder: int, name: str, inode: int) -> None:
        """A name appears or vanishes; durable once the directory is synced."""
        step = self.note(f"{'link' if inode else 'unlink'} {name}")
        change = Rename(step, name, inode)
        rename(self.folders[folder].entries, change)
        self.folders[folder].pending.append(change)
        self._changed()

    def _changed(self) -> None:
        if self.on_change is not None:
            self.on_change()

    def new_fd(self, inode: int) -> int:
        fd = next(_fd_numbers)
        self._open[fd] = _Open(inode, self.pid)
        return fd

    def new_file(self) -> int:
        inode = next(self._inodes)
        self.files[inode] = File()
        return inode

    def new_folder(self) -> int:
        inode = next(self._inodes)
        self.folders[inode] = Folder()
        return inode

    def close(self, fd: int) -> None:
        if fd < FD_FIRST:
            os.close(fd)  # a real one, dropped while this disk is mounted
        else:
            self._open.pop(fd, None)
            self._locks = {inode: holder for inode, holder in self._locks.items() if holder != fd}

    def sync(self, fd: int) -> None:
        inode = self.at(fd)
        node = self.folders.get(inode) or self.files.get(inode)
        assert node is not None
        call = "fsync-dir" if isinstance(node, Folder) else "fsync"
        if self.on_sync is not None:
            self.on_sync(call)
        self.note(f"{call} {inode}")
        how = self.fault(call)
        if how == "drop":
            self.dropped |= isinstance(node, File) and bool(node.pending)
            node.pending = []
        if how is not None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        node.settle()

    def read(self, fd: int, length: int, offset: int) -> bytes:
        inode = self.at(fd)
        if any(bad == inode and offset <= byte < offset + length for bad, byte in self.unreadable):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return bytes(memoryview(self.files[inode].cache)[offset : offset + length])

    def write(self, fd: int, data: bytes) -> int:
        file = self.files[self.at(fd)]
        how = self.fault("write")
        if how in ("enospc", "short"):
            data = data[: len(data) // 2]
        if how != "eio" and data:
            step = self.note(f"write {self.at(fd)} {len(file.cache)}+{len(data)}")
            file.pending.append(Write(step, len(file.cache), data))
            file.cache += data
            self._changed()
        if how in ("enospc", "eio"):
            raise OSError(code := getattr(errno, how.upper()), os.strerror(code))
        return len(data)

    def flock(self, fd: int) -> None:
        if self._locks.setdefault(self.at(fd), fd) != fd:
            raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK))
