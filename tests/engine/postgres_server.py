"""A real PostgreSQL server for tests: the one of the `pgserver` wheel, in a folder of its own."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg


@contextmanager
def running_server(folder: Path) -> Iterator[str]:
    """The URL of a server that runs until the end of the block."""
    import pgserver

    server = pgserver.get_server(folder, cleanup_mode="stop")
    try:
        yield str(server.get_uri())
    finally:
        server.cleanup()


def schema_maker(url: str) -> Callable[[], str]:
    """fresh(): the URL of an empty schema of the server's database, another one at each call."""
    numbers = itertools.count(1)

    def fresh() -> str:
        name = f"archive_{next(numbers)}"
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {name}")  # type: ignore[arg-type]
        return f"{url}{'&' if '?' in url else '?'}options=-csearch_path%3D{name}"

    return fresh
