"""What a check found: one frozen value per finding, and the table of every code there is.

Purpose: tell a person and a program the same thing: where, which rows, what was expected, how it can be
mended. Invariants: codes are stable API (docs/findings.md repeats `CODES`, a test compares them); a
finding never holds bytes of the memory beyond short hexadecimal evidence.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Final

from emm.errors import EmmError


class Severity(enum.StrEnum):
    """What a finding means for the verdict."""

    NOTICE = "notice"  # worth knowing, nothing is wrong
    UNSEALED = "unsealed"  # whole, but its end cannot be told from a cut at a commit boundary
    TORN = "torn"  # beyond the last proof: a writer died here, or bytes were damaged
    UNKNOWN = "unknown"  # could not be read, so nothing is known
    REFUSED = "refused"  # not EMM, of another version, or over a limit
    ABSENT = "absent"  # not there
    DAMAGE = "damage"  # contradicts a checksum, a rule or a proof; lost unless `repair` says how to mend it


@dataclass(frozen=True, slots=True)
class Code:
    """One kind of finding."""

    severity: Severity
    meaning: str


CODES: Final[dict[str, Code]] = {
    # files and places
    "missing": Code(Severity.ABSENT, "there is no memory or file under that name"),
    "unreadable": Code(Severity.UNKNOWN, "the medium failed, refused access, or the name is not a regular file"),
    "changed-while-reading": Code(Severity.UNKNOWN, "a file grew, shrank, was replaced or vanished during the check"),
    "not-regular": Code(
        Severity.UNKNOWN, "a name like a memory's file is a link, FIFO, device or socket; not followed"
    ),
    "not-checked": Code(Severity.UNKNOWN, "the check of this did not come to an end"),
    "not-emm": Code(Severity.REFUSED, "neither end of the file looks like EMM"),
    "unsupported": Code(Severity.REFUSED, "a version, flag or type that this library does not know"),
    "over-limit": Code(Severity.REFUSED, "larger or more work than this process allows"),
    "wrong-location": Code(Severity.REFUSED, "what was asked for is not a path or URL that can be read"),
    "wrong-name": Code(Severity.DAMAGE, "the file's own number is not the one in its name"),
    "foreign-file": Code(Severity.DAMAGE, "the file belongs to another memory (its UUID differs)"),
    "other-file": Code(Severity.NOTICE, "a file that is not part of the memory lies beside it"),
    "sha256-differs": Code(Severity.DAMAGE, "the file's SHA-256 is not the one that --expect-sha256 states"),
    "reading-differs": Code(Severity.UNKNOWN, "two readings of the same bytes gave different findings (--paranoid)"),
    "generation-missing": Code(Severity.DAMAGE, "a snapshot between two others, or one the journal builds on, is gone"),
    # one snapshot
    "header-damaged": Code(Severity.DAMAGE, "the first 128 bytes fail their CRC-32 or a rule"),
    "head-damaged": Code(Severity.DAMAGE, "the bytes before the payload fail their SHA-256 or a rule"),
    "mirror-damaged": Code(Severity.DAMAGE, "the copy of the head at the end of the file differs from it"),
    "truncated": Code(Severity.DAMAGE, "the file ends before the bytes its header promises"),
    "trailing-bytes": Code(Severity.DAMAGE, "the file goes on after the bytes its header promises"),
    "block-damaged": Code(Severity.DAMAGE, "a 64 KiB block fails its CRC-32 or SHA-256"),
    "payload-invalid": Code(Severity.DAMAGE, "the checksums hold but the contents break a rule"),
    # the predecessor's files
    "v3-file": Code(Severity.NOTICE, "a v3 file, whole; emm upgrade makes a memory from it"),
    "v3-damaged": Code(Severity.DAMAGE, "a v3 file fails its CRC-32 or a rule; it has no second copy to mend it from"),
    # the journal
    "segment-missing": Code(Severity.DAMAGE, "a journal segment between two others, or before a snapshot, is gone"),
    "segment-header-damaged": Code(Severity.DAMAGE, "the first 128 bytes of a segment fail their CRC-32 or a rule"),
    "record-damaged": Code(Severity.DAMAGE, "bytes of the journal at or below what was proven durable do not parse"),
    "commits-missing": Code(Severity.DAMAGE, "the journal ends early, below what was proven durable"),
    "seal-missing": Code(Severity.DAMAGE, "a segment that was ended has no seal: its last bytes are gone"),
    "chain-broken": Code(Severity.DAMAGE, "a chain value does not follow: bytes were changed together with their CRC"),
    "log-contradicted": Code(Severity.DAMAGE, "a segment does not continue the log, or takes back durable commits"),
    "torn-tail": Code(Severity.TORN, "bytes beyond the last proof do not parse: a crash or damage, cannot be told"),
    "unsealed-tail": Code(Severity.UNSEALED, "the last segment has no seal: its writer lives or was killed"),
    "dead-bytes": Code(Severity.NOTICE, "leftovers of a writer that died, fenced off by the next segment"),
    # replay and numbers
    "replay-refused": Code(Severity.DAMAGE, "a logged commit cannot be applied"),
    "replay-differs": Code(Severity.DAMAGE, "an older snapshot and the journal do not give the newer snapshot"),
    "replay-not-possible": Code(Severity.NOTICE, "a snapshot cannot be reached from an older one by the journal"),
    "not-finite": Code(Severity.DAMAGE, "the state holds NaN or infinity"),
    "gain-not-symmetric": Code(Severity.DAMAGE, "P̄ is not symmetric to the bit"),
    "gain-out-of-bounds": Code(Severity.DAMAGE, "P leaves the bounds that the arithmetic guarantees"),
    # against the ledger
    "rolled-back": Code(Severity.DAMAGE, "the memory ends before a commit that an earlier check saw"),
    "history-replaced": Code(Severity.DAMAGE, "the commits are not those that an earlier check saw"),
    "memory-replaced": Code(Severity.UNKNOWN, "another memory lies where an earlier check saw one"),
    "memory-gone": Code(Severity.ABSENT, "an earlier check saw a memory here, and there is none now"),
    # against a replica
    "replica-equal": Code(Severity.NOTICE, "the replica holds the same commits"),
    "replica-behind": Code(Severity.NOTICE, "the replica holds a beginning of these commits"),
    "replica-ahead": Code(Severity.DAMAGE, "the replica goes on with commits that are missing here"),
    "replica-diverged": Code(Severity.DAMAGE, "memory and replica have different commits under the same numbers"),
    "replica-foreign": Code(Severity.UNKNOWN, "the replica is a copy of another memory"),
    "replica-missing": Code(Severity.ABSENT, "there is no replica of this"),
    "replica-unknown": Code(Severity.UNKNOWN, "which commits both hold cannot be told"),
    "replica-differs": Code(Severity.UNKNOWN, "the bytes of a file differ from the replica's"),
}


@dataclass(frozen=True, slots=True)
class Span:
    """Part of an array, or of the zero padding, that a damaged block holds. Rows and columns are inclusive."""

    region: str  # M, P, U, scalars, normaliser, reading or padding
    rows: tuple[int, int] | None
    columns: tuple[int, int] | None

    def __str__(self) -> str:
        if self.rows is None or self.region not in ("M", "P", "U"):
            return self.region
        rows = _inclusive("row", self.rows)
        return f"{self.region} {rows}" + (f", {_inclusive('column', self.columns)}" if self.columns else "")


def _inclusive(what: str, bounds: tuple[int, int]) -> str:
    return f"{what} {bounds[0]}" if bounds[0] == bounds[1] else f"{what}s {bounds[0]}–{bounds[1]}"


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding. Offsets and lengths are bytes of `file`; rows, columns and LSNs are inclusive ranges."""

    code: str
    severity: Severity
    message: str
    rule: str | None = None
    file: str | None = None
    block: int | None = None
    offset: int | None = None
    length: int | None = None
    region: str | None = None  # the first of `spans`
    rows: tuple[int, int] | None = None  # of `region`
    columns: tuple[int, int] | None = None  # of `region`; None = whole rows
    spans: tuple[Span, ...] = ()
    lsns: tuple[int, int | None] | None = None  # (first, last); last None = to the unknown end
    expected: str | None = None
    found: str | None = None
    repair: str | None = None  # how it can be mended from what exists; None = it cannot, or needs no mending

    @property
    def repairable(self) -> bool:
        return self.repair is not None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; fields that say nothing are left out."""
        plain: dict[str, Any] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name == "spans":
                value = [
                    {"region": span.region, "rows": span.rows, "columns": span.columns} for span in self.spans
                ] or None
            if value is not None:
                plain[each.name] = value
        return plain

    def __str__(self) -> str:
        """One line a person can read."""
        where = [self.file or ""]
        if self.block is not None:
            where.append(f"block {self.block}")
        if self.offset is not None:
            length = self.length or 1
            end = f"–{self.offset + length - 1}" if length > 1 else ""
            where.append(f"byte{'s' if end else ''} {self.offset}{end}")
        if self.spans:
            where.append("; ".join(str(span) for span in self.spans))
        if self.lsns is not None:
            where.append(f"commits {self.lsns[0]}–{'?' if self.lsns[1] is None else self.lsns[1]}")
        line = f"{self.code}: {self.message} ({', '.join(part for part in where if part)})"
        return f"{line}; repair: {self.repair}" if self.repair else line


def finding(code: str, message: str, **details: Any) -> Finding:
    """A finding with the severity of its code; spans also fill region, rows and columns."""
    spans = details.get("spans") or ()
    if spans:
        first = spans[0]
        details |= {"region": first.region, "rows": first.rows, "columns": first.columns}
    for name in ("expected", "found"):
        if details.get(name) is not None:
            details[name] = str(details[name])
    return Finding(code, CODES[code].severity, message, **details)


def from_error(code: str, error: EmmError, **details: Any) -> Finding:
    """A finding with the evidence that an error carries."""
    evidence = {
        "rule": error.rule,
        "file": error.file,
        "offset": error.offset,
        "expected": error.expected,
        "found": error.found,
    }
    return finding(code, error.message, **(evidence | details))


def codes_markdown() -> str:
    """The table of docs/findings.md."""
    lines = ["| code | severity | meaning |", "|---|---|---|"]
    lines += [f"| `{name}` | {code.severity} | {code.meaning} |" for name, code in CODES.items()]
    return "\n".join(lines) + "\n"


def lost(findings: Iterable[Finding]) -> list[Finding]:
    """The findings that mean loss: damage that nothing mends."""
    return [each for each in findings if each.severity is Severity.DAMAGE and not each.repairable]
