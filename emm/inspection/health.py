"""Is it healthy? The verdict of `emm.verify`, cut down to what an overview says.

Purpose: one line and its evidence. Invariants: the verdict is verify's own, at level `blocks`; nothing is judged here.
"""

from __future__ import annotations

import os

from emm.inspection.values import Health
from emm.verify.coverage import Coverage
from emm.verify.finding import Severity
from emm.verify.report import verify
from emm.verify.verdict import exit_code, worst


def health_of(url: str | os.PathLike[str], directory_url: str) -> Health:
    """The health of one memory or file: memories below a directory are not looked at in the answer."""
    report = verify(url)
    targets = [each for each in report.targets if each.url == directory_url] or list(report.targets)
    verdict = worst(each.verdict for each in targets)
    covered = Coverage(report.level)
    for target in targets:
        covered.add(target.coverage)
    notable = [each for target in targets for each in target.findings if each.severity is not Severity.NOTICE]
    return Health(
        str(verdict),
        exit_code(verdict),
        tuple(str(each) for each in notable),
        covered.snapshots,
        covered.blocks,
        covered.segments,
        covered.commits,
        covered.v3_files,
        covered.bytes_read,
    )
