"""The catalog of a team: a PostgreSQL server.

Purpose: `Database` over psycopg. Invariants: the tables are those of `schema` and `migrations`, in the first schema of
the connection's search path, so one database can hold several archives; a transaction that writes begins by raising
one counter, which makes writers take turns as they do in SQLite and tells readers that something changed; a commit is
on the server's disk when it returns, also where the server's default is looser; a role without the right to write can
ask all the same.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

import psycopg
import sqlalchemy
from psycopg.adapt import Buffer, Loader
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from emm import ExistsError, InputError, StorageError
from emm_engine.catalog.database import Database
from emm_engine.catalog.migrations import MIGRATIONS
from emm_engine.catalog.portable import for_postgresql, statements
from emm_engine.catalog.postgres_fulltext import PostgresFullText
from emm_engine.catalog.schema import SCHEMA_VERSION, TABLES
from emm_engine.errors import CatalogError

DRIVER: Final = "postgresql+psycopg"
SCHEMES: Final = ("postgresql", "postgres", DRIVER)
SETTINGS: Final = (  # of libpq, that a URL may carry after its `?`; the rest would reach for files and programs
    "host", "hostaddr", "port", "sslmode", "sslrootcert", "connect_timeout", "application_name", "options",
    "target_session_attrs", "password",
)  # fmt: skip
SUBSTR: Final = (  # PostgreSQL's own takes 32-bit numbers alone, and all of ours have 64
    "CREATE FUNCTION substr(text, bigint, bigint) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE "
    "RETURN pg_catalog.substr($1, CAST($2 AS integer), CAST($3 AS integer))"
)
SECRETS: Final = ("password",)
TURN_SECONDS: Final = 30  # how long a writer waits for the one before it, as in SQLite
SCHEMA_KEY, TURN_KEY, ARCHIVE_KEY = "schema_version", "changes", "archive"


def parsed(url: str) -> sqlalchemy.URL:
    """A catalog's URL; `InputError` where it is none of PostgreSQL's."""
    expected = "postgresql://[user@]host[:port]/database"
    try:
        found = sqlalchemy.make_url(url)
    except (SQLAlchemyError, ValueError):
        raise InputError("not a catalog's URL", expected=expected) from None  # it may hold a password
    if found.drivername not in SCHEMES:
        raise InputError("not a catalog's URL", expected=expected, found=f"{found.drivername}://")
    unknown = sorted(set(found.query) - set(SETTINGS))
    if unknown:
        raise InputError("a catalog's URL has unknown settings", expected=", ".join(SETTINGS), found=unknown)
    return found.set(drivername=DRIVER)


def without_secrets(url: sqlalchemy.URL) -> str:
    """The URL as it may be written down."""
    query = {key: value for key, value in url.query.items() if key not in SECRETS}
    public = sqlalchemy.URL.create("postgresql", url.username, None, url.host, url.port, url.database, query)
    return public.render_as_string(hide_password=False)


class _NumberLoader(Loader):
    """A sum of whole numbers is whole: PostgreSQL calls it numeric, and psycopg would make a Decimal of it."""

    def load(self, data: Buffer) -> int | float:
        text = bytes(data).decode()
        return int(text) if text.lstrip("-").isdigit() else float(text)


class PostgresDatabase(Database):
    """A catalog on a server."""

    BEGIN: ClassVar[str] = "BEGIN"
    SNAPSHOT: ClassVar[str] = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"

    def __init__(self, url: sqlalchemy.URL) -> None:
        engine = sqlalchemy.create_engine(
            url,
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
            connect_args={"cursor_factory": psycopg.ClientCursor},  # values of any type in any place
        )
        event.listen(engine, "connect", _prepare)
        event.listen(engine, "do_executemany", _pipelined)
        super().__init__(engine, without_secrets(url))
        self._keys: dict[str, str] = {}
        self._fulltext = PostgresFullText(self)
        try:
            self._check_server()
        except BaseException:
            self.close()
            raise

    @property
    def fulltext(self) -> PostgresFullText:
        return self._fulltext

    def said(self, sql: str) -> str:
        return for_postgresql(sql)

    def version(self) -> tuple[int, int]:
        return int(self.query("SELECT value FROM meta WHERE key = ?", (TURN_KEY,))[0][0]), 0

    def insert(self, sql: str, parameters: tuple[Any, ...] | list[Any]) -> int:  # type: ignore[override]
        words = sql.split(None, 3)
        table = words[2].split("(")[0]
        rows = self.execute(f"{sql} RETURNING {self._key_of(table)}", parameters).fetchall()
        return int(rows[0][0]) if rows else 0

    def compact(self) -> None:
        """Write every table anew. What the server's own log, replicas and backups hold is its keeper's to prune."""
        for table in self.query("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"):
            self.query(f'VACUUM FULL "{table[0]}"')

    def problems(self) -> list[str]:
        return []  # constraints are always in force, and pages are checked by the server where it was told to

    def _begun(self) -> None:
        self.execute("UPDATE meta SET value = CAST(CAST(value AS BIGINT) + 1 AS TEXT) WHERE key = ?", (TURN_KEY,))

    def _key_of(self, table: str) -> str:
        """A table's first column."""
        if table not in self._keys:
            rows = self.query(
                "SELECT attname FROM pg_attribute WHERE attrelid = CAST(? AS regclass) AND attnum = 1", (table,)
            )
            self._keys[table] = f'"{rows[0][0]}"'
        return self._keys[table]

    def translated(self, error: SQLAlchemyError) -> StorageError | CatalogError:
        cause = error.orig if isinstance(error, DBAPIError) else None
        if isinstance(cause, psycopg.errors.InsufficientPrivilege | psycopg.errors.ReadOnlySqlTransaction):
            first = str(cause).partition("\n")[0]
            return StorageError("the catalog may not be written", file=self.name, found=first)
        return super().translated(error)

    # --- the schema ------------------------------------------------------------------------------

    def _check_server(self) -> None:
        encoding, place = self.query("SELECT current_setting('server_encoding'), current_schema()")[0]
        if encoding != "UTF8":
            raise CatalogError("the catalog's database cannot hold every text", file=self.name, expected="UTF8",
                               found=encoding)  # fmt: skip
        if place is None:
            raise CatalogError("the catalog's URL leads to a schema that is not there", file=self.name)

    def is_empty(self) -> bool:
        """Whether there is no catalog yet."""
        return not self.query("SELECT 1 FROM pg_tables WHERE schemaname = current_schema() AND tablename = 'meta'")

    def create(self, archive_id: str) -> None:
        """Make the tables, whole or not at all; `ExistsError` where there are some of another archive."""
        if self.is_empty():
            with self._between(self.BEGIN):
                self.execute("SELECT pg_advisory_xact_lock(hashtext(current_schema()))")
                if self.is_empty():
                    for statement in (*statements(TABLES), SUBSTR):
                        self.execute(statement)
                    facts = ((SCHEMA_KEY, "1"), (TURN_KEY, "0"), (ARCHIVE_KEY, archive_id))
                    self.executemany("INSERT INTO meta(key, value) VALUES (?, ?)", facts)
        if self.archive_id() != archive_id:
            raise ExistsError("the database holds the catalog of another archive already", file=self.name)
        self.migrate()

    def archive_id(self) -> str:
        """Which archive this is the catalog of."""
        if self.is_empty():
            raise CatalogError("the database holds no catalog", file=self.name)
        rows = self.query("SELECT value FROM meta WHERE key = ?", (ARCHIVE_KEY,))
        return str(rows[0][0]) if rows else ""

    def migrate(self) -> None:
        """Bring an older catalog up to date, one version a transaction; refuse one of another schema."""
        while 1 <= (found := self._schema_version()) < SCHEMA_VERSION:
            with self.transaction():
                if self._schema_version() == found:
                    for statement in MIGRATIONS[found - 1]:
                        self.execute(statement)
                    self.execute("UPDATE meta SET value = ? WHERE key = ?", (str(found + 1), SCHEMA_KEY))
        if found != SCHEMA_VERSION:
            raise CatalogError("the catalog has another schema", file=self.name, expected=SCHEMA_VERSION, found=found)

    def _schema_version(self) -> int:
        return int(self.query("SELECT value FROM meta WHERE key = ?", (SCHEMA_KEY,))[0][0])


def _prepare(connection: psycopg.Connection[Any], _: object) -> None:
    """What every connection is told, before SQLAlchemy has it."""
    connection.adapters.register_loader("numeric", _NumberLoader)
    with connection.cursor() as cursor:
        cursor.execute(f"SET lock_timeout = '{TURN_SECONDS}s'")
        cursor.execute("SELECT set_config('synchronous_commit', 'on', false) "
                       "WHERE current_setting('synchronous_commit') = 'off'")  # fmt: skip


def _pipelined(cursor: psycopg.Cursor[Any], statement: str, parameters: Any, _: object) -> bool:
    """Many rows in one go: a client-side cursor would wait for an answer after each."""
    with psycopg.Cursor(cursor.connection) as quick:
        quick.executemany(statement, parameters)
    return True
