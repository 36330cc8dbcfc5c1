"""What is known of one target while and after it is checked.

Purpose: the value that checks of memories and of single files fill in. Invariants: counts are of what was really read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from emm.verify.coverage import Coverage
from emm.verify.finding import Finding
from emm.verify.levels import Options
from emm.verify.segments import Segment
from emm.verify.snapshot import SnapshotCheck

ATTEMPTS: Final = 6  # at something that changes under the check


@dataclass(slots=True)
class Checked:
    """Everything known about one target."""

    url: str
    kind: str  # memory, snapshot, segment or v3
    coverage: Coverage
    findings: list[Finding] = field(default_factory=list)
    uuid: bytes | None = None
    generation: int | None = None  # the newest whole one
    lsn: int | None = None  # the last whole commit
    chains: dict[int, bytes] = field(default_factory=dict)  # LSN → chain value, where it was read and is of interest

    @property
    def chain(self) -> bytes | None:
        """The chain value of the last commit."""
        return None if self.lsn is None else self.chains.get(self.lsn)


def seen(findings: Iterable[Finding], options: Options, url: str) -> Iterator[Finding]:
    """The findings, told to who wants them as they come."""
    for each in findings:
        if options.on_finding is not None:
            options.on_finding(url, each)
        yield each


def count(coverage: Coverage, check: SnapshotCheck) -> None:
    coverage.snapshots += 1
    coverage.bytes_total += check.size
    coverage.bytes_read += check.bytes_read
    coverage.blocks += check.blocks_checked
    coverage.blocks_left_out += check.blocks_left_out


def count_segments(coverage: Coverage, segments: list[Segment], commits: int, options: Options) -> None:
    coverage.segments += len(segments)
    coverage.bytes_total += sum(each.size for each in segments)
    coverage.commits += commits
    for each in segments:
        if each.read_error is None and each.header is not None:
            coverage.bytes_read += each.size
            if options.progress is not None:
                options.progress(each.file, each.size)
