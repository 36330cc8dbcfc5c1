"""The embedded catalog: one SQLite file, durable at every commit.

Purpose: `Database` over the connection that `schema.connect` makes. Invariants: those of that connection (WAL,
synchronous = FULL, foreign keys, what is deleted is overwritten, a medium that cannot be written is read all the
same); SQLAlchemy adds none of its own transactions.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import sqlalchemy
from sqlalchemy.pool import NullPool

from emm import StorageError
from emm_engine.catalog.database import Database
from emm_engine.catalog.schema import connect
from emm_engine.catalog.textindex import Fts5FullText


class SqliteDatabase(Database):
    """A catalog in a file."""

    BEGIN: ClassVar[str] = "BEGIN IMMEDIATE"
    SNAPSHOT: ClassVar[str] = "BEGIN"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened = connect(path)  # before SQLAlchemy, whose errors would hide what is wrong with the file
        super().__init__(
            sqlalchemy.create_engine(
                "sqlite://", creator=lambda: self._opened, poolclass=NullPool, isolation_level="AUTOCOMMIT"
            ),
            path.name,
        )
        self._fulltext = Fts5FullText(self)

    @property
    def fulltext(self) -> Fts5FullText:
        return self._fulltext

    def again(self) -> SqliteDatabase:
        return SqliteDatabase(self._path)

    def version(self) -> tuple[int, int]:
        return int(self.query("PRAGMA data_version")[0][0]), self._opened.total_changes

    def compact(self) -> None:
        """Write the file anew without its free pages, and leave no page in its log.

        `StorageError` while another process reads: what it reads cannot be taken away from it.
        """
        self.query("VACUUM")
        busy, *_ = self.query("PRAGMA wal_checkpoint(TRUNCATE)")[0]
        if busy:
            raise StorageError("the catalog is being read, so its log cannot be emptied", file=self.name)

    def problems(self) -> list[str]:
        found = [str(row[0]) for row in self.query("PRAGMA integrity_check") if row[0] != "ok"]
        dangling = sorted({(row[0], row[2]) for row in self.query("PRAGMA foreign_key_check")})
        return found + [f"{table} refers to rows of {parent} that are not there" for table, parent in dangling]
