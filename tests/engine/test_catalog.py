"""The catalog's contract over both databases: a file, and a real PostgreSQL server that the tests start."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from emm_engine.catalog import place
from emm_engine.catalog.store import Catalog
from tests.engine.catalog_contract import CatalogContract

Make = Callable[[], Catalog]


def maker(tmp_path: Path, url: str) -> Make:
    numbers = itertools.count()

    def make() -> Catalog:
        root = tmp_path / f"catalog {next(numbers)}"
        root.mkdir()
        place.create(root, url)
        return place.open_catalog(root)

    return make


class TestInTheFolder(CatalogContract):
    @pytest.fixture
    def make(self, tmp_path: Path) -> Make:
        return maker(tmp_path, place.IN_THE_FOLDER)


class TestOnAServer(CatalogContract):
    @pytest.fixture
    def make(self, tmp_path: Path, postgres: str) -> Make:
        return maker(tmp_path, postgres)
