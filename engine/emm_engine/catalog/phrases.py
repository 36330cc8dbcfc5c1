"""The phrases that a tenant's domain chooses its keyphrases from, kept so that every ingest chooses alike.

Purpose: counted once over a sample, counted anew when the domain has outgrown it. Invariants: replaced in one
transaction; what pairs were taught stays with them (`pair_labels`), whatever is counted later.
"""

from __future__ import annotations

from emm_engine.catalog.material import materials
from emm_engine.catalog.store import Catalog, Run
from emm_engine.extraction.keyphrases import PhraseModel

SAMPLE = 6000  # passages that are counted
OUTGROWN_RATIO = 4
_TOTAL = ""  # the row that holds the size of the sample


def n_counted(catalog: Catalog, tenant_id: int, domain: str) -> int:
    """Over how many passages a domain's phrases were counted last; 0 = never."""
    rows = catalog.query(
        "SELECT n_passages FROM phrases WHERE tenant_id = ? AND domain = ? AND phrase = ?", (tenant_id, domain, _TOTAL)
    )
    return int(rows[0][0]) if rows else 0


def phrase_model(catalog: Catalog, run: Run) -> PhraseModel:
    """The phrases of a run's domain, counted now where they were never, or over too few passages."""
    where = (run.tenant_id, run.scope.domain)
    (n_held,) = catalog.query(
        "SELECT count(*) FROM passages JOIN scopes USING(scope_id) WHERE passages.tenant_id = ? AND domain = ?", where
    )[0]
    rows: dict[str, int] = dict(
        catalog.query("SELECT phrase, n_passages FROM phrases WHERE tenant_id = ? AND domain = ?", where)
    )
    n_counted = rows.pop(_TOTAL, 0)
    if n_counted and n_counted * OUTGROWN_RATIO > min(n_held, SAMPLE):
        return PhraseModel(n_counted, rows)
    ids = catalog.sample_ids(*where, SAMPLE)
    model = PhraseModel.of(passage.text for passage in materials(catalog, run.tenant_id, ids))
    with catalog.transaction():
        catalog.executemany("DELETE FROM phrases WHERE tenant_id = ? AND domain = ?", [where])
        catalog.executemany(
            "INSERT INTO phrases(tenant_id, domain, phrase, n_passages) VALUES (?, ?, ?, ?)",
            [(*where, phrase, count) for phrase, count in [(_TOTAL, model.n_passages), *model.counts.items()]],
        )
    return model
