"""The second reading of `--paranoid`: everything once more, from the medium, and the two must agree.

Purpose: one way to compare two readings, of a memory or of a single file. Invariants: what both read is counted; a
target that changed meanwhile proves nothing about the reading.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from emm.verify.checked import Checked, seen
from emm.verify.finding import finding
from emm.verify.levels import Options
from emm.verify.paranoia import forget_cached
from emm.vfs.protocol import Directory


def read_again(
    first: Checked, directory: Directory, options: Options, again: Callable[[Options], Checked], *names: str
) -> Checked:
    """The first reading, with what a second one finds otherwise. `names`: the files, all of the directory for none."""
    forget_cached(directory, *names)
    second = again(replace(options, on_finding=None))  # what both find was told once
    first.coverage.bytes_read += second.coverage.bytes_read
    known = [(each.uuid, each.generation, each.lsn, each.chain, each.findings) for each in (first, second)]
    settled = not any(each.code == "changed-while-reading" for each in (*first.findings, *second.findings))
    if known[0] != known[1] and settled:
        extra = [each for each in second.findings if each not in first.findings]
        message = "two readings differ: memory, cable or controller give other bytes now and then"
        numbers = {"expected": f"{len(first.findings)} findings", "found": f"{len(second.findings)} findings"}
        extra.append(finding("reading-differs", message, file=first.url, **numbers))
        first.findings += seen(extra, options, first.url)
    return first
