"""From findings to one word and one exit code.

Purpose: the verdicts of spec S-7, the same for a file, a memory and an archive of many. Invariants: the
worst finding decides; for many targets the worst exit code decides, in the order 130, 1, 2, 4, 3, 5, 6, 10, 7, 0.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Final

from emm.verify.finding import Finding, Severity

EXIT_ORDER: Final = (130, 1, 2, 4, 3, 5, 6, 10, 7, 0)  # worst first


class Verdict(enum.StrEnum):
    CLEAN = "clean"
    CLEAN_UNSEALED = "clean-unsealed"
    REPAIRABLE = "damaged-repairable"
    LOSS = "damaged-loss"
    TORN = "torn-or-damaged-tail"
    REFUSED = "refused"
    INDETERMINATE = "indeterminate"
    MISSING = "missing"


_EXIT: Final = {
    Verdict.LOSS: 4,
    Verdict.REPAIRABLE: 3,
    Verdict.REFUSED: 5,
    Verdict.INDETERMINATE: 6,
    Verdict.TORN: 6,
    Verdict.MISSING: 10,
    Verdict.CLEAN_UNSEALED: 0,
    Verdict.CLEAN: 0,
}  # worst first, as EXIT_ORDER has it
_OF_SEVERITY: Final = {
    Severity.NOTICE: Verdict.CLEAN,
    Severity.UNSEALED: Verdict.CLEAN_UNSEALED,
    Severity.TORN: Verdict.TORN,
    Severity.UNKNOWN: Verdict.INDETERMINATE,
    Severity.REFUSED: Verdict.REFUSED,
    Severity.ABSENT: Verdict.MISSING,
}


def verdict_of(finding: Finding) -> Verdict:
    """What one finding alone would mean."""
    if finding.severity is Severity.DAMAGE:
        return Verdict.REPAIRABLE if finding.repairable else Verdict.LOSS
    return _OF_SEVERITY[finding.severity]


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict that decides; `clean` for none."""
    order = list(_EXIT)
    return min(verdicts, key=order.index, default=Verdict.CLEAN)


def exit_code(verdict: Verdict, *, strict: bool = False, complete: bool = True) -> int:
    """Exit code of a verdict; under `strict` an unsealed tail or incomplete coverage is 7."""
    code = _EXIT[verdict]
    return 7 if code == 0 and strict and (verdict is Verdict.CLEAN_UNSEALED or not complete) else code


def worst_exit(codes: Iterable[int]) -> int:
    """The exit code of many targets."""
    return min(codes, key=EXIT_ORDER.index, default=0)
