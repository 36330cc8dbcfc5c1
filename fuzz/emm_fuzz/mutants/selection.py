"""A pytest plugin: run chosen tests in a given order, say which test runs, and how it went.

Purpose: the eyes of `emm_fuzz.mutants.outside` inside the process that runs the tests. Invariants: what happens in a
fixture that several tests share is noted under the fixture, and each test says which of these it uses; the number of
what runs is in the environment, so that processes which a test starts know it too. The import of a test's module
counts as shared by its tests.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Generator
from pathlib import Path
from typing import Any, Final

import pytest

PLAN: Final = "EMM_MUTANTS_PLAN"  # a JSON file: {"tests": [node ids] or null, "report": path}
NUMBER: Final = "EMM_MUTANTS_TEST"  # what runs: a number of a test, or f and a number of what several tests share


class Selection:
    """The chosen tests, in order, and a report of how each went."""

    def __init__(self, tests: list[str] | None, report: Path) -> None:
        self._tests = tests
        self._report = report
        self._shared: dict[str, str] = {}
        self._found: dict[str, dict[str, Any]] = {}
        os.environ[NUMBER] = self._everywhere = self._number("conftest")

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        if self._tests is not None:
            order = {nodeid: index for index, nodeid in enumerate(self._tests)}
            chosen = sorted((item for item in items if item.nodeid in order), key=lambda item: order[item.nodeid])
            config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in order])
            items[:] = chosen
        for number, item in enumerate(items):
            info = getattr(item, "_fixtureinfo", None)
            fixtures = [] if info is None else [each[-1] for each in info.name2fixturedefs.values() if each]
            shared = [self._number(_key(each)) for each in fixtures if each.scope != "function"]
            shared += [self._everywhere, self._number(item.nodeid.partition("::")[0])]
            self._found[item.nodeid] = {"numbers": [str(number), *shared], "seconds": 0.0, "outcome": "not run"}

    def _number(self, key: str) -> str:
        return self._shared.setdefault(key, f"f{len(self._shared)}")

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self, collector: pytest.Collector) -> Generator[None, object, object]:
        if not isinstance(collector, pytest.Module):
            return (yield)
        os.environ[NUMBER] = self._number(collector.nodeid)
        try:
            return (yield)
        finally:
            os.environ[NUMBER] = self._everywhere

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        os.environ[NUMBER] = self._found[item.nodeid]["numbers"][0]
        self._report.with_suffix(".now").write_text(item.nodeid)
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Generator[None, object, object]:
        if fixturedef.scope == "function":
            return (yield)
        before = os.environ[NUMBER]
        os.environ[NUMBER] = self._number(_key(fixturedef))
        try:
            return (yield)
        finally:
            os.environ[NUMBER] = before

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        found = self._found[report.nodeid]
        found["seconds"] = round(found["seconds"] + report.duration, 4)
        if report.failed:
            found["outcome"] = "failed"
            found["why"] = str(report.longrepr).strip().rpartition("\n")[2][:200]
        elif found["outcome"] == "not run" or report.skipped:
            found["outcome"] = report.outcome

    def pytest_sessionfinish(self) -> None:
        self._report.write_text(json.dumps(self._found))


def _key(fixture: Any) -> str:
    return f"{fixture.baseid}::{fixture.argname}"


def pytest_configure(config: pytest.Config) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a run in the background has inherited that it is ignored
    plan = json.loads(Path(os.environ[PLAN]).read_text())
    config.pluginmanager.register(Selection(plan["tests"], Path(plan["report"])), "emm-selection")
