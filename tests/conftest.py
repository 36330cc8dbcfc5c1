"""What every test run reports: skips with their reasons, and the time each group took against its budget.

A skip whose reason `tests/allowed_skips.txt` does not list fails the run, so that a missing compiler or package
cannot quietly turn tests off. A group is a folder of `tests/`; an overrun of its budget is printed, never fatal.
"""

from __future__ import annotations

import fnmatch
from collections import defaultdict
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ALLOWED_SKIPS = HERE / "allowed_skips.txt"

# Seconds on two cores. The whole stays under 8 minutes.
BUDGETS_S: dict[str, float] = {
    "tests": 10,
    "kernel": 60,
    "codec": 20,
    "vfs": 20,
    "storage": 90,
    "memory": 90,
    "verify": 90,
    "repair": 120,
    "inspection": 60,
    "browser": 60,
    "engine": 280,  # killed processes, workers and servers; both databases
    "tools": 150,
    "fuzz": 240,  # two minutes when two workers share it
    "spec": 90,
}
BUDGET_OTHER_S = 20.0


def allowed_reasons(text: str) -> list[str]:
    """The patterns of allowed_skips.txt: one `fnmatch` pattern of a reason a line, `#` starts a comment."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


def group_of(nodeid: str) -> str:
    """`tests/kernel/test_x.py::test_y` belongs to group `kernel`, `tests/test_x.py` to `tests`."""
    parts = nodeid.partition("::")[0].split("/")
    return parts[1] if len(parts) > 2 else parts[0]


class RunReport:
    """Collects skip reasons and durations from the reports of one session (also those of xdist's workers)."""

    def __init__(self, patterns: list[str]) -> None:
        self.patterns = patterns
        self.skips: dict[str, list[str]] = defaultdict(list)  # reason -> node ids
        self.seconds: dict[str, float] = defaultdict(float)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[group_of(report.nodeid)] += report.duration
        if report.skipped and not hasattr(report, "wasxfail"):
            self._note(report.nodeid, report.longrepr)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self._note(report.nodeid, report.longrepr)

    def _note(self, nodeid: str, longrepr: object) -> None:
        reason = str(longrepr[2]) if isinstance(longrepr, tuple) else str(longrepr)
        self.skips[reason.removeprefix("Skipped: ")].append(nodeid)

    def unlisted(self) -> list[str]:
        return [r for r in self.skips if not any(fnmatch.fnmatchcase(r, pattern) for pattern in self.patterns)]

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.unlisted() and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        write = terminalreporter.write_line
        write("")
        for group in sorted(self.seconds):
            budget = BUDGETS_S.get(group, BUDGET_OTHER_S)
            over = "" if self.seconds[group] <= budget else "   OVER BUDGET"
            write(f"group {group:10} {self.seconds[group]:7.1f} s of {budget:4.0f} s{over}")
        unlisted = self.unlisted()
        for reason, nodes in sorted(self.skips.items()):
            mark = "   NOT LISTED in tests/allowed_skips.txt" if reason in unlisted else ""
            write(f"skipped {len(nodes)} ({nodes[0]}): {reason}{mark}")
        if unlisted:
            write("The run fails: a skip is not listed.")


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # xdist: only the controller reports
        patterns = allowed_reasons(ALLOWED_SKIPS.read_text(encoding="utf-8"))
        config.pluginmanager.register(RunReport(patterns), "emm-run-report")
