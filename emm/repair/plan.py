"""What a repair will do, as values: for each file what is damaged, and from where each part of it comes.

Purpose: show a keeper everything before anything is written. Invariants: a plan is pure data beside its recipes; what
cannot be had is a `Loss` with its rows and commits, never a gap that something else fills; `exact` is said only of
bytes that a checksum of the original proves, or will prove before they are published.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from emm.verify.finding import Finding, Span


class Action(enum.StrEnum):
    COPY = "copy"  # no damage: taken over byte for byte
    MEND = "mend"  # damaged parts are put back, and the original's own checksums prove the result
    REBUILD = "rebuild"  # made anew where the original's bytes cannot be proven: a snapshot of origin `repair`
    LEAVE_OUT = "leave-out"


class From(enum.StrEnum):
    """Where a part comes from."""

    HEAD = "head"
    MIRROR = "mirror"
    BOTH_COPIES = "head-and-mirror"
    BIT = "flipped-bit"  # the one bit that the checksums point at
    SNAPSHOT = "snapshot"  # the same bytes in another generation
    REPLICA = "replica"
    REPLAY = "replay"  # recomputed from an older state and the journal
    DERIVED = "derived"  # follows from the bytes around it: zeros, marks, seals, headers


@dataclass(frozen=True, slots=True)
class Part:
    """One damaged part of a file and its source. Offsets are bytes of the file; rows and LSNs are inclusive."""

    what: str  # header, lineage, table, metadata, padding, mirror, block, record, mark, seal, tail or file
    source: From
    detail: str
    offset: int | None = None
    length: int | None = None
    block: int | None = None
    spans: tuple[Span, ...] = ()
    lsns: tuple[int, int] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what says nothing is left out."""
        plain: dict[str, Any] = {"what": self.what, "from": str(self.source), "detail": self.detail}
        plain |= {
            name: getattr(self, name) for name in ("offset", "length", "block") if getattr(self, name) is not None
        }
        if self.spans:
            plain["spans"] = spans_json(self.spans)
        if self.lsns is not None:
            plain["lsns"] = list(self.lsns)
        return plain

    def __str__(self) -> str:
        name = f"block {self.block}" if self.block is not None else self.what
        holds = f" ({'; '.join(map(str, self.spans))})" if self.spans else ""
        commits = f" of {commits_text(self.lsns)}" if self.lsns is not None else ""
        return f"{name}{holds}{commits} ← {self.source}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Loss:
    """Something that no source can give back."""

    kind: str  # "state": the memory will not be what it was; "history": older states or the pairs of commits
    message: str
    file: str | None = None
    blocks: tuple[int, ...] = ()
    spans: tuple[Span, ...] = ()
    lsns: tuple[int, int | None] | None = None  # last None: to an end that nothing tells

    def to_dict(self) -> dict[str, Any]:
        plain: dict[str, Any] = {"kind": self.kind, "message": self.message}
        if self.file is not None:
            plain["file"] = self.file
        if self.blocks:
            plain["blocks"] = list(self.blocks)
        if self.spans:
            plain["spans"] = spans_json(self.spans)
        if self.lsns is not None:
            plain["lsns"] = list(self.lsns)
        return plain

    def __str__(self) -> str:
        where = [self.file or ""]
        where += [f"block{'s' if len(self.blocks) > 1 else ''} {runs_text(self.blocks)}"] if self.blocks else []
        where += ["; ".join(map(str, self.spans))] if self.spans else []
        where += [commits_text(self.lsns)] if self.lsns is not None else []
        found = ", ".join(part for part in where if part)
        return f"{self.message} ({found})" if found else self.message


@dataclass(frozen=True, slots=True)
class FilePlan:
    """What becomes of one file. `recipe` is what `execute` follows; it is no part of the plan's JSON."""

    name: str
    action: Action
    parts: tuple[Part, ...] = ()
    reason: str | None = None
    recipe: object = field(default=None, repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        plain: dict[str, Any] = {"name": self.name, "action": str(self.action)}
        if self.parts:
            plain["parts"] = [part.to_dict() for part in self.parts]
        if self.reason is not None:
            plain["reason"] = self.reason
        return plain


@dataclass(frozen=True, slots=True)
class Plan:
    """The whole repair of one memory."""

    url: str
    against: str | None
    uuid: str
    lsn: int  # the last commit that the bytes prove, or that is whole
    lsn_kept: int  # the last commit that the repaired memory will hold
    findings: tuple[Finding, ...]
    files: tuple[FilePlan, ...]
    losses: tuple[Loss, ...]
    notes: tuple[str, ...]
    torn: bool  # a tail that is torn or damaged, nobody can tell which, is taken over as it is
    bytes_out: int  # what will be written
    context: object = field(default=None, repr=False, compare=False)  # what `execute` reads from

    @property
    def damaged(self) -> bool:
        """True when there is anything to repair."""
        return any(each.action is not Action.COPY for each in self.files) or bool(self.losses)

    @property
    def possible(self) -> bool:
        """False when not even --allow-loss would give a memory that opens."""
        return any(each.name.endswith(".emm") and each.action is not Action.LEAVE_OUT for each in self.files)

    @property
    def exit_code(self) -> int:
        """0 nothing to repair, 3 all of it can be repaired, 4 something is lost, 6 only a tail nobody can judge."""
        if self.losses:
            return 4
        return 3 if self.damaged else 6 if self.torn else 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "url": self.url,
            "against": self.against,
            "uuid": self.uuid,
            "lsn": self.lsn,
            "lsn_kept": self.lsn_kept,
            "exit_code": self.exit_code,
            "possible": self.possible,
            "torn": self.torn,
            "bytes_out": self.bytes_out,
            "findings": [each.to_dict() for each in self.findings],
            "files": [each.to_dict() for each in self.files],
            "losses": [each.to_dict() for each in self.losses],
            "notes": list(self.notes),
        }

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2, sort_keys=True)

    def lines(self) -> list[str]:
        """The plan as a person reads it."""
        if not self.damaged:
            return ["nothing to repair", *(f"note: {note}" for note in self.notes)]
        lines = []
        for each in self.files:
            if each.action is Action.COPY:
                continue
            lines.append(f"{each.action} {each.name}" + (f": {each.reason}" if each.reason else ""))
            lines += [f"    {part}" for part in each.parts]
        n_copied = sum(each.action is Action.COPY for each in self.files)
        lines += [f"copy {n_copied} file{'s' if n_copied != 1 else ''} without damage"] if n_copied else []
        lines += [f"note: {note}" for note in self.notes]
        lines += [f"lost, {loss.kind}: {loss}" for loss in self.losses]
        return lines


def spans_json(spans: Sequence[Span]) -> list[dict[str, Any]]:
    """Spans as verify's reports have them."""
    return [{"region": span.region, "rows": span.rows, "columns": span.columns} for span in spans]


def commits_text(lsns: tuple[int, int | None]) -> str:
    """`commit 3`, `commits 3–5`, `commits 3–?`."""
    first, last = lsns
    return f"commit {first}" if first == last else f"commits {first}–{'?' if last is None else last}"


def runs_text(numbers: Sequence[int]) -> str:
    """`0, 3–5` for 0, 3, 4, 5: every number is in it."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in runs)
