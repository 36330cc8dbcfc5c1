"""A run's rows from one catalog into another, under ids of the other's own.

Purpose: what export and import share. `TRAVELLING` says of every table with rows of a run how they are found; which
columns are ids goes by their names, and a column that is added later travels with the rest. Invariants: rows are read
for one run of one tenant and nothing beside it, and written for one; ids keep their order, because batches and
citations go by it; every row is checked as a stranger's (`incoming`), its ids against the rows that came with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from emm import InputError
from emm_engine.catalog.database import Row
from emm_engine.catalog.incoming import Texts, check_types, checked_label
from emm_engine.catalog.store import Catalog, Run, marks
from emm_engine.documents import embedded_text, text_hash
from emm_engine.embeddings.choice import LOOPBACK, EmbedderChoice
from emm_engine.errors import CatalogError

ROWS: Final = 500  # read at a time
DOCUMENTS: Final = 8  # likewise; one may have 32 Mi characters

Told = Callable[[int], None]  # rows just copied


@dataclass(frozen=True, slots=True)
class Table:
    """How a table's rows belong to a run: by an id that a table before it has, or with ids of its own by scope_id."""

    name: str
    key: str
    has_ids: bool = False  # `key` is its own, and given anew


TRAVELLING: Final = (
    Table("documents", "document_id", has_ids=True),
    Table("supersessions", "old_document_id"),
    Table("document_labels", "document_id"),
    Table("passages", "passage_id", has_ids=True),
    Table("passage_labels", "passage_id"),
    Table("embed_refusals", "passage_id"),
    Table("batches", "batch_id", has_ids=True),
    Table("pairs", "passage_id"),
    Table("pair_labels", "passage_id"),
)
OF_A_DOMAIN: Final = ("embedders", "embedder_choices")  # a row for a tenant's domain, taken where the other has none
APART: Final = frozenset(  # what is said by name or made anew, and what says how far work has come here
    {"meta", "tenants", "scopes", "labels", "settings", "domains"}
    | {"phrases", "rollups", "rollup_sources", "relocations", "embed_waits", "reembeds"}
    | {"cycles", "cycle_pairs", "extractions", "relabels", "relabel_labels"}
    | {"forgettings", "unlearnings", "blocked", "discarded", "fits"}
)
SPACES: Final = MappingProxyType(  # whose ids a column holds, where its name does not say it
    {
        "old_document_id": "document_id",
        "new_document_id": "document_id",
        "written_by": "batch_id",
        "unlearned_by": "batch_id",
    }
)


class Transfer:
    """One run's rows, out of one catalog and into another."""

    def __init__(self, source: Catalog, target: Catalog, run: Run, into: Run, told: Told) -> None:
        self._source = source
        self._target = target
        self._run = run
        self._into = into
        self._told = told
        self._columns = {
            name: target.database.declared(name) for name in (*(table.name for table in TRAVELLING), *OF_A_DOMAIN)
        }
        self._texts = Texts()
        self._ids: dict[str, dict[int, int]] = {
            "tenant_id": {run.tenant_id: into.tenant_id},
            "scope_id": {run.scope_id: into.scope_id},
            "label_id": {},
            **{table.key: {} for table in TRAVELLING if table.has_ids},
        }

    def copy(self) -> None:
        """Every row; inside a snapshot of the source and a transaction of the target."""
        for table in TRAVELLING:
            self._copy(table)
        self._copy_words()
        for name in OF_A_DOMAIN:
            self._copy_of_domain(name)

    def _copy(self, table: Table) -> None:
        columns = list(self._columns[table.name])
        if not table.has_ids:
            for rows in self._parts(table, columns):
                self._insert(table.name, columns, [self._taken(table, columns, row) for row in rows])
            return
        at = columns.index(table.key)
        kept = [*columns[:at], *columns[at + 1 :]]
        sql = f"INSERT INTO {table.name}({', '.join(kept)}) VALUES ({marks(kept)})"
        for rows in self._parts(table, columns):
            for row in rows:
                values = self._taken(table, columns, row)
                self._ids[table.key][row[at]] = self._target.insert(sql, [*values[:at], *values[at + 1 :]])
            self._told(len(rows))

    def _insert(self, name: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        self._target.executemany(f"INSERT INTO {name}({', '.join(columns)}) VALUES ({marks(columns)})", rows)
        self._told(len(rows))

    def _parts(self, table: Table, columns: Sequence[str]) -> Iterator[list[Row]]:
        """The source's rows of a table, in the order of its key, few at a time."""
        if table.has_ids:
            found = self._source.query(
                f"SELECT {table.key} FROM {table.name} WHERE scope_id = ? AND tenant_id = ? ORDER BY {table.key}",
                (self._run.scope_id, self._run.tenant_id),
            )
            wanted = [row[0] for row in found]
        else:
            wanted = sorted(self._ids[SPACES.get(table.key, table.key)])
        size = DOCUMENTS if table.name == "documents" else ROWS
        for low in range(0, len(wanted), size):
            part = wanted[low : low + size]
            yield self._source.query(
                f"SELECT {', '.join(columns)} FROM {table.name} WHERE {table.key} IN ({marks(part)}) "
                f"ORDER BY {table.key}",
                part,
            )

    def _taken(self, table: Table, columns: Sequence[str], row: Row) -> Row:
        """A row as the target has it."""
        values: dict[str, Any] = dict(zip(columns, row, strict=True))
        check_types(table.name, self._columns[table.name], values)
        self._texts.take(table.name, values)
        if table.name == "documents":
            self._require_not_blocked(values)
        for name, value in values.items():
            space = SPACES.get(name, name)
            if space in self._ids and value is not None and not (table.has_ids and name == table.key):
                values[name] = self._label(value) if name == "label_id" else self._ids[space].get(value)
                if values[name] is None:
                    raise CatalogError(
                        f"a row of {table.name} refers to what is not of {self._run.scope}", found=f"{name} {value}"
                    )
        return tuple(values.values())

    def _require_not_blocked(self, values: dict[str, Any]) -> None:
        """`InputError` for a text that was forgotten in the target, and is not to come back."""
        where = (self._into.tenant_id, values["content_sha256"])
        if self._target.query("SELECT 1 FROM blocked WHERE tenant_id = ? AND content_sha256 = ?", where):
            raise InputError(f"a text of {self._run.scope} was forgotten here", found=values["source"])

    def _label(self, label_id: int) -> int:
        known = self._ids["label_id"].get(label_id)
        if known is None:
            rows = self._source.query(
                "SELECT kind, name FROM labels WHERE label_id = ? AND tenant_id = ?", (label_id, self._run.tenant_id)
            )
            if not rows:
                raise CatalogError("a label is not of its tenant", found=label_id)
            known = self._target.label_id(self._into.tenant_id, checked_label(*rows[0]))
            self._ids["label_id"][label_id] = known
        return known

    def _copy_words(self) -> None:
        """The full-text table is made anew, from passages that are what their hashes say."""
        ids = self._ids["passage_id"]
        wanted = sorted(ids)
        for low in range(0, len(wanted), ROWS):
            part = wanted[low : low + ROWS]
            rows = self._source.query(
                "SELECT passage_id, source, title, substr(text, start + 1, end - start), text_hash "
                "FROM passages JOIN documents USING(document_id) WHERE passages.tenant_id = ? "
                f"AND passage_id IN ({marks(part)}) ORDER BY passage_id",
                (self._run.tenant_id, *part),
            )
            for passage_id, source, title, body, stored in rows:
                if text_hash(embedded_text(title, body)) != stored:
                    raise CatalogError(f"the text of passage {passage_id} is not what was stored", found=source)
            self._target.fulltext.add(self._into.tenant_id, [(ids[row[0]], *row[1:4]) for row in rows])

    def _copy_of_domain(self, name: str) -> None:
        columns = list(self._columns[name])
        where = f"FROM {name} WHERE tenant_id = ? AND domain = ?"
        if self._target.query(f"SELECT 1 {where}", (self._into.tenant_id, self._into.scope.domain)):
            return
        for row in self._source.query(
            f"SELECT {', '.join(columns)} {where}", (self._run.tenant_id, self._run.scope.domain)
        ):
            values: dict[str, Any] = dict(zip(columns, row, strict=True))
            check_types(name, self._columns[name], values)
            values |= {"tenant_id": self._into.tenant_id, "domain": self._into.scope.domain}
            if name == "embedders":
                values["vectors_folder"] = ""  # vectors are stored anew
            if name == "embedder_choices" and _is_elsewhere(values["spec"]):
                continue  # an address on the network is for the person to name whose texts would be sent there
            self._insert(name, columns, [tuple(values.values())])


def _is_elsewhere(spec: str) -> bool:
    choice = EmbedderChoice.parse(spec)
    return bool(choice.url) and choice.endpoint.host not in LOOPBACK
