"""A whole run: from what a person asked for to targets as they are through, and the totals at the end.

Purpose: discovery, order, sampling, comparing and working together put in one place, for `emm-verify` and for programs.
Invariants: nothing that was named is passed over without being counted; memory does not grow with the number of targets
(only with the number of problems); what a run did not reach is said, with how much it is.
"""

from __future__ import annotations

import os
import posixpath
import secrets
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from emm.errors import EmmError, InputError
from emm.layout import VERIFY_STATE_BYTES_MAX
from emm.verify.coverage import Coverage
from emm.verify.finding import Finding, finding
from emm.verify.ledger import Ledger
from emm.verify.levels import CHECKED_SUFFIXES, Level, Options
from emm.verify.paranoia import other_crc32
from emm.verify.places import Place, discover
from emm.verify.sample import Sample, Wanted
from emm.verify.target import Target, single
from emm.verify.task import Task
from emm.verify.verdict import EXIT_ORDER, Verdict, exit_code, worst
from emm.verify.workers import Done, check_all
from emm.vfs.resolve import local_path, open_directory, open_file

SEED_BITS = 32
LEDGER_CODES = ("rolled-back", "history-replaced", "memory-replaced")


@dataclass(frozen=True, slots=True)
class Request:
    """What a run is asked for."""

    urls: tuple[str, ...]
    level: Level = Level.BLOCKS
    strict: bool = False
    jobs: int = 1
    sample: Wanted | None = None
    seed: int | None = None  # of the sample; None = chosen, and said
    ledger: Path | None = None
    max_age_s: float | None = None
    max_duration_s: float | None = None
    accept: bool = False  # take what is there for the truth that the ledger remembers
    against: str | None = None
    sha256: str | None = None
    paranoid: bool = False
    state_bytes_max: int = VERIFY_STATE_BYTES_MAX


@dataclass(slots=True)
class Totals:
    """Counts over everything that is through."""

    coverage: Coverage
    strict: bool
    targets: int = 0
    findings: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    exit_code: int = 0
    verdict: Verdict = Verdict.CLEAN
    places: int = 0  # that were found
    recent: int = 0  # passed over: the ledger has them clean and young enough
    not_reached: int = 0  # when the time was up

    def add(self, target: Target) -> int:
        """Count a target; its own exit code."""
        self.targets += 1
        self.findings += len(target.findings)
        self.verdicts[str(target.verdict)] += 1
        self.verdict = worst((self.verdict, target.verdict))
        self.coverage.level = min(self.coverage.level, target.coverage.level)
        self.coverage.add(target.coverage)
        own = exit_code(target.verdict, strict=self.strict, complete=target.coverage.complete)
        self.exit_code = min(self.exit_code, own, key=EXIT_ORDER.index)
        return own

    def leave_out(self, reason: str) -> None:
        """Something was asked for and not looked at."""
        self.coverage.left_out.append(reason)
        if self.strict:
            self.exit_code = min(self.exit_code, 7, key=EXIT_ORDER.index)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "verdict": str(self.verdict),
            "exit_code": self.exit_code,
            "targets_checked": self.targets,
            "findings": self.findings,
            "verdicts": dict(sorted(self.verdicts.items())),
            "places_found": self.places,
            "places_recent": self.recent,
            "places_not_reached": self.not_reached,
            "coverage": self.coverage.to_dict(),
        }


@dataclass(slots=True)
class _Loose:
    """What is known of a directory without a memory, while its files come through one by one."""

    url: str
    exit_code: int = 0
    complete: bool = True
    listed: bool = True  # each target is one of its files

    def add(self, target: Target) -> None:
        self.exit_code = min(self.exit_code, exit_code(target.verdict), key=EXIT_ORDER.index)
        self.complete &= target.coverage.complete
        self.listed &= target.kind != "place"


class Scrub:
    """One run. After `run` is exhausted, `totals` is final."""

    def __init__(
        self,
        request: Request,
        *,
        progress: Callable[[str, int], None] | None = None,
        on_finding: Callable[[str, Finding], None] | None = None,
    ) -> None:
        _require_sense(request)
        self.request = request
        level = Level.NUMERIC if request.paranoid else request.level
        self.totals = Totals(Coverage(level), request.strict)
        self.sample = self._drawn()
        self._options = Options(
            level,
            request.strict,
            request.state_bytes_max,
            progress,
            on_finding,
            sample=self.sample,
            paranoid=request.paranoid,
        )
        self._deadline = None if request.max_duration_s is None else time.monotonic() + request.max_duration_s
        self._ledger: Ledger | None = None
        self._loose: _Loose | None = None
        self._memory_at = ""
        self._problems: list[str] = []

    def _drawn(self) -> Sample | None:
        wanted = self.request.sample
        if wanted is None:
            return None
        seed = secrets.randbits(SEED_BITS) if self.request.seed is None else self.request.seed
        return wanted.sample(seed, bytes_below(self.request.urls) if wanted.n_bytes is not None else 0)

    def run(self) -> Generator[Target, None, None]:
        """Targets as they are through."""
        request = self.request
        if request.ledger is None:
            yield from self._counted(check_all(self._tasks(), self._options, request.jobs))
            return
        with closing(Ledger(request.ledger, request.urls)) as self._ledger:
            yield from self._counted(check_all(self._tasks(), self._options, request.jobs))
            self._settle(self._ledger)
            yield from self._gone(self._ledger)

    # --- what is to be done ------------------------------------------------------------------------

    def _tasks(self) -> Iterator[Task]:
        places = self._noted(discover(self.request.urls))
        due = places if self._ledger is None else self._ledger.due(places, self.request.max_age_s)
        handed = 0
        for place in due:
            if self._deadline is not None and time.monotonic() >= self._deadline:
                self.totals.not_reached += 1
                continue
            handed += place.problem is None
            yield self._task(place)
        if self.request.max_age_s is not None:
            whole = self.totals.places - len(self._problems)
            self.totals.recent = whole - handed - self.totals.not_reached
        if self.totals.not_reached:
            places_left = f"{self.totals.not_reached} of {self.totals.places} places"
            self.totals.leave_out(f"{places_left} were not reached within {self.request.max_duration_s:g} s")

    def _noted(self, places: Iterator[Place]) -> Iterator[Place]:
        for place in places:
            self.totals.places += 1
            if place.problem is not None:
                self._problems.append(place.url)
            yield place

    def _task(self, place: Place) -> Task:
        known = None if self._ledger is None else self._ledger.known(place.url)
        interest = frozenset() if known is None else frozenset((known.lsn,))
        replica = counterpart(place, self.request.against)
        return Task(place, interest, replica, self.request.sha256, wants_known=self._ledger is not None)

    # --- what came of it ----------------------------------------------------------------------------

    def _counted(self, events: Iterator[Done]) -> Iterator[Target]:
        for event in events:
            target = event.target if self._ledger is None else self._remembered(self._ledger, event)
            self.totals.add(target)
            yield target

    def _remembered(self, ledger: Ledger, event: Done) -> Target:
        """The target, compared with what the ledger knows, and recorded."""
        target, checked, url = event.target, event.known, event.place.url
        of_place = event.place.is_file or (checked is not None and checked.kind == "memory")
        if event.place.problem is not None or target.kind.startswith("replica"):
            return target
        if self._loose is not None and self._loose.url != url:
            self._settle(ledger)
        if not of_place and url != self._memory_at:
            self._loose = self._loose or _Loose(url)
            self._loose.add(target)
            return target
        self._memory_at = url
        if checked is not None and checked.kind == "memory" and target.coverage.level >= Level.BLOCKS:
            checked = replace(checked, findings=list(target.findings))
            if not target.coverage.journals_left_out and not self.request.accept:
                target = target.with_findings(ledger.compare(ledger.known(url), checked))
        contradicted = any(each.code in LEDGER_CODES for each in target.findings)
        own = exit_code(target.verdict)
        if of_place or own:
            comparable = checked is not None and checked.kind == "memory" and not target.coverage.journals_left_out
            ledger.record(
                url,
                checked if comparable and target.coverage.level >= Level.BLOCKS else None,
                own,
                complete=target.coverage.complete and of_place,
                keep=contradicted,
            )
        return target

    def _settle(self, ledger: Ledger) -> None:
        """Remember a directory of loose files, once all of them are through."""
        if self._loose is None:
            return
        ledger.record(self._loose.url, None, self._loose.exit_code, complete=self._loose.complete, keep=False)
        if self._loose.listed:
            ledger.no_memory(self._loose.url)
        self._loose = None

    def _gone(self, ledger: Ledger) -> Iterator[Target]:
        """Memories that an earlier check saw below what was named, and that are not there."""

        def is_excused(place: str) -> bool:  # it may lie below what could not be listed
            return any(place.startswith(f"{os.path.realpath(each)}{os.sep}") for each in self._problems)

        for place, known in list(ledger.gone(self.request.urls, is_excused)):
            if self.request.accept:
                ledger.forget(place)
                continue
            message = f"an earlier check saw a memory here, with commits up to {known.lsn}"
            only = finding("memory-gone", message, file=place, expected=f"{known.uuid}, commits up to {known.lsn}")
            target = single(place, only, self._options)
            self.totals.add(target)
            yield target


def _require_sense(request: Request) -> None:
    """`InputError` for what cannot be done together."""
    if request.sample is not None and (request.level is not Level.BLOCKS or request.paranoid):
        raise InputError("a sample is of the blocks: it goes with level blocks", found=request.level.label)
    if request.against is not None and (request.sample is not None or request.level < Level.BLOCKS):
        found = "a sample" if request.sample is not None else request.level.label
        raise InputError("a replica is compared by every block", expected="level blocks or deeper", found=found)
    if (request.max_age_s is not None or request.accept) and request.ledger is None:
        raise InputError("an age needs a ledger that remembers it")
    for seconds in (request.max_age_s, request.max_duration_s):
        if seconds is not None and not seconds >= 0:
            raise InputError("a duration is zero or more seconds", found=seconds)
    if request.paranoid:
        other_crc32()
    if request.sha256 is not None:
        if len(request.sha256) != 64 or set(request.sha256.lower()) - set("0123456789abcdef"):
            raise InputError("a SHA-256 is 64 hexadecimal digits", found=request.sha256)
        if len(request.urls) != 1:
            raise InputError("a SHA-256 is that of one file", found=f"{len(request.urls)} paths")
        path = local_path(request.urls[0])
        if path is not None and os.path.isdir(path):
            raise InputError("a SHA-256 is that of one file", found=f"the directory {path}")


def counterpart(place: Place, against: str | None) -> str | None:
    """Where the replica of a place lies: at the same path below `against` as the place below what was named."""
    if against is None:
        return None
    is_remote = local_path(place.root) is None or local_path(place.url) is None
    between = posixpath.relpath if is_remote else os.path.relpath
    below = between(local_path(place.url) or place.url, local_path(place.root) or place.root)
    return against if below == os.curdir else f"{against.rstrip('/')}/{below}"


def bytes_below(urls: Sequence[str]) -> int:
    """Bytes of everything that a run over these would find, as far as it can be told."""
    total = 0
    for place in discover(urls):
        if place.problem is not None:
            continue
        try:
            if place.is_file:
                directory, name = open_file(place.url)
                names = [name]
            else:
                directory = open_directory(place.url)
                names = [name for name in directory.list() if name.endswith(CHECKED_SUFFIXES)]
            with closing(directory):
                total += sum(directory.size(name) for name in names)
        except EmmError:
            continue  # the run itself says why
    return total
