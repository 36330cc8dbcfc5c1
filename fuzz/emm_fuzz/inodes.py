"""Files and folders of a simulated disk: what is seen, what is durable, and what leads from one to the other.

Purpose: the state that a power cut is computed from. Invariants: `pending` is everything that was handed to the system
since the last successful sync, in order; settling applies it, and a name in doubt is one that is seen although neither
durable nor pending.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from emm.vfs.names import is_name


class Write(NamedTuple):
    """Bytes handed to the system that no sync has made durable."""

    step: int
    offset: int
    data: bytes


class Rename(NamedTuple):
    """A name that appeared (`inode`) or vanished (0) and that no sync of its directory has made durable."""

    step: int
    name: str
    inode: int


@dataclass(slots=True)
class File:
    cache: bytearray = field(default_factory=bytearray)
    durable: bytes = b""
    pending: list[Write] = field(default_factory=list)

    def settle(self) -> None:
        """What a successful sync does."""
        if self.pending:
            self.durable = overlay(self.durable, self.pending)
            self.pending = []


@dataclass(slots=True)
class Folder:
    entries: dict[str, int] = field(default_factory=dict)
    durable: dict[str, int] = field(default_factory=dict)
    pending: list[Rename] = field(default_factory=list)

    def settle(self) -> None:
        for change in self.pending:
            rename(self.durable, change)
        self.pending = []

    @property
    def in_doubt(self) -> bool:
        """True when a failed sync has dropped a name that everybody still sees."""
        pending = {each.name for each in self.pending}
        return any(
            is_name(name) and self.durable.get(name) != inode and name not in pending
            for name, inode in self.entries.items()
        )


def overlay(data: bytes, writes: Sequence[tuple[int, int, bytes]], size: int = 0) -> bytes:
    """`data` with writes applied in order and at least `size` bytes long; holes are zeros."""
    found = bytearray(data)
    for _, offset, part in writes:
        if len(found) < offset:
            found += bytes(offset - len(found))
        found[offset : offset + len(part)] = part
    return bytes(found) + bytes(max(0, size - len(found)))


def rename(entries: dict[str, int], change: Rename) -> None:
    if change.inode:
        entries[change.name] = change.inode
    else:
        entries.pop(change.name, None)
