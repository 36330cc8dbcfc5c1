"""One target of a check and everything found out about it, from a place that was discovered.

Purpose: turn a place (a directory that may hold a memory, one file, or a name that leads nowhere) into targets.
Invariants: whatever lies there gives a target with a verdict, never an exception; a directory gives its memory and
every loose file beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from emm.errors import EmmError, FormatError, InputError, LimitError, MissingError
from emm.verify.checked import Checked
from emm.verify.coverage import Coverage
from emm.verify.finding import Finding, Severity, finding, from_error
from emm.verify.levels import CHECKED_SUFFIXES, Options
from emm.verify.memory import check_memory, list_files
from emm.verify.places import Place
from emm.verify.single import check_file
from emm.verify.stability import odd_entries
from emm.verify.verdict import Verdict, verdict_of, worst
from emm.vfs.protocol import Directory
from emm.vfs.resolve import open_directory, open_file


@dataclass(frozen=True, slots=True)
class Target:
    """One memory, or one file that was checked by itself."""

    url: str
    kind: str  # memory, snapshot, segment, v3, file or place
    findings: tuple[Finding, ...]
    coverage: Coverage
    uuid: str | None = None
    generation: int | None = None  # the newest whole one
    lsn: int | None = None  # the last whole commit
    chain: str | None = None  # chain value of that commit, where it was read

    @property
    def verdict(self) -> Verdict:
        return worst(verdict_of(each) for each in self.findings)

    def with_findings(self, more: list[Finding]) -> Target:
        """The target with findings that a comparison added."""
        return replace(self, findings=(*self.findings, *more)) if more else self

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "url": self.url,
            "kind": self.kind,
            "verdict": str(self.verdict),
            "uuid": self.uuid,
            "generation": self.generation,
            "lsn": self.lsn,
            "chain": self.chain,
            "findings": [each.to_dict() for each in self.findings],
            "coverage": self.coverage.to_dict(),
        }


def check_place(place: Place, options: Options) -> Iterator[tuple[Target, Checked | None]]:
    """Every target at a place, each with what the check knows beyond it."""
    try:
        if place.problem is not None:
            yield failed(place.url, place.problem, options), None
        elif place.is_file:
            directory, name = open_file(place.url)
            checked = check_file(directory, name, options)
            yield _target(checked), checked
        else:
            yield from _in_directory(open_directory(place.url), options)
    except EmmError as error:
        yield failed(place.url, error, options), None
    except MemoryError:
        message = "the check needs more memory than this process has"
        yield failed(place.url, LimitError(message, rule="S-1", file=place.url), options), None


def _in_directory(directory: Directory, options: Options) -> Iterator[tuple[Target, Checked | None]]:
    """The memory in a directory, and every loose file beside it."""
    try:
        listing, loose = list_files(directory)
        if listing.generations or listing.segments:
            checked = check_memory(directory, options)
            checked.findings += [_beside(directory, name) for name in loose]
            yield _target(checked), checked
        elif not loose:
            names = f"names ending in {', '.join(CHECKED_SUFFIXES)}, but no regular file among them"
            only = finding("unreadable", f"there are {names}", file=directory.url)
            yield single(directory.url, only, options), None
        else:
            for odd in odd_entries(directory):
                if odd.severity is not Severity.NOTICE:
                    yield single(odd.file or directory.url, odd, options), None
        for name in loose:
            try:
                checked = check_file(directory, name, options)
                yield _target(checked), checked
            except EmmError as error:
                yield failed(f"{directory.url}/{name}", error, options), None
    finally:
        directory.close()


def _beside(directory: Directory, name: str) -> Finding:
    message = "this lies beside the memory, is no part of it and is checked by itself"
    return finding("other-file", message, file=f"{directory.url}/{name}")


def _target(checked: Checked) -> Target:
    coverage = checked.coverage
    coverage.left_out += [
        f"{each.file}: {each.message}"
        for each in checked.findings
        if each.severity in (Severity.UNKNOWN, Severity.REFUSED, Severity.ABSENT)
    ]
    uuid = None if checked.uuid is None else checked.uuid.hex()
    chain = None if checked.chain is None else checked.chain.hex()
    return Target(
        checked.url, checked.kind, tuple(checked.findings), coverage, uuid, checked.generation, checked.lsn, chain
    )


def failed(url: str, error: EmmError, options: Options) -> Target:
    """A place that could not be checked at all."""
    if isinstance(error, MissingError):
        code = "missing"
    elif isinstance(error, InputError):
        code = "wrong-location"
    else:
        code = "over-limit" if isinstance(error, FormatError) else "unreadable"
    return single(error.file or url, from_error(code, error, file=error.file or url), options)


def single(url: str, only: Finding, options: Options) -> Target:
    """A target of which one thing is known."""
    return Target(url, "place", (only,), Coverage(options.level, left_out=[f"{url}: {only.message}"]))
