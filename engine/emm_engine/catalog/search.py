"""Reading the catalog for an answer: what a filter leaves visible, exact quotes, and who carries a label.

Purpose: every read that an answer needs of single passages, bound to one tenant and a set of its runs. Invariants: a
document is visible at a moment when it is dated up to then and not yet superseded by one dated up to then; a quote is
the stored text at the stored span, nothing else, and is compared with its hash, for SQLite keeps no checksums.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from emm_engine.catalog.store import Catalog, Run, marks
from emm_engine.documents import FILE_DATE, Label, embedded_text, text_hash
from emm_engine.errors import CatalogError

_LITERAL = re.compile(r"[^*?\[]*")  # what a shell pattern begins with before anything in it is special


@dataclass(frozen=True, slots=True)
class Quote:
    """A passage as stored, with where it stands."""

    passage_id: int
    document_id: int
    source: str
    title: str
    date: str
    file_date: bool
    start: int
    end: int
    text: str


class CatalogReader:
    """Reads over some runs of one tenant."""

    def __init__(self, catalog: Catalog, tenant_id: int, runs: Sequence[Run]) -> None:
        assert all(run.tenant_id == tenant_id for run in runs)
        self._catalog = catalog
        self._tenant_id = tenant_id
        self._scope_ids = [run.scope_id for run in runs]

    def _documents(self, selected: str, where: str, parameters: Sequence[object]) -> list[tuple[int, str]]:
        """Rows of `passages JOIN documents` in the runs."""
        rows = self._catalog.query(
            f"SELECT {selected} FROM passages JOIN documents USING(document_id) WHERE passages.tenant_id = ? "
            f"AND passages.scope_id IN ({marks(self._scope_ids)}) AND {where}",
            (self._tenant_id, *self._scope_ids, *parameters),
        )
        return [(row[0], row[1]) for row in rows]

    def known_at(self, moment: str) -> list[int]:
        """Ids of the passages that were current at a moment (`documents.end_of`)."""
        found = self._documents(
            "passage_id, ''",
            "documents.date <> '' AND documents.date <= ? AND NOT EXISTS (SELECT 1 FROM supersessions "
            "JOIN documents AS newer ON newer.document_id = new_document_id "
            "WHERE old_document_id = documents.document_id AND newer.date <= ?)",
            (moment, moment),
        )
        return [passage_id for passage_id, _ in found]

    def dated(self, since: str, until: str) -> list[int]:
        """Ids of the passages of documents with a date from `since` to `until`, both included, compared as text."""
        found = self._documents("passage_id, ''", "date <> '' AND date >= ? AND date <= ?", (since, until))
        return [passage_id for passage_id, _ in found]

    def from_sources(self, pattern: str, takes: Callable[[str], bool]) -> list[int]:
        """Ids of the passages whose source a shell pattern takes; the database only narrows them down."""
        literal = _LITERAL.match(pattern)
        assert literal is not None
        start = "".join("\\" + mark if mark in "\\%_" else mark for mark in literal.group())
        found = self._documents("passage_id, source", "source LIKE ? ESCAPE ?", (start + "%", "\\"))
        verdicts = {source: takes(source) for source in {source for _, source in found}}
        return [passage_id for passage_id, source in found if verdicts[source]]

    def labelled(self, label: Label) -> list[int]:
        """Ids of the passages whose document or whose pair carries a label."""
        known = self._catalog.query(
            "SELECT label_id FROM labels WHERE tenant_id = ? AND kind = ? AND name = ?",
            (self._tenant_id, label.kind, label.name),
        )
        if not known:
            return []
        found = self._documents(
            "passage_id, ''",
            "(documents.document_id IN (SELECT document_id FROM document_labels WHERE label_id = ?) "
            "OR passage_id IN (SELECT passage_id FROM pair_labels WHERE label_id = ?))",
            known[0] * 2,
        )
        return [passage_id for passage_id, _ in found]

    def text_hashes(self, scope_id: int, passage_ids: Sequence[int] | None = None) -> dict[int, int]:
        """{passage id: unsigned text hash} of a run (or of these passages): what its vectors must be made from."""
        source = "SELECT passage_id, text_hash FROM passages WHERE tenant_id = ? AND scope_id = ?"
        where = (self._tenant_id, scope_id)
        if passage_ids is None:
            rows = self._catalog.query(f"{source} ORDER BY passage_id", where)
        else:
            parts = (list(passage_ids[low : low + 500]) for low in range(0, len(passage_ids), 500))
            rows = [
                row
                for part in parts
                for row in self._catalog.query(
                    f"{source} AND passage_id IN ({marks(part)}) ORDER BY passage_id", (*where, *part)
                )
            ]
        return {row[0]: row[1] & 0xFFFF_FFFF_FFFF_FFFF for row in rows}

    def quotes(self, passage_ids: Sequence[int]) -> dict[int, Quote]:
        """{passage id: its quote}; `CatalogError` when a text is no longer what was stored."""
        if not passage_ids:
            return {}
        rows = self._catalog.query(
            "SELECT passage_id, document_id, source, title, date, EXISTS (SELECT 1 FROM document_labels "
            "JOIN labels USING(label_id) WHERE document_id = documents.document_id AND kind = ? AND name = ?), "
            "start, end, substr(text, start + 1, end - start), "
            "text_hash FROM passages JOIN documents USING(document_id) "
            f"WHERE passages.tenant_id = ? AND passage_id IN ({marks(passage_ids)})",
            (FILE_DATE.kind, FILE_DATE.name, self._tenant_id, *passage_ids),
        )
        for passage_id, _, source, title, *_, text, stored in rows:
            if text_hash(embedded_text(title, text)) != stored:
                raise CatalogError(f"the text of passage {passage_id} is not what was stored", found=source)
        return {row[0]: Quote(*(*row[:5], bool(row[5]), *row[6:-1])) for row in rows}

    def matrix_labels(self, support_min: int) -> list[tuple[Label, int]]:
        """Labels that at least `support_min` of the runs' absorbed pairs carry, with how many, by kind and name."""
        rows = self._catalog.query(
            "SELECT kind, name, n_pairs FROM (SELECT label_id, count(*) AS n_pairs FROM pair_labels "
            f"JOIN pairs USING(passage_id) WHERE tenant_id = ? AND scope_id IN ({marks(self._scope_ids)}) "
            "AND unlearned_by IS NULL GROUP BY label_id HAVING count(*) >= ?) AS counted "
            "JOIN labels USING(label_id) ORDER BY kind, name",
            (self._tenant_id, *self._scope_ids, support_min),
        )
        return [(Label(kind, name), n_pairs) for kind, name, n_pairs in rows]

    def carriers_among(self, labels: Sequence[Label], passage_ids: Sequence[int]) -> dict[Label, set[int]]:
        """For each label those of a few passages whose pair carries it."""
        return {label: self._carriers_among(label, passage_ids) for label in labels}

    def _carriers_among(self, label: Label, passage_ids: Sequence[int]) -> set[int]:
        rows = self._catalog.query(
            "SELECT passage_id FROM labels JOIN pair_labels USING(label_id) WHERE labels.tenant_id = ? "
            f"AND kind = ? AND name = ? AND passage_id IN ({marks(passage_ids)})",
            (self._tenant_id, label.kind, label.name, *passage_ids),
        )
        return {row[0] for row in rows}

    def newest_carriers(self, label: Label, count: int) -> list[int]:
        """The newest passages of the tenant whose pair carries a label."""
        rows = self._catalog.query(
            "SELECT passage_id FROM labels JOIN pair_labels USING(label_id) WHERE labels.tenant_id = ? "
            "AND kind = ? AND name = ? ORDER BY passage_id DESC LIMIT ?",
            (self._tenant_id, label.kind, label.name, count),
        )
        return [row[0] for row in rows]

    def undated(self) -> int:
        """Current documents of the runs without a date, which no moment can place."""
        rows = self._catalog.query(
            "SELECT count(*) FROM documents WHERE tenant_id = ? AND date = '' AND superseded = 0 "
            f"AND scope_id IN ({marks(self._scope_ids)})",
            (self._tenant_id, *self._scope_ids),
        )
        return int(rows[0][0])
