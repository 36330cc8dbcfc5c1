"""One conformance vector: files, what they show, and what a reader must say about them.

Purpose: pair bytes with meaning. Invariants: a recipe is a pure function of nothing (no clock, no randomness, no
library whose bits depend on the machine); verdicts, codes and rules are written by hand from the spec, only digests
and hashes are computed; `EXIT_CODES` is docs/exit-codes.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

CLEAN, UNSEALED, TORN = "clean", "clean-unsealed", "torn-or-damaged-tail"
REPAIRABLE, LOSS = "damaged-repairable", "damaged-loss"
REFUSED, MISSING = "refused", "missing"
EXIT_CODES = {CLEAN: 0, UNSEALED: 0, REPAIRABLE: 3, LOSS: 4, REFUSED: 5, TORN: 6, MISSING: 10}

Rows = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Expected:
    """What a check at the deepest level says. `rule`, `file`, `offset` and `rows` are those of the finding that
    decides: the first of the worst. `also` are rules that a reader may cite instead, where the bytes break several."""

    verdict: str
    codes: tuple[str, ...] = ()  # of all findings, sorted, each once
    rule: str | None = None
    file: str | None = None
    offset: int | None = None
    rows: Rows | None = None  # of the first array that is touched, inclusive
    also: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """A vector. `target` is the file that the reader is given, None for the directory. `lsn` and `digest` are those of
    the state that opening gives; both None where opening MUST be refused (or nothing can be opened)."""

    name: str
    shows: str
    files: Mapping[str, bytes]
    expected: Expected
    lsn: int | None = None
    digest: str | None = None
    target: str | None = None

    @property
    def kind(self) -> str:
        """memory, snapshot or segment."""
        if self.target is None:
            return "memory"
        return "segment" if self.target.endswith(".wal") else "snapshot"

    def entry(self) -> dict[str, Any]:
        """The case in the manifest."""
        expected = self.expected
        return {
            "name": self.name,
            "kind": self.kind,
            "path": self.name if self.target is None else f"{self.name}/{self.target}",
            "shows": self.shows,
            "verdict": expected.verdict,
            "exit_code": EXIT_CODES[expected.verdict],
            "codes": sorted(expected.codes),
            "rule": expected.rule,
            "also": list(expected.also),
            "file": expected.file,
            "offset": expected.offset,
            "rows": list(expected.rows) if expected.rows else None,
            "lsn": self.lsn,
            "digest": self.digest,
            "files": {
                name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
                for name, data in sorted(self.files.items())
            },
        }


@dataclass(slots=True)
class Recipes:
    """Collects the cases of a module, with one call for each kind of ending."""

    cases: list[Case] = field(default_factory=list)

    def good(self, name: str, shows: str, life: Any, *codes: str, verdict: str = CLEAN, **extra: Any) -> None:
        """A memory that opens at the last commit of `life`."""
        self.opens(name, shows, life.bytes(), life, Expected(verdict, codes, **extra))

    def opens(self, name: str, shows: str, files: Mapping[str, bytes], life: Any, expected: Expected) -> None:
        """A memory that opens, damaged or not, in the state that `life` has now."""
        self.cases.append(Case(name, shows, files, expected, life.lsn, life.digest))

    def refused(self, name: str, shows: str, files: Mapping[str, bytes], expected: Expected) -> None:
        """A memory that MUST NOT open."""
        self.cases.append(Case(name, shows, files, expected))

    def file(
        self,
        name: str,
        shows: str,
        data: bytes,
        expected: Expected,
        target: str,
        life: Any = None,
    ) -> None:
        """One file by itself; `life` when it is a snapshot that gives that state."""
        lsn, digest = (None, None) if life is None else (life.lsn, life.digest)
        self.cases.append(Case(name, shows, {target: data}, expected, lsn, digest, target))
