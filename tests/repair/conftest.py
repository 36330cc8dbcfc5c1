"""One memory with a history for all tests of repairs; each test damages its own copy."""

from __future__ import annotations

import os

import pytest

from tests.repair.lab import History, live


@pytest.fixture(scope="session")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    return live(tmp_path_factory.mktemp("history") / "memory")


@pytest.fixture(autouse=True)
def hurried(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """No fsync, which is most of the time of a repair; tests/vfs and test_publish hold the library to it."""
    if request.node.path.name != "test_publish.py":
        monkeypatch.setattr(os, "fsync", lambda _: None)
