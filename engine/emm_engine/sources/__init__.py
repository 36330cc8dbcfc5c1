"""Which corpus to read: a person's own folder, or what the machine already holds.

Purpose: the one choice behind `emm ingest PATH` and the demo. Invariants: a source is an iterator of
documents that never stops at a bad file; what it skipped goes to the `problem` callback.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

from emm_engine.documents import Document
from emm_engine.sources.changelog import Problem, debian_changelogs
from emm_engine.sources.intake import Intake
from emm_engine.sources.python import python_documentation
from emm_engine.sources.settings import Settings, Threshold, Window, fields_of
from emm_engine.sources.text import text_folder

ENTRIES_MIN = 1000  # fewer changelog entries than this on a machine: read Python's documentation instead


def documents_below(folder: str | Path, problem: Problem | None = None) -> Iterator[Document]:
    """Documents of a folder: changelog entries where it holds `*/changelog.Debian.gz`, then files of every format.

    `MissingError` when the folder does not exist.
    """
    intake = Intake([folder], problem=problem)
    return itertools.chain(debian_changelogs(folder, problem), intake.documents())


def machine_documents(
    folder: str | Path = "/usr/share/doc", problem: Problem | None = None, entries_min: int = ENTRIES_MIN
) -> tuple[str, Iterator[Document]]:
    """(name, documents) of the text this machine already holds: `debian-changelogs` or `python-documentation`."""
    entries = debian_changelogs(folder, problem)
    first = list(itertools.islice(entries, entries_min))
    if len(first) >= entries_min:
        return "debian-changelogs", itertools.chain(first, entries)
    return "python-documentation", python_documentation(problem)


__all__ = [
    "Intake",
    "Settings",
    "Threshold",
    "Window",
    "debian_changelogs",
    "documents_below",
    "fields_of",
    "machine_documents",
    "python_documentation",
    "text_folder",
]
