"""From what a person names to the places that are checked, one after another.

Purpose: paths, globs and URLs, to files, memories and whole trees of them. Invariants: places come as they are found,
in the order named and, below that, of their paths; no list of all of them is kept; neither a walk nor a pattern
follows a symbolic link (what a person names outright is followed); a name that leads nowhere is a place with a
problem.
"""

from __future__ import annotations

import fnmatch
import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import fsspec

from emm.errors import EmmError, MissingError
from emm.verify.levels import CHECKED_SUFFIXES
from emm.vfs.resolve import Location, is_directory, local_path, walk_memories


@dataclass(frozen=True, slots=True)
class Place:
    """A directory with a memory or loose files in it, or one file, or (with `problem`) neither."""

    url: str
    root: str  # what was named and led here
    is_file: bool = False
    problem: EmmError | None = None


def discover(urls: Iterable[Location]) -> Iterator[Place]:
    """Every place that the given paths, patterns and URLs lead to."""
    for url in urls:
        try:
            for named in _expanded(url):
                yield from _below(named)
        except EmmError as error:
            yield Place(error.file or str(url), str(url), problem=error)


def _below(url: Location) -> Iterator[Place]:
    root = str(url)
    if not is_directory(url):
        yield Place(root, root, is_file=True)
        return
    found = False
    errors: list[EmmError] = []
    for directory in walk_memories(url, on_error=errors.append, suffixes=CHECKED_SUFFIXES):
        found = True
        place = Place(directory.url, root)
        directory.close()
        yield place
        while errors:
            error = errors.pop(0)
            yield Place(error.file or root, root, problem=error)
    for error in errors:
        found = True
        yield Place(error.file or root, root, problem=error)
    if not found:
        yield Place(root, root, problem=MissingError("there is no memory and no v3 file here, nor below", file=root))


# --- patterns -------------------------------------------------------------------------------------


def _expanded(url: Location) -> Iterator[Location]:
    """What a pattern matches, in order; a name that exists is itself, whatever characters it has."""
    path = local_path(url)
    text = str(url) if path is None else path
    if not glob.has_magic(text) or (path is not None and os.path.lexists(path)):
        yield url
        return
    matches = _remote_matches(text) if path is None else _matches(text)
    found = False
    for match in matches:
        found = True
        yield match
    if not found:
        raise MissingError("nothing matches this pattern", file=text)


def _matches(pattern: str) -> Iterator[str]:
    start, parts = (os.sep, pattern.strip(os.sep)) if pattern.startswith(os.sep) else ("", pattern.rstrip(os.sep))
    yield from _descend(start, [part for part in parts.split(os.sep) if part])


def _descend(path: str, parts: list[str]) -> Iterator[str]:
    """Paths below `path` that match the parts. `**` is any number of directories; links are matched, never entered."""
    if not parts:
        if path:
            yield path
        return
    part, rest = parts[0], parts[1:]
    if part == "**" and not rest:
        yield path or os.curdir  # the whole tree is below it
    elif part == "**":
        yield from _descend(path, rest)
        for name, is_dir in _entries(path):
            if is_dir and not name.startswith("."):
                yield from _descend(os.path.join(path, name), parts)
    elif not glob.has_magic(part):
        below = os.path.join(path, part)
        if os.path.lexists(below):
            yield from _descend(below, rest)
    else:
        for name, is_dir in _entries(path):
            hidden = name.startswith(".") and not part.startswith(".")
            if fnmatch.fnmatchcase(name, part) and not hidden and (is_dir or not rest):
                yield from _descend(os.path.join(path, name), rest)


def _entries(path: str) -> list[tuple[str, bool]]:
    """(name, is a directory and no link) of what is in a directory, sorted; nothing where it cannot be listed."""
    try:
        with os.scandir(path or os.curdir) as entries:
            return sorted((each.name, each.is_dir(follow_symlinks=False)) for each in entries)
    except OSError:
        return []


def _remote_matches(url: str) -> Iterator[str]:
    try:
        filesystem, pattern = fsspec.core.url_to_fs(url)
        found = sorted(filesystem.glob(pattern))
    except Exception as error:  # file systems of third parties raise what they like
        raise MissingError(f"this pattern cannot be looked up: {error}", file=url) from error
    for each in found:
        yield str(filesystem.unstrip_protocol(each))
