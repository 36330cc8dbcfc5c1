"""One memory with a history for all tests of repairs; each test damages its own copy."""

from __future__ import annotations

import pytest

from tests.repair.lab import History, live


@pytest.fixture(scope="session")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    return live(tmp_path_factory.mktemp("history") / "memory")
