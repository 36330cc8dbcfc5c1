"""Checking: findings from bytes, repairs that exist, and one verdict. Nothing here writes into what it checks.

`emm.verify(path)` gives one report; `Scrub(Request(…)).run()` gives targets as they are through, for whole archives.
"""

from emm.verify.finding import CODES, Finding, Severity, Span
from emm.verify.ledger import default_path
from emm.verify.levels import Level, parse_level
from emm.verify.report import Report, verify
from emm.verify.sample import Sample, parse_sample
from emm.verify.scrub import Request, Scrub, Totals, bytes_below
from emm.verify.target import Target
from emm.verify.verdict import EXIT_ORDER, Verdict, worst_exit

__all__ = [
    "CODES",
    "EXIT_ORDER",
    "Finding",
    "Level",
    "Report",
    "Request",
    "Sample",
    "Scrub",
    "Severity",
    "Span",
    "Target",
    "Totals",
    "Verdict",
    "bytes_below",
    "default_path",
    "parse_level",
    "parse_sample",
    "verify",
    "worst_exit",
]
