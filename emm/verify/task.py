"""One unit of work: a place, and what it is to be compared with.

Purpose: what a worker is handed, whole and picklable, and how it is done. Invariants: comparisons add findings and take
none away; a replica is checked as deeply as the memory itself, and is a target of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

from emm.errors import EmmError
from emm.verify.checked import Checked
from emm.verify.finding import Finding, finding
from emm.verify.levels import Options
from emm.verify.places import Place
from emm.verify.replica import check_with_replica
from emm.verify.target import Target, check_place
from emm.vfs.resolve import open_file

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Task:
    """A place; the LSNs whose chain values will be asked for; a replica; the SHA-256 that a file must have."""

    place: Place
    interest: frozenset[int] = frozenset()
    replica: str | None = None
    sha256: str | None = None
    wants_known: bool = False  # by a ledger, beyond the target


def check_task(task: Task, options: Options) -> Iterator[tuple[Target, Checked | None]]:
    """The targets at the task's place, each with what the check knows beyond it."""
    options = replace(options, interest=options.interest | task.interest)
    if task.replica is not None and task.place.problem is None:
        targets = check_with_replica(task.place, task.replica, options)
    else:
        targets = check_place(task.place, options)
    for target, checked in targets:
        if task.sha256 is not None and checked is not None:  # None: a replica's, or nothing that could be read
            target = target.with_findings(_differs(task.place.url, task.sha256, options))
        yield target, checked


def _differs(url: str, expected: str, options: Options) -> list[Finding]:
    """A finding unless the file at `url` has that SHA-256."""
    try:
        directory, name = open_file(url)
        digest, length = hashlib.sha256(), directory.size(name)
        for start in range(0, length, _CHUNK_BYTES):
            part = directory.read_at(name, start, min(_CHUNK_BYTES, length - start))
            digest.update(part)
            if options.progress is not None:
                options.progress(url, len(part))
    except EmmError as error:
        return [finding("changed-while-reading", f"it could not be read a second time: {error.message}", file=url)]
    found = digest.hexdigest()
    if found == expected.lower():
        return []
    message = "the file is not the one that was expected"
    return [finding("sha256-differs", message, file=url, length=length, expected=expected.lower(), found=found)]
