"""Where an inspection looks: a directory, what it lists, and the heads that can be read or salvaged there.

Purpose: the one way from a path or URL to snapshots for every view of this package. Invariants: reads only; a head is
believed only through its SHA-256, from the front of the file or from its mirror; a snapshot that cannot be read is an
entry with a problem and hides no other.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

from emm.codec.header import decode_header
from emm.codec.snapshot import Head, decode_head
from emm.errors import EmmError, InputError, MissingError, NotEmmError, UnsupportedError
from emm.layout import HEADER, SEGMENT_SUFFIX, SNAPSHOT_SUFFIX
from emm.storage.names import Listing, list_memory, parse_name, snapshot_name
from emm.storage.snapshot_file import load_head, salvage_head
from emm.v3.file import is_v3_file
from emm.vfs import Directory, is_directory, open_directory, open_file, walk_memories

BELOW_SHOWN = 5
Location = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class FoundHead:
    """One snapshot file: its head where one of the two copies is whole, and what is wrong with the file."""

    generation: int  # as the file is named
    name: str
    bytes: int
    head: Head | None
    head_from: str | None  # "head", "mirror" or None
    error: EmmError | None

    @property
    def known(self) -> Head:
        """The head, for callers who know that there is one."""
        assert self.head is not None
        return self.head


@dataclass(frozen=True, slots=True)
class Place:
    """A memory directory, or one file in its directory; `listing` names only what is looked at."""

    url: str
    directory: Directory
    kind: str  # "memory", "snapshot" or "segment"
    listing: Listing

    def heads(self) -> list[FoundHead]:
        """Every generation of the listing, ascending."""
        return [find_head(self.directory, generation) for generation in self.listing.generations]

    def head(self, generation: int | None = None) -> FoundHead:
        """One generation, by default the newest with a head. Raises what is wrong with it when it has none."""
        if generation is not None and generation not in self.listing.generations:
            there = ", ".join(map(str, self.listing.generations)) or "none"
            raise InputError("there is no such generation", expected=f"one of: {there}", found=generation)
        found: FoundHead | None = None
        for number in [generation] if generation is not None else reversed(self.listing.generations):
            found = find_head(self.directory, number)
            if found.head is not None:
                return found
        if found is None or found.error is None:
            raise MissingError("there is no snapshot here", file=self.url)
        raise found.error


@contextlib.contextmanager
def opened(url: Location) -> Iterator[Place]:
    """The place at `url`. Raises `MissingError` when nothing is there, `NotEmmError` when it is something else."""
    if is_directory(url):
        directory = open_directory(url)
        with contextlib.closing(directory):
            yield Place(os.fspath(url), directory, "memory", _listing(directory, url))
        return
    directory, name = open_file(url)
    with contextlib.closing(directory):
        if is_v3_file(directory, name):
            raise UnsupportedError(
                "a v3 file has no view but the overview; `emm upgrade` makes a memory from it", file=os.fspath(url)
            )
        kind, listing = _single(name)
        yield Place(os.fspath(url), directory, kind, listing)


@contextlib.contextmanager
def v3_file(url: Location) -> Iterator[tuple[Directory, str] | None]:
    """(directory, name) of a v3 file at `url`, or None when it is something else."""
    if is_directory(url):
        yield None
        return
    directory, name = open_file(url)
    with contextlib.closing(directory):
        yield (directory, name) if is_v3_file(directory, name) else None


def find_head(directory: Directory, generation: int) -> FoundHead:
    """The head of one generation, from either of its two copies."""
    name, size = snapshot_name(generation), 0
    try:
        size = directory.size(name)
        return FoundHead(generation, name, size, load_head(directory, name), "head", None)
    except EmmError as error:
        wrong = error.located(f"{directory.url}/{name}")
    head = None
    with contextlib.suppress(EmmError):
        head = salvage_head(directory, name)
    head_from = None
    if head is not None:
        head_from = "head" if _front_is_whole(directory, name, size) else "mirror"
    return FoundHead(generation, name, size, head, head_from, wrong)


def _front_is_whole(directory: Directory, name: str, size: int) -> bool:
    """True when the head at the front is whole: the file is damaged elsewhere, say cut short."""
    try:
        header = decode_header(directory.read_at(name, 0, min(HEADER.size, size)))
        decode_head(directory.read_at(name, 0, header.geometry.payload_offset), header)
    except EmmError:
        return False
    return True


def _single(name: str) -> tuple[str, Listing]:
    parsed = parse_name(name)
    if parsed is None:
        raise NotEmmError(
            "not the name of a snapshot or journal segment", file=name, expected="sixteen digits and .emm or .wal"
        )
    suffix, number = parsed
    if suffix == SNAPSHOT_SUFFIX:
        return "snapshot", Listing((number,), ())
    assert suffix == SEGMENT_SUFFIX
    return "segment", Listing((), (number,))


def _listing(directory: Directory, url: Location) -> Listing:
    try:
        return list_memory(directory)
    except MissingError:
        walk = walk_memories(url, on_error=lambda _: None)
        below = [each.url for _, each in zip(range(BELOW_SHOWN), walk, strict=False)]
        if below:
            raise MissingError(f"no memory in this directory itself; below it: {', '.join(below)}") from None
        raise
