"""A run's rows from one catalog into another, under ids of the other's own.

Purpose: what export and import share. `TRAVELLING` says of every table with rows of a run how they are found and which
columns are ids; a column that is added later travels with the rest. Invariants: rows are read for one run of one tenant
and nothing beside it, and written for one; ids keep their order, because batches and citations go by it; what comes in
is checked as if a stranger had written it: texts against their hashes, passages against their texts, values against the
types of their columns, ids against the rows that came with them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from emm import InputError
from emm_engine.catalog.store import Catalog, Row, Run, marks
from emm_engine.documents import Document, Label, embedded_text, text_hash
from emm_engine.errors import CatalogError
from emm_engine.hierarchy import Place, Scope, Tenant, parse_place

EXPORTED: Final = "export.scope"  # key in `meta` of an exported archive
ROWS: Final = 500  # read at a time
DOCUMENTS: Final = 8  # likewise; one may have 32 Mi characters

Told = Callable[[int], None]  # rows just copied


@dataclass(frozen=True, slots=True)
class Table:
    """How a table's rows belong to a run: by its scope_id, or by an id that a table before it has."""

    name: str
    by: str
    identity: str | None = None  # the column of its own ids, given anew


TRAVELLING: Final = (
    Table("documents", "scope_id", "document_id"),
    Table("supersessions", "old_document_id"),
    Table("document_labels", "document_id"),
    Table("passages", "scope_id", "passage_id"),
    Table("batches", "scope_id", "batch_id"),
    Table("pairs", "passage_id"),
    Table("pair_labels", "passage_id"),
)
OF_A_DOMAIN: Final = ("embedders",)  # one row for a tenant's domain, taken along where the other has none
APART: Final = frozenset(  # tables that are made anew, said by name, or of no use elsewhere
    {"meta", "tenants", "scopes", "labels", "settings", "domains", "rollups", "rollup_sources", "relocations"}
)
SPACES: Final = MappingProxyType(  # whose ids a column holds
    {
        "document_id": "document_id",
        "old_document_id": "document_id",
        "new_document_id": "document_id",
        "passage_id": "passage_id",
        "batch_id": "batch_id",
        "written_by": "batch_id",
        "unlearned_by": "batch_id",
    }
)
_TYPES: Final = (("INT", int), ("BIGINT", int), ("TEXT", str), ("BLOB", bytes), ("BYTEA", bytes), ("REAL", float))


class Transfer:
    """Copies runs out of one catalog into another."""

    def __init__(self, source: Catalog, target: Catalog, told: Told | None = None) -> None:
        self._source = source
        self._target = target
        self._columns = target.columns()
        self._told = told

    def run(self, run: Run, into: Run) -> None:
        """Every row of a run; inside a snapshot of the source and a transaction of the target."""
        ids: dict[str, dict[int, int]] = {"scope_id": {run.scope_id: into.scope_id}}
        for table in TRAVELLING:
            self._copy(table, run, into, ids)
        self._copy_words(run, into, ids["passage_id"])
        for name in OF_A_DOMAIN:
            self._copy_of_domain(name, run, into)

    def settings(self, tenant: str, said: Sequence[tuple[str, str, str]]) -> None:
        """What was said of places, as (place, key, value), where the target says nothing; in a transaction."""
        tenant_id = self._target.tenant_id(tenant)
        assert tenant_id is not None
        self._target.executemany(
            "INSERT INTO settings(tenant_id, scope, key, value) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
            [(tenant_id, *each) for each in said],
        )

    # --- rows ------------------------------------------------------------------------------------

    def _copy(self, table: Table, run: Run, into: Run, ids: dict[str, dict[int, int]]) -> None:
        columns = list(self._columns[table.name])
        sql = f"INSERT INTO {table.name}({', '.join(columns)}) VALUES ({marks(columns)})"
        if table.identity is not None:
            given = ids.setdefault(table.identity, {})
            at = columns.index(table.identity)
            kept = [name for name in columns if name != table.identity]
            sql = f"INSERT INTO {table.name}({', '.join(kept)}) VALUES ({marks(kept)})"
            for row in self._rows(table, columns, run, ids):
                values = self._values(table, columns, row, run, into, ids)
                given[_integer(row[at])] = self._target.insert(sql, [*values[:at], *values[at + 1 :]])
                self._tell(1)
            return
        part: list[Row] = []
        for row in self._rows(table, columns, run, ids):
            part.append(self._values(table, columns, row, run, into, ids))
            if len(part) == ROWS:
                self._target.executemany(sql, part)
                self._tell(len(part))
                part = []
        self._target.executemany(sql, part)
        self._tell(len(part))

    def _rows(self, table: Table, columns: Sequence[str], run: Run, ids: dict[str, dict[int, int]]) -> Iterator[Row]:
        """The source's rows of a table, in the order of their ids, few at a time."""
        key, wanted = table.by, sorted(ids.get(SPACES.get(table.by, table.by), ()))
        if table.identity is not None:
            key = table.identity
            found = self._source.query(
                f"SELECT {key} FROM {table.name} WHERE scope_id = ? AND tenant_id = ? ORDER BY {key}",
                (run.scope_id, run.tenant_id),
            )
            wanted = [_integer(row[0]) for row in found]
        rows = DOCUMENTS if table.name == "documents" else ROWS
        for low in range(0, len(wanted), rows):
            part = wanted[low : low + rows]
            yield from self._source.query(
                f"SELECT {', '.join(columns)} FROM {table.name} WHERE {key} IN ({marks(part)}) ORDER BY {key}", part
            )

    def _values(
        self,
        table: Table,
        columns: Sequence[str],
        row: Row,
        run: Run,
        into: Run,
        ids: dict[str, dict[int, int]],
    ) -> Row:
        """A row as the target has it."""
        if table.name == "documents":
            _check_document(dict(zip(columns, row, strict=True)))
        values: list[Any] = []
        for name, value in zip(columns, row, strict=True):
            _check_type(table.name, name, self._columns[table.name][name], value)
            if name == table.identity or value is None:
                values.append(None)
            elif name in ("tenant_id", "scope_id"):
                if value != getattr(run, name):
                    raise CatalogError(f"a row of {table.name} belongs elsewhere", expected=str(run.scope))
                values.append(getattr(into, name))
            elif name == "label_id":
                values.append(self._label(run.tenant_id, value, into.tenant_id))
            elif name in SPACES:
                known = ids.get(SPACES[name], {}).get(value)
                if known is None:
                    raise CatalogError(
                        f"a row of {table.name} refers to what is not of its run", found=f"{name} {value}"
                    )
                values.append(known)
            else:
                values.append(value)
        return tuple(values)

    def _label(self, tenant_id: int, label_id: int, into: int) -> int:
        rows = self._source.query(
            "SELECT kind, name FROM labels WHERE label_id = ? AND tenant_id = ?", (label_id, tenant_id)
        )
        if not rows:
            raise CatalogError("a label is not of its tenant", found=label_id)
        label = Label(*rows[0])
        _refused_as_damage(lambda: Document("label", "", "", labels=(label,)))
        return self._target.label_id(into, label)

    def _copy_words(self, run: Run, into: Run, ids: dict[int, int]) -> None:
        """The full-text table is made anew, from passages that are what their hashes say."""
        wanted = sorted(ids)
        for low in range(0, len(wanted), ROWS):
            part = wanted[low : low + ROWS]
            rows = self._source.query(
                "SELECT passage_id, source, title, substr(text, start + 1, end - start), start, end, text_hash "
                "FROM passages JOIN documents USING(document_id) WHERE passages.tenant_id = ? "
                f"AND passage_id IN ({marks(part)}) ORDER BY passage_id",
                (run.tenant_id, *part),
            )
            for passage_id, source, title, body, start, end, stored in rows:
                whole = 0 <= start < end and len(body) == end - start
                if not whole or text_hash(embedded_text(title, body)) != stored:
                    raise CatalogError(f"the text of passage {passage_id} is not what was stored", found=source)
            if len(rows) != len(part):
                raise CatalogError("a passage has no document", expected=len(part), found=len(rows))
            self._target.add_words(into.tenant_id, [(ids[row[0]], *row[1:4]) for row in rows])

    def _copy_of_domain(self, name: str, run: Run, into: Run) -> None:
        columns = list(self._columns[name])
        found = "SELECT {} FROM {} WHERE tenant_id = ? AND domain = ?"
        if self._target.query(found.format("1", name), (into.tenant_id, into.scope.domain)):
            return
        rows = self._source.query(found.format(", ".join(columns), name), (run.tenant_id, run.scope.domain))
        for row in rows:
            values = dict(zip(columns, row, strict=True))
            for column, value in values.items():
                _check_type(name, column, self._columns[name][column], value)
            values |= {"tenant_id": into.tenant_id, "domain": into.scope.domain}
            self._target.executemany(
                f"INSERT INTO {name}({', '.join(columns)}) VALUES ({marks(columns)})", [tuple(values.values())]
            )

    def _tell(self, count: int) -> None:
        if self._told is not None:
            self._told(count)


def renamed(scope: Scope, source: Place, target: Place) -> Scope:
    """What a scope at or below `source` is called below `target`, a place of the same level."""
    assert source.contains(scope)
    return Scope.parse(str(target) + str(scope)[len(str(source)) :])


def level(place: Place) -> str:
    """tenant, domain, project or run."""
    if isinstance(place, Tenant):
        return "tenant"
    return "run" if place.is_run else "domain" if place.project is None else "project"


def exported_scope(catalog: Catalog, file: str) -> Place:
    """What an archive is an export of; `InputError` where it is none, or holds what an export never has."""
    strange = catalog.query("SELECT name FROM sqlite_master WHERE type IN ('view', 'trigger') LIMIT 1")
    virtual = catalog.query(
        "SELECT name FROM sqlite_master WHERE sql LIKE 'CREATE VIRTUAL%' AND name NOT LIKE 'fulltext_%' LIMIT 1"
    )
    if strange or virtual:
        raise InputError("not a catalog that emm export has written", file=file, found=repr((strange + virtual)[0][0]))
    rows = catalog.query("SELECT value FROM meta WHERE key = ?", (EXPORTED,))
    if not rows:
        raise InputError("not an exported archive", file=file, expected="what emm export has written")
    return parse_place(str(rows[0][0]))


def say_exported(catalog: Catalog, place: Place) -> None:
    """Mark an archive as the export of a scope."""
    with catalog.transaction():
        catalog.executemany("INSERT INTO meta(key, value) VALUES (?, ?)", [(EXPORTED, str(place))])


def _check_document(values: dict[str, Any]) -> None:
    document = _refused_as_damage(
        lambda: Document(
            source=values["source"],
            title=values["title"],
            text=values["text"],
            date=values["date"],
            key=values["version_key"],
        )
    )
    if document.content_sha256 != values["content_sha256"]:
        raise CatalogError("a text is not what was stored", found=document.source)


def _refused_as_damage(make: Callable[[], Document]) -> Document:
    try:
        return make()
    except (InputError, TypeError) as error:
        raise CatalogError("the catalog holds what no document can", found=str(error)) from error


def _check_type(table: str, column: str, declared: str, value: object) -> None:
    wanted = next((kind for name, kind in _TYPES if declared.upper().startswith(name)), None)
    kinds = (int, float) if wanted is float else (wanted,)
    right = wanted is None or value is None or type(value) in kinds
    if not right or (isinstance(value, float) and not math.isfinite(value)):
        raise CatalogError(f"{table}.{column} holds what it cannot", expected=declared, found=repr(value)[:80])


def _integer(value: object) -> int:
    if type(value) is not int:
        raise CatalogError("an id is not a number", found=repr(value)[:80])
    return value
