"""`verify`: any path or URL in, one report out.

Purpose: the public face of checking. Invariants: nothing is ever written; whatever lies there, however
damaged or hostile, gives a verdict and no exception (wrong arguments of the caller's own do: `InputError`
for an unknown level); the same bytes give the same report.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from emm.errors import EmmError, FormatError, InputError, LimitError, MissingError
from emm.layout import SEGMENT_SUFFIX, SNAPSHOT_SUFFIX, VERIFY_STATE_BYTES_MAX
from emm.verify.coverage import Coverage
from emm.verify.finding import Finding, Severity, finding, from_error
from emm.verify.levels import Level, Options, parse_level
from emm.verify.memory import Checked, check_file, check_memory, list_files
from emm.verify.verdict import Verdict, exit_code, verdict_of, worst, worst_exit
from emm.vfs.protocol import Directory
from emm.vfs.resolve import Location, is_directory, open_directory, open_file, walk_memories


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

    @property
    def verdict(self) -> Verdict:
        return worst(verdict_of(each) for each in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "url": self.url,
            "kind": self.kind,
            "verdict": str(self.verdict),
            "uuid": self.uuid,
            "generation": self.generation,
            "lsn": self.lsn,
            "findings": [each.to_dict() for each in self.findings],
            "coverage": self.coverage.to_dict(),
        }


@dataclass(frozen=True, slots=True)
class Report:
    """What a check of one URL found."""

    url: str
    level: Level
    strict: bool
    targets: tuple[Target, ...]

    @property
    def findings(self) -> list[Finding]:
        """Findings of all targets, in order."""
        return [each for target in self.targets for each in target.findings]

    @property
    def verdict(self) -> str:
        """One of the verdicts of spec S-7, the worst of all targets."""
        return str(worst(target.verdict for target in self.targets))

    @property
    def exit_code(self) -> int:
        """0 clean, 3 repairable, 4 loss, 5 refused, 6 could not tell, 7 under `strict`, 10 missing."""
        return worst_exit(
            exit_code(each.verdict, strict=self.strict, complete=each.coverage.complete) for each in self.targets
        )

    @property
    def coverage(self) -> Coverage:
        """Counts over all targets."""
        total = Coverage(min((each.coverage.level for each in self.targets), default=self.level))
        for target in self.targets:
            total.add(target.coverage)
        return total

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "url": self.url,
            "level": self.level.label,
            "strict": self.strict,
            "verdict": self.verdict,
            "exit_code": self.exit_code,
            "coverage": self.coverage.to_dict(),
            "targets": [each.to_dict() for each in self.targets],
        }

    def to_json(self) -> str:
        """The report as JSON with sorted keys."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True)


def verify(
    url: Location,
    level: str | Level = "blocks",
    *,
    strict: bool = False,
    state_bytes_max: int = VERIFY_STATE_BYTES_MAX,
    progress: Callable[[str, int], None] | None = None,
) -> Report:
    """Check a memory directory, one .emm or .wal file, or a tree of memories. Nothing is written.

    `level` is header, table, blocks (default; journal included), replay or numeric. `strict` turns an
    unsealed tail or an incomplete coverage into exit code 7. States larger than `state_bytes_max` bytes are
    refused. `progress` is called with a file and the bytes just checked.
    """
    options = Options(parse_level(level), strict, state_bytes_max, progress)
    return Report(str(url), options.level, strict, tuple(_targets(url, options)))


def _targets(url: Location, options: Options) -> Iterator[Target]:
    place = str(url)
    try:
        if not is_directory(url):
            directory, name = open_file(url)
            yield _target(check_file(directory, name, options))
            return
        found = False
        errors: list[EmmError] = []
        for directory in walk_memories(url, on_error=errors.append):
            found = True
            yield from _in_directory(directory, options)
        for error in errors:
            yield _failed(error.file or place, error, options)
        if not found and not errors:
            message = "there is no memory here, nor below"
            yield _single(place, finding("missing", message, file=open_directory(url).url), options)
    except EmmError as error:
        yield _failed(place, error, options)
    except MemoryError:
        message = "the check needs more memory than this process has"
        yield _failed(place, LimitError(message, rule="S-1", file=place), options)


def _in_directory(directory: Directory, options: Options) -> Iterator[Target]:
    """The memory in a directory, and every loose file beside it."""
    try:
        listing, loose = list_files(directory)
        if listing.generations or listing.segments:
            yield _target(check_memory(directory, options))
        elif not loose:
            names = f"names ending in {SNAPSHOT_SUFFIX} or {SEGMENT_SUFFIX}, but no regular file among them"
            yield _single(directory.url, finding("unreadable", f"there are {names}", file=directory.url), options)
        for name in loose:
            yield _target(check_file(directory, name, options))
    except EmmError as error:
        yield _failed(directory.url, error, options)
    finally:
        directory.close()


def _target(checked: Checked) -> Target:
    coverage = checked.coverage
    coverage.left_out += [
        f"{each.file}: {each.message}"
        for each in checked.findings
        if each.severity in (Severity.UNKNOWN, Severity.REFUSED, Severity.ABSENT)
    ]
    uuid = None if checked.uuid is None else checked.uuid.hex()
    return Target(checked.url, checked.kind, tuple(checked.findings), coverage, uuid, checked.generation, checked.lsn)


def _failed(url: str, error: EmmError, options: Options) -> Target:
    """A place that could not be checked at all."""
    if isinstance(error, MissingError):
        code = "missing"
    elif isinstance(error, InputError):
        code = "wrong-location"
    else:
        code = "over-limit" if isinstance(error, FormatError) else "unreadable"
    return _single(url, from_error(code, error, file=error.file or url), options)


def _single(url: str, only: Finding, options: Options) -> Target:
    return Target(url, "place", (only,), Coverage(options.level, left_out=[f"{url}: {only.message}"]))
