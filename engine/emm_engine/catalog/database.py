"""Where a catalog's tables live: the plumbing that SQLite and PostgreSQL share.

Purpose: statements, transactions and snapshots over one SQLAlchemy connection, so that the catalog says everything
once. Invariants: what is sent is written in SQLite's dialect (`portable` says it to PostgreSQL); a transaction that
writes sees everything that was committed before it began and nothing that comes after (writers take turns), and is
durable when it ends; a snapshot sees one moment; a failing medium or server raises `StorageError`, a refused statement
`CatalogError`, never an error of a driver.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, ClassVar, cast

import sqlalchemy
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError

from emm import StorageError
from emm_engine.catalog.schema import FULLTEXT_PREFIX
from emm_engine.errors import CatalogError

if TYPE_CHECKING:
    from emm_engine.catalog.textindex import FullText

Row = tuple[Any, ...]


class Database(ABC):
    """One open connection. One thread; any number of processes."""

    BEGIN: ClassVar[str]  # a transaction that writes
    SNAPSHOT: ClassVar[str]  # one that reads

    def __init__(self, engine: sqlalchemy.Engine, name: str) -> None:
        self.name = name  # for messages: a file's name, or a URL without its password
        self._engine = engine
        try:
            self._connection = engine.connect()
        except SQLAlchemyError as error:
            engine.dispose()
            raise self.unreachable(error) from error

    @property
    @abstractmethod
    def fulltext(self) -> FullText:
        """Search by words."""

    @abstractmethod
    def again(self) -> Database:
        """Another connection to the same catalog, for another thread."""

    @abstractmethod
    def version(self) -> tuple[int, int]:
        """Changes whenever this or another connection has changed the catalog."""

    @abstractmethod
    def compact(self) -> None:
        """Give back the room of what was deleted, so that no file of the database still holds it."""

    @abstractmethod
    def problems(self) -> list[str]:
        """What the database itself finds wrong with its tables."""

    def close(self) -> None:
        self._connection.close()
        self._engine.dispose()

    # --- statements ------------------------------------------------------------------------------

    def said(self, sql: str) -> str:
        """A statement as this database's driver takes it."""
        return sql

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> sqlalchemy.CursorResult[Any]:
        return self._connection.exec_driver_sql(self.said(sql), tuple(parameters))

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """All rows of a statement."""
        try:
            result = self.execute(sql, parameters)
            # plain tuples from the driver's cursor: SQLAlchemy's own rows cost three times as much
            rows = cast(list[Row], result.cursor.fetchall()) if result.returns_rows else []
            result.close()
            return rows
        except SQLAlchemyError as error:
            raise self._failed(error) from error

    def executemany(self, sql: str, rows: Sequence[Row]) -> None:
        """Run a statement for each row, inside a transaction."""
        if rows:
            self._connection.exec_driver_sql(self.said(sql), list(rows))

    def insert(self, sql: str, parameters: Sequence[Any]) -> int:
        """Run an INSERT inside a transaction; the new row's id, or 0 where a conflict left it out."""
        result = self.execute(sql, parameters)
        return int(result.lastrowid) if result.rowcount else 0

    # --- transactions ----------------------------------------------------------------------------

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, durable when it ends."""
        with self._between(self.BEGIN):
            self._begun()
            yield

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Reads that see one moment, whatever others write meanwhile."""
        with self._between(self.SNAPSHOT):
            yield

    def _begun(self) -> None:
        """What a transaction that writes does first."""
        return

    @contextmanager
    def _between(self, begin: str) -> Iterator[None]:
        try:
            self._connection.exec_driver_sql(begin)
        except SQLAlchemyError as error:
            raise self._failed(error) from error
        try:
            yield
            self._connection.exec_driver_sql("COMMIT")
        except BaseException as error:
            with suppress(SQLAlchemyError):  # the first error is the one to tell
                self._connection.exec_driver_sql("ROLLBACK")
            if isinstance(error, SQLAlchemyError):
                raise self._failed(error) from error
            raise

    def _failed(self, error: SQLAlchemyError) -> StorageError | CatalogError:
        """The error to raise; a connection that is gone is made anew by the next statement."""
        if isinstance(error, DBAPIError) and error.connection_invalidated:
            self._connection.rollback()
            return self.unreachable(error)
        return self.translated(error)

    def unreachable(self, error: SQLAlchemyError) -> StorageError | CatalogError:
        """Our own error for a connection that could not be made."""
        return self.translated(error)

    def translated(self, error: SQLAlchemyError) -> StorageError | CatalogError:
        """Our own error for one of the driver's."""
        kind = StorageError if isinstance(error, OperationalError) else CatalogError
        return kind("the catalog refused a statement", file=self.name, found=cause_of(error))

    # --- what there is ---------------------------------------------------------------------------

    def columns(self) -> dict[str, tuple[str, ...]]:
        """{table: its columns}, a table before those that refer to it; without the indexes of words."""
        inspector = sqlalchemy.inspect(self._connection)
        found = (name for name, _ in inspector.get_sorted_table_and_fkc_names() if name is not None)
        names = [name for name in found if not name.startswith(FULLTEXT_PREFIX)]
        return {name: tuple(column["name"] for column in inspector.get_columns(name)) for name in names}

    def declared(self, table: str) -> dict[str, str]:
        """{column: its type} of a table."""
        inspector = sqlalchemy.inspect(self._connection)
        return {column["name"]: str(column["type"]) for column in inspector.get_columns(table)}


def cause_of(error: SQLAlchemyError) -> str:
    """What the driver said: its first line, for the rest repeats the statement."""
    said = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    first = str(said).partition("\n")[0]
    return f"{type(said).__name__}: {first}"
