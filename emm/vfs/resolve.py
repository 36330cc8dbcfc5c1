"""From what a person types to a `Directory`: paths and file:// are local, other URLs go through fsspec.

Purpose: the one place that reads URLs. Invariants: a path never becomes remote by accident (only `://`
or `::` make a URL); discovery never follows a symbolic link below its root and never descends further
than its bound.
"""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Final

import fsspec

from emm.errors import EmmError, InputError, LimitError, MissingError
from emm.layout import SEGMENT_SUFFIX, SNAPSHOT_SUFFIX
from emm.vfs.handles import storage_error as local_error
from emm.vfs.local import LocalDirectory
from emm.vfs.names import check_name
from emm.vfs.protocol import Directory
from emm.vfs.remote import RemoteDirectory

DEPTH_MAX: Final = 32
MEMORY_SUFFIXES: Final = (SNAPSHOT_SUFFIX, SEGMENT_SUFFIX)

Location = str | os.PathLike[str]


def local_path(url: Location) -> str | None:
    """The path behind a plain path or file:// URL; None for every other URL; `InputError` for neither."""
    text = os.fspath(url) if isinstance(url, (str, os.PathLike)) else None
    if isinstance(text, bytes):
        text = os.fsdecode(text)
    if not isinstance(text, str) or not text:
        raise InputError("a path or URL is needed", found=repr(url))
    if "\0" in text:
        raise InputError("a path cannot hold NUL", found=repr(text))
    if not isinstance(url, str) or ("://" not in text and "::" not in text):
        return text
    scheme, separator, rest = text.partition("://")
    if "::" in text or not separator or scheme.lower() not in ("file", "local"):
        return None
    host, slash, path = rest.partition("/")
    if not slash or host.lower() not in ("", "localhost"):
        raise InputError("a file URL names an absolute path on this machine, as file:///path", found=text)
    return urllib.parse.unquote("/" + path)


def open_directory(url: Location) -> Directory:
    """The directory at a path or URL. Opens nothing yet, so a missing one is found out at first use."""
    path = local_path(url)
    if path is not None:
        return LocalDirectory(path)
    return _remote(str(url))


def open_file(url: Location) -> tuple[Directory, str]:
    """The directory that holds one file, and the file's name in it."""
    path = local_path(url)
    if path is not None:
        parent, name = os.path.split(path)
        return LocalDirectory(parent or os.curdir), check_name(name)
    whole = _remote(str(url))
    parent, _, name = whole.path.rpartition("/")
    parent_url = whole.url.rstrip("/").rpartition("/")[0]
    return RemoteDirectory(whole.filesystem, parent, parent_url), check_name(name)


def is_directory(url: Location) -> bool:
    """True for an existing directory, False for an existing file; `MissingError` when there is neither."""
    path = local_path(url)
    if path is not None:
        try:
            os.lstat(path)
        except OSError as error:
            raise local_error(error, path, "find") from error
        return os.path.isdir(path)
    remote = _remote(str(url))
    try:
        remote.entries()
        return True
    except MissingError:
        directory, name = open_file(url)
        directory.size(name)
        return False


def walk_memories(
    url: Location,
    *,
    depth_max: int = DEPTH_MAX,
    on_error: Callable[[EmmError], None] | None = None,
    suffixes: tuple[str, ...] = MEMORY_SUFFIXES,
) -> Iterator[Directory]:
    """Every directory at or below `url` that holds a name with one of the endings, in order of their paths.

    By default the endings of a memory's files. What cannot be listed, or lies deeper than `depth_max`, is given to
    `on_error` and passed over; without it the error is raised.
    """

    def fail(error: EmmError) -> None:
        if on_error is None:
            raise error
        on_error(error)

    path = local_path(url)
    walk, root = (_walk_remote, str(url)) if path is None else (_walk_local, path)
    yield from walk(root, depth_max, suffixes, fail)


def _walk_local(
    root: str, depth_max: int, suffixes: tuple[str, ...], fail: Callable[[EmmError], None]
) -> Iterator[Directory]:
    pending = [(root, 0)]
    while pending:
        path, depth = pending.pop()
        below: list[str] = []
        holds = False
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        below.append(entry.path)
                    elif entry.name.endswith(suffixes):
                        holds = True
        except NotADirectoryError:
            fail(MissingError("not a directory", file=path))
        except OSError as error:
            fail(local_error(error, path, "list the directory"))
        if holds:
            yield LocalDirectory(path)
        if below and depth >= depth_max:
            fail(LimitError("directories nest deeper than the limit", file=path, expected=depth_max, found=depth + 1))
        else:
            pending += [(each, depth + 1) for each in sorted(below, reverse=True)]


def _walk_remote(
    url: str, depth_max: int, suffixes: tuple[str, ...], fail: Callable[[EmmError], None]
) -> Iterator[Directory]:
    pending = [(_remote(url), 0)]
    while pending:
        directory, depth = pending.pop()
        try:
            entries = directory.entries()
        except EmmError as error:
            fail(error)
            continue
        names = {str(entry["name"]).rstrip("/").rsplit("/", 1)[-1]: entry["type"] for entry in entries}
        if any(kind != "directory" and name.endswith(suffixes) for name, kind in names.items()):
            yield directory
        below = sorted((name for name, kind in names.items() if kind == "directory"), reverse=True)
        if below and depth >= depth_max:
            fail(LimitError("directories nest deeper than the limit", file=directory.url, expected=depth_max))
            continue
        for name in below:
            inside = f"{directory.path.rstrip('/')}/{name}"
            child = RemoteDirectory(directory.filesystem, inside, f"{directory.url.rstrip('/')}/{name}")
            pending.append((child, depth + 1))


def _remote(url: str) -> RemoteDirectory:
    try:
        filesystem, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise InputError(f"this kind of URL needs a package that is not installed: {error}", found=url) from error
    except Exception as error:
        known = "a path, file://, or a protocol that fsspec knows, such as s3://, https:// or memory://"
        raise InputError(f"cannot read this URL ({error})", expected=known, found=url) from error
    return RemoteDirectory(filesystem, str(path), url)
