"""A real PostgreSQL server for tests: the one of the `pgserver` wheel, in a folder of its own."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from emm_engine.catalog import place

_NUMBERS = itertools.count(1)


@contextmanager
def running_server(folder: Path) -> Iterator[str]:
    """The URL of a server that runs until the end of the block. Tests kill its clients, never the machine."""
    import pgserver

    server = pgserver.get_server(folder, cleanup_mode="stop")
    try:
        url = str(server.get_uri())
        told(url, "ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
        yield url
    finally:
        server.cleanup()


def told(url: str, *statements: str) -> list[tuple[object, ...]]:
    """Say statements to a server, one after the other; the rows of the last."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def new_database(url: str, template: str = "template0") -> str:
    """The URL of another database of the server, empty or a copy of one that nobody uses."""
    name = f"test_{next(_NUMBERS)}"
    told(url, f"CREATE DATABASE {name} TEMPLATE {template}")
    return url.replace("/postgres?", f"/{name}?")


def schema_of(archive: Path) -> str:
    """Where on its server an archive's tables are."""
    return "emm_" + json.loads((archive / place.LINK_NAME).read_text())["archive"]


@contextmanager
def every_archive_on(server: str) -> Iterator[None]:
    """Until the end of the block new archives have their catalogs on the server.

    A copy of an archive is then a copy of its folder, and of the database that holds its catalog.
    """
    url, create, copytree = new_database(server), place.create, shutil.copytree

    def creating(root: Path, said: str | None = None) -> None:
        create(root, url if said is None else said)

    def copying(source: Path, target: Path, *rest: Any, **named: Any) -> object:  # which calls itself, below
        copied = copytree(source, target, *rest, **named)
        path = Path(target) / place.LINK_NAME
        if path.exists():
            link = json.loads(path.read_text())
            database = link["catalog"].partition("?")[0].rpartition("/")[2]
            path.write_text(json.dumps(link | {"catalog": new_database(server, database)}))
        return copied

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(place.VARIABLE, raising=False)
        patch.setattr(place, "create", creating)
        patch.setattr(shutil, "copytree", copying)
        yield
