"""Did a directory change while it was checked, and what can be believed if it did?

Purpose: a file that grows, shrinks, is replaced or vanishes under a check makes anything look damaged; what was seen of
it is then no finding about the memory. Invariants: a file is the same while its stamp is (size; on a local disk also
device, inode and both times); "changed while reading" takes the place of damage, never of nothing.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Iterable, Iterator
from typing import Final

from emm.errors import StorageError
from emm.verify.finding import Finding, Severity, finding
from emm.verify.levels import CHECKED_SUFFIXES
from emm.vfs.local import LocalDirectory
from emm.vfs.names import is_name, is_temporary
from emm.vfs.protocol import Directory

Stamps = dict[str, tuple[int, ...]]
HARMLESS: Final = (Severity.NOTICE, Severity.UNSEALED)
_FRESH_NS: Final = 1_000_000_000
_SETTLE_SECONDS: Final = 0.02
_GONE: Final = ("generation-missing", "segment-missing", "missing")
_KINDS: Final = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISBLK, "a block device"),
    (stat.S_ISCHR, "a character device"),
)


def stamp(directory: Directory, name: str) -> tuple[int, ...]:
    """What changes with every change of a file. `StorageError` when there is none."""
    if isinstance(directory, LocalDirectory):
        with contextlib.suppress(OSError):
            found = os.stat(os.path.join(directory.path, name), follow_symlinks=False)
            return found.st_size, found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns
    return (directory.size(name),)


def stamps(directory: Directory) -> Stamps:
    """Every name here with the stamp of its file (none where it has just gone): changes with all a writer does."""
    found: Stamps = {}
    for name in directory.list():
        found[name] = ()
        with contextlib.suppress(StorageError):
            found[name] = stamp(directory, name)
    return found


def wait_if_fresh(found: Stamps) -> None:
    """Give a copy that is on its way the time to show it: a file that was written just now may be about to grow."""
    newest = max((each[3] for each in found.values() if len(each) > 3), default=0)
    if abs(time.time_ns() - newest) < _FRESH_NS:
        time.sleep(_SETTLE_SECONDS)


def is_doubtful(findings: Iterable[Finding]) -> bool:
    """True when something was seen that a change under the check could explain."""
    return any(each.severity not in HARMLESS for each in findings)


def changed(file: str, before: Stamps, after: Stamps) -> Finding:
    """The finding that stands for all that was seen of files that changed."""
    differ = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    gone = [name for name in differ if name not in after]
    what = f"{', '.join(differ[:3])}{' and others' if len(differ) > 3 else ''}"
    how = "vanished" if gone == differ else "changed"
    return finding("changed-while-reading", f"{what or 'the directory'} {how} while it was checked", file=file)


def without_vanished(findings: list[Finding], file: str, first: Stamps, last: Stamps) -> list[Finding]:
    """The findings, where what went missing during the check is not blamed on the memory."""
    if not first.keys() - last.keys() or not any(each.code in _GONE for each in findings):
        return findings
    return [*(each for each in findings if each.code not in _GONE), changed(file, first, last)]


def odd_entries(directory: Directory) -> Iterator[Finding]:
    """Names like ours that are no regular files, and what dead writers left; never opened, never followed."""
    if not isinstance(directory, LocalDirectory):
        return
    try:
        entries = os.scandir(directory.path)
    except OSError:
        return  # whoever reads the files says so
    odd: list[Finding] = []
    with entries:
        for entry in entries:
            file = os.path.join(directory.path, entry.name)
            if is_temporary(entry.name):
                odd.append(finding("other-file", "what a writer left that died before it could publish", file=file))
            elif entry.name.endswith(CHECKED_SUFFIXES) and not entry.name.startswith("."):
                with contextlib.suppress(OSError):
                    is_file = entry.is_file(follow_symlinks=False)
                    kind = None if is_file else _kind(entry)
                    if is_file and not is_name(entry.name):
                        odd.append(
                            finding("unreadable", "a file with a backslash in its name is never opened", file=file)
                        )
                    elif kind is not None:
                        odd.append(
                            finding("not-regular", f"this is {kind}, which is never followed or opened", file=file)
                        )
    yield from sorted(odd, key=lambda each: each.file or "")


def _kind(entry: os.DirEntry[str]) -> str | None:
    mode = entry.stat(follow_symlinks=False).st_mode
    return next((words for test, words in _KINDS if test(mode)), None)
