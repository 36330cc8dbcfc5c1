"""Labels that a newer extractor gives to text that is kept: staged until a dream has brought them into the matrix.

Purpose: examine a run once for each version of the extractor, in steps that survive a kill. Invariants: the matrix's
own labels (`pair_labels`) stay what they are until a swap replaces them; how far a run has been examined, and what
was found on the way, is one transaction; a passage's staged labels go with its row in `relabels`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from emm_engine.catalog.pairs import Taught
from emm_engine.catalog.store import Catalog, Run, marks
from emm_engine.documents import Label


class Relabels:
    """What is staged for one run."""

    def __init__(self, catalog: Catalog, run: Run) -> None:
        self._catalog = catalog
        self._run = run

    def examined(self, extractor: str) -> int:
        """The last passage that this very extractor has examined; 0 = none."""
        rows = self._catalog.query(
            "SELECT passage_id FROM extractions WHERE scope_id = ? AND extractor = ?", (self._run.scope_id, extractor)
        )
        return int(rows[0][0]) if rows else 0

    def extractor(self) -> str | None:
        """Which extractor has examined the run, perhaps not to its end."""
        rows = self._catalog.query("SELECT extractor FROM extractions WHERE scope_id = ?", (self._run.scope_id,))
        return str(rows[0][0]) if rows else None

    def start(self, extractor: str) -> None:
        """Begin to examine the run with another extractor; what the one before staged is void."""
        run = self._run
        with self._catalog.transaction():
            self._catalog.executemany("DELETE FROM relabels WHERE scope_id = ?", [(run.scope_id,)])
            self._catalog.executemany("DELETE FROM extractions WHERE scope_id = ?", [(run.scope_id,)])
            self._catalog.executemany(
                "INSERT INTO extractions(scope_id, tenant_id, extractor, passage_id) VALUES (?, ?, ?, 0)",
                [(run.scope_id, run.tenant_id, extractor)],
            )

    def drop_superseded(self) -> None:
        """What has been superseded since it was staged needs no new labels."""
        with self._catalog.transaction():
            self._catalog.executemany(
                "DELETE FROM relabels WHERE scope_id = ? AND passage_id IN "
                "(SELECT passage_id FROM pairs WHERE scope_id = ? AND superseded = 1)",
                [(self._run.scope_id, self._run.scope_id)],
            )

    def stage(self, upto: int, labels: Mapping[int, Sequence[Taught]]) -> None:
        """The run is examined up to passage `upto`, and these passages now have these labels."""
        catalog, run = self._catalog, self._run
        with catalog.transaction():
            catalog.executemany("UPDATE extractions SET passage_id = ? WHERE scope_id = ?", [(upto, run.scope_id)])
            catalog.executemany(
                "INSERT INTO relabels(passage_id, tenant_id, scope_id) VALUES (?, ?, ?)",
                [(identity, run.tenant_id, run.scope_id) for identity in labels],
            )
            catalog.executemany(
                "INSERT INTO relabel_labels(passage_id, label_id, weight, span_start, span_end) VALUES (?, ?, ?, ?, ?)",
                [
                    (identity, catalog.label_id(run.tenant_id, mark.label), each.weight, mark.start, mark.end)
                    for identity, taught in labels.items()
                    for each in taught
                    for mark in (each.mark,)
                ],
            )

    def count(self) -> int:
        """Staged passages."""
        rows = self._catalog.query("SELECT count(*) FROM relabels WHERE scope_id = ?", (self._run.scope_id,))
        return int(rows[0][0])

    def labels(self, passage_ids: Sequence[int]) -> dict[int, list[tuple[Label, float]]]:
        """{passage id: its staged labels and weights} of those that have staged ones, perhaps none at all."""
        found: dict[int, list[tuple[Label, float]]] = {}
        for low in range(0, len(passage_ids), 500):
            part = list(passage_ids[low : low + 500])
            rows = self._catalog.query(
                "SELECT relabels.passage_id, kind, name, weight FROM relabels "
                "LEFT JOIN relabel_labels ON relabel_labels.passage_id = relabels.passage_id "
                "LEFT JOIN labels ON labels.label_id = relabel_labels.label_id "
                f"WHERE relabels.tenant_id = ? AND relabels.passage_id IN ({marks(part)})",
                (self._run.tenant_id, *part),
            )
            for identity, kind, name, weight in rows:
                known = found.setdefault(identity, [])
                if kind is not None:
                    known.append((Label(kind, name), weight))
        return found
