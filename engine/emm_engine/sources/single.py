"""A folder's files one by one, so that each can be read anywhere and in any order.

Purpose: the walk and the reading of one file, apart. Invariants: reading every file of the walk in its order gives the
documents of the folder; a file is read by its path alone, so another process that sees the same files reads the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from emm import MissingError
from emm_engine.documents import Document
from emm_engine.sources.changelog import Problem, changelog_files, read_changelog, readable
from emm_engine.sources.text import read_text, text_files


@dataclass(frozen=True, slots=True)
class Found:
    """A file of a walk."""

    path: Path
    source: str  # as it is shown: relative to the folder that was given
    key: str  # as versions of it are known: the whole path
    kind: Literal["changelog", "text"]


def files_below(folder: str | Path, problem: Problem | None = None) -> Iterator[Found]:
    """The files of a folder that hold documents: changelogs, then text. `MissingError` when there is no such folder."""
    root = Path(folder)
    if not root.is_dir():
        raise MissingError("there is no such folder", file=str(folder))
    return _walk(root.absolute(), problem)


def _walk(root: Path, problem: Problem | None) -> Iterator[Found]:
    base = readable(root.resolve())
    for path in changelog_files(root):
        source = readable(path.relative_to(root))
        yield Found(path, source, f"{base}/{source}", "changelog")
    for path in text_files(root, problem):
        source = readable(path.relative_to(root))
        yield Found(path, source, f"{base}/{source}", "text")


def read_found(found: Found, problem: Problem | None = None) -> Iterator[Document]:
    """The documents of one file; what cannot be read is reported."""
    if found.kind == "changelog":
        return read_changelog(found.path, found.source, problem)
    return read_text(found.path, found.source, found.key, problem)
