"""Reading the catalog for an answer: lexical scores, what may be seen, and exact quotes.

Purpose: every read that an answer needs, bound to one tenant and a set of its runs. Invariants: BM25 comes from
the tenant's own full-text table; a document is visible at a moment when it is dated up to then and not yet
superseded by one dated up to then; a quote is the stored text at the stored span, nothing else, and is compared
with its hash, for a database keeps no checksums.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from emm_engine.catalog.store import Catalog, Run, marks
from emm_engine.documents import FILE_DATE, Label, embedded_text, text_hash
from emm_engine.errors import CatalogError
from emm_engine.stopwords import STOPWORDS

QUESTION_TERMS_MAX = 64

_WORD = re.compile(r"[^\W_]+")


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


def match_expression(question: str) -> str:
    """An FTS5 expression: any of the question's words, or empty. Words are quoted, so no input is syntax."""
    words = list(dict.fromkeys(_WORD.findall(question.lower())))
    telling = [word for word in words if word not in STOPWORDS] or words
    return " OR ".join(f'"{word}"' for word in telling[:QUESTION_TERMS_MAX])


class CatalogReader:
    """Reads over some runs of one tenant, optionally as of a moment (`documents.end_of`)."""

    def __init__(self, catalog: Catalog, tenant_id: int, runs: Sequence[Run], as_of: str | None) -> None:
        assert all(run.tenant_id == tenant_id for run in runs)
        self._catalog = catalog
        self._tenant_id = tenant_id
        self._scope_ids = [run.scope_id for run in runs]
        self._as_of = as_of

    def _visible(self) -> tuple[str, list[object]]:
        """A condition over `passages JOIN documents`, and its parameters."""
        where = f"passages.tenant_id = ? AND passages.scope_id IN ({marks(self._scope_ids)})"
        parameters: list[object] = [self._tenant_id, *self._scope_ids]
        if self._as_of is None:
            return where + " AND documents.superseded = 0", parameters
        where += (
            " AND documents.date <> '' AND documents.date <= ? AND NOT EXISTS (SELECT 1 FROM supersessions "
            "JOIN documents AS newer ON newer.document_id = new_document_id "
            "WHERE old_document_id = documents.document_id AND newer.date <= ?)"
        )
        return where, [*parameters, self._as_of, self._as_of]

    def filtered_ids(self) -> list[int] | None:
        """Visible passage ids, ascending, or None when every passage of the runs is visible."""
        where, parameters = self._visible()
        if self._as_of is None and not self._catalog.query(
            f"SELECT 1 FROM documents WHERE superseded = 1 AND scope_id IN ({marks(self._scope_ids)}) LIMIT 1",
            self._scope_ids,
        ):
            return None
        rows = self._catalog.query(
            f"SELECT passage_id FROM passages JOIN documents USING(document_id) WHERE {where} ORDER BY passage_id",
            parameters,
        )
        return [row[0] for row in rows]

    def lexical_scores(self, expression: str) -> dict[int, float]:
        """{passage id: BM25} of every visible passage that matches a word; higher is better."""
        if not expression or not self._scope_ids:
            return {}
        return self._catalog.fulltext.scores(self._tenant_id, expression, *self._visible())

    def text_hashes(self, scope_id: int) -> dict[int, int]:
        """{passage id: unsigned text hash} of a run: what its vectors must have been made from."""
        rows = self._catalog.query(
            "SELECT passage_id, text_hash FROM passages WHERE tenant_id = ? AND scope_id = ? ORDER BY passage_id",
            (self._tenant_id, scope_id),
        )
        return {row[0]: row[1] & 0xFFFF_FFFF_FFFF_FFFF for row in rows}

    def quotes(self, passage_ids: Sequence[int]) -> dict[int, Quote]:
        """{passage id: its quote}; `CatalogError` when a text is no longer what was stored."""
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
            "SELECT kind, name, count(*) FROM pair_labels JOIN pairs USING(passage_id) JOIN labels USING(label_id) "
            f"WHERE pairs.tenant_id = ? AND scope_id IN ({marks(self._scope_ids)}) AND unlearned_by IS NULL "
            "GROUP BY labels.label_id HAVING count(*) >= ? ORDER BY kind, name",
            (self._tenant_id, *self._scope_ids, support_min),
        )
        return [(Label(kind, name), n_pairs) for kind, name, n_pairs in rows]

    def carriers(self, label: Label) -> list[tuple[int, int]]:
        """(passage id, run's scope id) of the visible passages whose pair carries a label."""
        where, parameters = self._visible()
        rows = self._catalog.query(
            "SELECT passages.passage_id, passages.scope_id FROM labels CROSS JOIN pair_labels USING(label_id) "
            "CROSS JOIN passages USING(passage_id) CROSS JOIN documents USING(document_id) "
            f"WHERE labels.tenant_id = ? AND kind = ? AND name = ? AND {where} ORDER BY passages.passage_id",
            (self._tenant_id, label.kind, label.name, *parameters),
        )
        return [(row[0], row[1]) for row in rows]

    def undated(self) -> int:
        """Current documents of the runs without a date, which `as_of` cannot place."""
        rows = self._catalog.query(
            "SELECT count(*) FROM documents WHERE tenant_id = ? AND date = '' AND superseded = 0 "
            f"AND scope_id IN ({marks(self._scope_ids)})",
            (self._tenant_id, *self._scope_ids),
        )
        return int(rows[0][0])
