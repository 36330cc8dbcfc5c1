"""`verify`: any path or URL in, one report out.

Purpose: the public face of checking. Invariants: nothing is ever written; whatever lies there, however
damaged or hostile, gives a verdict and no exception (wrong arguments of the caller's own do: `InputError`
for an unknown level); the same bytes give the same report.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from emm.layout import VERIFY_STATE_BYTES_MAX
from emm.verify.coverage import Coverage
from emm.verify.finding import Finding
from emm.verify.levels import Level, Options, parse_level
from emm.verify.places import discover
from emm.verify.target import Target, check_place
from emm.verify.verdict import exit_code, worst, worst_exit
from emm.vfs.resolve import Location


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
    """Check a memory directory, one .emm, .wal or v3 file, or a tree of them. Nothing is written.

    `level` is header, table, blocks (default; journal included), replay or numeric. `strict` turns an
    unsealed tail or an incomplete coverage into exit code 7. States larger than `state_bytes_max` bytes are
    refused. `progress` is called with a file and the bytes just checked.
    """
    options = Options(parse_level(level), strict, state_bytes_max, progress)
    targets = (target for place in discover([url]) for target, _ in check_place(place, options))
    return Report(str(url), options.level, strict, tuple(targets))
