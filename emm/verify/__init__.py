"""Checking: findings from bytes, repairs that exist, and one verdict. Nothing here writes."""

from emm.verify.finding import CODES, Finding, Severity, Span
from emm.verify.levels import Level
from emm.verify.report import Report, Target, verify
from emm.verify.verdict import EXIT_ORDER, Verdict, worst_exit

__all__ = [
    "CODES",
    "EXIT_ORDER",
    "Finding",
    "Level",
    "Report",
    "Severity",
    "Span",
    "Target",
    "Verdict",
    "verify",
    "worst_exit",
]
