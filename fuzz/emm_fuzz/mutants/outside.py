"""Which test outside the fuzz group sees a mutant? `python -m emm_fuzz.mutants.outside [NAME …] [--jsonl FILE]`.

Purpose: a bug that ordinary tests see is a straw man; this runs them and names the one that does, if any. Invariants:
the tests run in a copy of the repository whose source holds the bug, so commands and children run it too; a test that
never comes to a place where the mutant differs cannot see it and is left out, all others run, the fastest first; a
test that fails must pass without the mutant, or it is not counted.

Where mutants differ is found by one run of everything with probes, which takes as long as the tests; what that run
found is kept in `--map` and used again until the library or a test changes. A changed mutant costs a probe of the
tests that come to its function.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from emm.testing.machine import commit
from emm_fuzz import REPOSITORY
from emm_fuzz.jsonl import read_lines
from emm_fuzz.mutants.copies import Copy
from emm_fuzz.mutants.every import MUTANTS
from emm_fuzz.mutants.planting import Mutant

MAP: Final = REPOSITORY / "build" / "mutants-outside.json"
READ_THE_SOURCE: Final = ("tests/test_architecture.py",)  # such a test sees words, not a bug
SECONDS_SPARE: Final = 600.0  # a run that takes longer than that, and than the tests took by so much, hangs
SLOWNESS: Final = 20.0


@dataclass(slots=True)
class Map:
    """What each test reaches: functions of the library by name, mutants by `probe_of`."""

    sources: str  # hash of the library and the tests that the map was made from
    seconds: dict[str, float] = field(default_factory=dict)  # by test
    reached: dict[str, list[str]] = field(default_factory=dict)  # by test
    blind: list[str] = field(default_factory=list)  # tests that probes disturb, so it is not known what they reach
    failed: dict[str, str] = field(default_factory=dict)  # tests that fail as they are
    probed: list[str] = field(default_factory=list)

    @classmethod
    def load(cls, path: Path) -> Map:
        """The map in a file, or an empty one when there is none that fits the sources."""
        sources = hash_of_sources()
        if path.exists():
            found = cls(**json.loads(path.read_text()))
            if found.sources == sources:
                return found
        return cls(sources)

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({each: getattr(self, each) for each in self.__slots__}))

    def add(self, report: dict[str, dict[str, Any]], log: set[str], *, whole: bool) -> None:
        """Take in what a probed run says."""
        by_number: dict[str, list[str]] = {}
        for each in log:
            number, _, what = each.partition("~")
            by_number.setdefault(number, []).append(what)
        for test, found in report.items():
            here = [what for number in found["numbers"] for what in by_number.get(number, [])]
            self.reached[test] = sorted({*self.reached.get(test, []), *here})
            if whole:
                self.seconds[test] = found["seconds"]
            if found["outcome"] == "failed" and test not in self.blind:
                self.blind.append(test)


def probe_of(mutant: Mutant) -> str:
    return f"{mutant.name}@{mutant.hash}"


def hash_of_sources() -> str:
    """Of the library, the engine, the commands, and every test outside the fuzz group."""
    found = hashlib.sha256()
    for folder in ("emm", "engine", "tools", "tests", "spec"):
        for path in sorted(REPOSITORY.joinpath(folder).rglob("*.py")):
            if "tests/fuzz/" not in str(path):
                found.update(str(path.relative_to(REPOSITORY)).encode() + path.read_bytes())
    return found.hexdigest()[:16]


def complete(known: Map, copy: Copy, mutants: Sequence[Mutant]) -> None:
    """Find out what reaches these mutants, as far as the map does not say."""
    fresh = {probe_of(each): each.patches for each in mutants if probe_of(each) not in known.probed}
    if known.reached and not fresh:
        return
    targets = {patch.target for patches in fresh.values() for patch in patches}
    tests = [test for test, reached in known.reached.items() if targets & set(reached)] if known.reached else None
    print(f"probing {len(fresh)} mutants in {'all' if tests is None else len(tests)} tests", flush=True)
    if tests is None or tests:
        with copy.probed(fresh, functions=tests is None):
            known.add(*copy.run(tests, seconds=None, first=False), whole=tests is None)
    if tests is None and known.blind:
        report, _ = copy.run(known.blind, seconds=None, first=False)
        known.failed = {test: found["why"] for test, found in report.items() if found["outcome"] == "failed"}
    known.probed += fresh


@dataclass(frozen=True, slots=True)
class Seen:
    """How the tests outside took a mutant."""

    mutant: Mutant
    tests: int  # that reach it
    by: str | None
    why: str
    seconds: float

    def record(self) -> dict[str, Any]:
        return {
            "mutant": self.mutant.name,
            "hash": self.mutant.hash,
            "tests": self.tests,
            "seen_by": self.by,
            "why": self.why,
            "seconds": self.seconds,
            "commit": commit("emm", "tests"),
            "date": datetime.date.today().isoformat(),
        }


def look(mutant: Mutant, known: Map, copy: Copy, likely: Collection[str] = ()) -> Seen:
    """Run the tests that reach a mutant, `likely` ones first, up to the first that fails with it, twice, and passes
    without it."""
    started = time.monotonic()
    what = probe_of(mutant)
    tests = [each for each, reached in known.reached.items() if what in reached or each in known.blind]
    tests = [each for each in tests if each not in known.failed and not each.startswith(READ_THE_SOURCE)]
    tests.sort(key=lambda each: (each not in likely, known.seconds[each]))
    left = tests
    while left:
        limit = SECONDS_SPARE + SLOWNESS * sum(known.seconds[each] for each in left)
        with copy.planted(mutant.patches):
            failed, why = _first_failure(copy, left, limit)
            again = failed is not None and _first_failure(copy, [failed], limit)[0] is not None
        if failed is None:
            break
        if again and _first_failure(copy, [failed], limit)[0] is None:
            return Seen(mutant, len(tests), failed, why, round(time.monotonic() - started, 1))
        left = left[left.index(failed) + 1 :]
    return Seen(mutant, len(tests), None, "", round(time.monotonic() - started, 1))


def _first_failure(copy: Copy, tests: list[str], limit: float) -> tuple[str | None, str]:
    report, _ = copy.run(tests, seconds=limit, first=True)
    return next(((each, found["why"]) for each, found in report.items() if found["outcome"] == "failed"), (None, ""))


def write_record(path: Path, found: Seen) -> None:
    """Put the outcome in the place of an older one of the same mutant; lines stay in the order of the mutants."""
    lines = read_lines(path)
    records = {each["mutant"]: each for each in lines} | {found.mutant.name: found.record()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(records[each.name]) + "\n" for each in MUTANTS if each.name in records))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m emm_fuzz.mutants.outside")
    parser.add_argument("names", nargs="*", help="mutants; all when none is given")
    parser.add_argument("--jsonl", type=Path, help="put the outcomes into this file")
    parser.add_argument("--map", type=Path, default=MAP, help="where to keep what the tests reach")
    parser.add_argument("--stale", action="store_true", help="leave out mutants whose outcome in --jsonl is theirs")
    given = parser.parse_args(arguments)
    chosen = [each for each in MUTANTS if not given.names or each.name in given.names]
    if given.stale and given.jsonl is not None:
        recorded = {(each["mutant"], each["hash"]) for each in read_lines(given.jsonl)}
        chosen = [each for each in chosen if (each.name, each.hash) not in recorded]
    outcomes: list[Seen] = []
    with tempfile.TemporaryDirectory(prefix="emm-mutants-") as scratch:
        copy = Copy(Path(scratch))
        known = Map.load(given.map)
        complete(known, copy, chosen)
        known.save(given.map)
        for test, why in known.failed.items():
            print(f"left out, it fails without any mutant: {test}: {why}")
        for mutant in chosen:
            found = look(mutant, known, copy, {each.by for each in outcomes if each.by is not None})
            outcomes.append(found)
            print(
                f"{found.seconds:6.1f} s {mutant.name}: {found.tests} tests, seen by {found.by}  {found.why}",
                flush=True,
            )
            if given.jsonl is not None:
                write_record(given.jsonl, found)
    unseen = sum(each.by is None for each in outcomes)
    print(f"{unseen} of {len(outcomes)} pass every test outside the fuzz group")
    return 0


if __name__ == "__main__":
    sys.exit(main())
