"""The catalog of a team: a PostgreSQL server.

Purpose: `Database` over psycopg. Invariants: the tables are those of `schema` and `migrations`, in a schema of the
archive's own, so one database holds any number of archives; a transaction that writes begins by raising one counter,
which makes writers take turns as they do in SQLite and tells readers that something changed; a commit is on the
server's disk when it returns, also where the server's default is looser; a role without the right to write can ask all
the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Final

import psycopg
import sqlalchemy
from psycopg.adapt import Buffer, Loader
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from emm import StorageError
from emm_engine.catalog.database import Database, cause_of
from emm_engine.catalog.migrations import MIGRATIONS
from emm_engine.catalog.portable import for_postgresql, statements
from emm_engine.catalog.postgres_words import MAKE_TOTALS, PostgresFullText
from emm_engine.catalog.schema import SCHEMA_VERSION, TABLES
from emm_engine.catalog.server_url import without_secrets
from emm_engine.errors import CatalogError

ENCODING: Final = "UTF8"
SUBSTR: Final = (  # PostgreSQL's own takes 32-bit numbers alone, and all of ours have 64
    "CREATE FUNCTION substr(text, bigint, bigint) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE "
    "RETURN pg_catalog.substr($1, CAST($2 AS integer), CAST($3 AS integer))"
)
LONG_NAMES: Final = (  # an index in order takes 2,704 bytes a row, and a title or a label may be longer
    "ALTER TABLE labels DROP CONSTRAINT labels_tenant_id_kind_name_key",
    "CREATE UNIQUE INDEX labels_said ON labels(tenant_id, md5(kind), md5(name))",
    "CREATE INDEX labels_name ON labels USING hash(name)",
    "DROP INDEX documents_version",
    "CREATE INDEX documents_version ON documents USING hash(version_key) WHERE version_key IS NOT NULL",
)
SAMPLED: Final = (
    "SELECT relname, attname FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid WHERE relkind = 'r' "
    "AND relnamespace = CAST(current_schema() AS regnamespace) AND attnum > 0 AND NOT attisdropped "
    "AND atttypid IN (CAST('text' AS regtype), CAST('bytea' AS regtype)) AND coalesce(attstattarget, -1) <> 0"
)
CONNECT_SECONDS: Final = 10
SESSION: Final = (  # what every connection is told
    "SET lock_timeout = '30s'",  # how long a writer waits for the one before it, as in SQLite
    "SET tcp_keepalives_idle = 60",  # a client that has vanished must not keep its turn
    "SET tcp_keepalives_interval = 10",
    "SET tcp_keepalives_count = 3",
    "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'",
)
SCHEMA_PREFIX: Final = "emm_"
SCHEMA_KEY, TURN_KEY = "schema_version", "changes"


class _NumberLoader(Loader):
    """A sum of whole numbers is whole: PostgreSQL calls it numeric, and psycopg would make a Decimal of it."""

    def load(self, data: Buffer) -> int | float:
        text = bytes(data).decode()
        return int(text) if text.lstrip("-").isdigit() else float(text)


class PostgresDatabase(Database):
    """A catalog on a server: that of the archive with this id."""

    BEGIN: ClassVar[str] = "BEGIN"
    SNAPSHOT: ClassVar[str] = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"

    def __init__(self, url: sqlalchemy.URL, archive_id: str) -> None:
        self._url = url
        self._archive_id = archive_id
        self._schema = SCHEMA_PREFIX + archive_id
        self._keys: dict[str, str] = {}
        self._turns = 0  # own transactions that wrote
        self._columns: dict[str, tuple[str, ...]] | None = None
        engine = sqlalchemy.create_engine(
            url if "connect_timeout" in url.query else url.update_query_dict({"connect_timeout": str(CONNECT_SECONDS)}),
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
            connect_args={"cursor_factory": psycopg.ClientCursor},  # values of any type in any place
        )
        event.listen(engine, "connect", self._prepare)
        event.listen(engine, "do_executemany", _pipelined)
        super().__init__(engine, without_secrets(url))
        self._fulltext = PostgresFullText(self)

    def _prepare(self, connection: psycopg.Connection[Any], _: object) -> None:
        """What a connection is told before SQLAlchemy has it."""
        connection.adapters.register_loader("numeric", _NumberLoader)
        with connection.cursor() as cursor:
            for statement in (*SESSION, f'SET search_path = "{self._schema}"'):
                cursor.execute(statement.encode())

    def again(self) -> PostgresDatabase:
        return PostgresDatabase(self._url, self._archive_id)

    @property
    def fulltext(self) -> PostgresFullText:
        return self._fulltext

    # --- statements ------------------------------------------------------------------------------

    def said(self, sql: str) -> str:
        return for_postgresql(sql)

    def version(self) -> tuple[int, int]:
        """(turns that others took, turns of our own)."""
        turns = int(self.query("SELECT value FROM meta WHERE key = ?", (TURN_KEY,))[0][0])
        return turns - self._turns, self._turns

    @contextmanager
    def transaction(self) -> Iterator[None]:
        before = self._turns
        try:
            with super().transaction():
                yield
        except BaseException:
            self._turns = before
            raise

    def _begun(self) -> None:
        self.execute("UPDATE meta SET value = CAST(CAST(value AS BIGINT) + 1 AS TEXT) WHERE key = ?", (TURN_KEY,))
        self._turns += 1

    def insert(self, sql: str, parameters: Sequence[Any]) -> int:
        table = sql.split(None, 3)[2].partition("(")[0]
        rows = self.execute(f"{sql} RETURNING {self._key_of(table)}", parameters).fetchall()
        return int(rows[0][0]) if rows else 0

    def _key_of(self, table: str) -> str:
        """A table's first column."""
        if table not in self._keys:
            self._keys[table] = f'"{self.columns()[table][0]}"'
        return self._keys[table]

    def columns(self) -> dict[str, tuple[str, ...]]:
        if self._columns is None:  # no connection outlives a migration
            self._columns = super().columns()
        return self._columns

    # --- what goes wrong -------------------------------------------------------------------------

    def unreachable(self, error: SQLAlchemyError) -> StorageError:
        return StorageError("the catalog's server cannot be reached", file=self.name, found=cause_of(error))

    def translated(self, error: SQLAlchemyError) -> StorageError | CatalogError:
        cause = error.orig if isinstance(error, DBAPIError) else None
        if isinstance(cause, psycopg.errors.InsufficientPrivilege | psycopg.errors.ReadOnlySqlTransaction):
            return StorageError("the catalog may not be written", file=self.name, found=cause_of(error))
        return super().translated(error)

    def problems(self) -> list[str]:
        return []  # constraints are always in force, and pages are checked by the server where it was told to

    def compact(self) -> None:
        """Write every table anew. What the server's own log, replicas and backups hold is its keeper's to prune."""
        for table in self.query("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"):
            self.query(f'VACUUM FULL "{table[0]}"')

    # --- the schema ------------------------------------------------------------------------------

    def create(self) -> None:
        """Make the archive's schema and tables, whole or not at all; those that are there stay."""
        (encoding,) = self.query("SELECT current_setting('server_encoding')")[0]
        if encoding != ENCODING:
            raise CatalogError("the catalog's database cannot hold every text", file=self.name, expected=ENCODING,
                               found=encoding)  # fmt: skip
        with self._between(self.BEGIN):
            self.execute("SELECT pg_advisory_xact_lock(hashtext(?))", (self._schema,))
            self.execute(f'CREATE SCHEMA IF NOT EXISTS "{self._schema}"')
            if not self._is_there():
                for statement in (*statements(TABLES), *LONG_NAMES, MAKE_TOTALS, SUBSTR):
                    self.execute(statement)
                self.executemany("INSERT INTO meta(key, value) VALUES (?, ?)", ((SCHEMA_KEY, "1"), (TURN_KEY, "0")))
        self.migrate()

    def migrate(self) -> None:
        """Bring an older catalog up to date, one version a transaction; `CatalogError` for none, or a newer one."""
        if not self._is_there():
            raise CatalogError("the database holds no catalog of this archive", file=self.name, expected=self._schema)
        while 1 <= (found := self._schema_version()) < SCHEMA_VERSION:
            with self.transaction():
                if self._schema_version() == found:
                    for statement in MIGRATIONS[found - 1]:
                        self.execute(statement)
                    self._keep_no_samples()
                    self.execute("UPDATE meta SET value = ? WHERE key = ?", (str(found + 1), SCHEMA_KEY))
        if found != SCHEMA_VERSION:
            raise CatalogError("the catalog has another schema", file=self.name, expected=SCHEMA_VERSION, found=found)

    def _keep_no_samples(self) -> None:
        """The planner may not note values of columns with content, for nobody could make it forget them."""
        for table, column in self.query(SAMPLED):
            self.execute(f'ALTER TABLE "{table}" ALTER COLUMN "{column}" SET STATISTICS 0')

    def _is_there(self) -> bool:
        return bool(self.query("SELECT 1 FROM pg_tables WHERE schemaname = ? AND tablename = 'meta'", (self._schema,)))

    def _schema_version(self) -> int:
        return int(self.query("SELECT value FROM meta WHERE key = ?", (SCHEMA_KEY,))[0][0])


def _pipelined(cursor: psycopg.Cursor[Any], statement: str, parameters: Any, _: object) -> bool:
    """Many rows in one go: a client-side cursor would wait for an answer after each."""
    with psycopg.Cursor(cursor.connection) as quick:
        quick.executemany(statement, parameters)
    return True
