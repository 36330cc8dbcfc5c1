"""The phase *extract*: what a newer extractor would say of the text that is kept, and what contradicts what.

Purpose: labels are derived data, so a better extractor must reach old text without anybody ingesting it again.
Invariants: a run is examined once for each version of the extractor and count of its phrases, in steps that survive
a kill; nothing is changed but the staging; a contradiction is reported and never resolved, for two texts that
disagree are both kept and both cited.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from emm_engine.catalog.material import materials
from emm_engine.catalog.pairs import PairLedger, Taught
from emm_engine.catalog.phrases import n_counted, phrase_model
from emm_engine.catalog.relabels import Relabels
from emm_engine.catalog.store import Catalog, Run
from emm_engine.documents import Label
from emm_engine.dream.budget import Budget
from emm_engine.dream.kept import KeptPairs, chunks
from emm_engine.ingest.pipeline import extracted
from emm_engine.matrices import labels as labelling

EXAMINED_TOGETHER: Final = 1024  # passages; one transaction
CONTRADICTIONS_NAMED: Final = 5


def extractor_of(catalog: Catalog, run: Run) -> str:
    """What labels depend on besides the text: the code's version, and the domain's phrases as last counted."""
    return f"{labelling.EXTRACTOR_VERSION}/{n_counted(catalog, run.tenant_id, run.scope.domain)}"


def reexamine(catalog: Catalog, run: Run, pairs: KeptPairs, budget: Budget, tell: Callable[[str], None]) -> int:
    """Stage the labels that differ; returns how many passages are staged. Goes on where it was stopped."""
    relabels, ledger, phrases = Relabels(catalog, run), PairLedger(catalog, run), phrase_model(catalog, run)
    extractor = extractor_of(catalog, run)
    if relabels.extractor() != extractor:
        relabels.start(extractor)
    relabels.drop_superseded()
    for part in chunks(pairs.kept(relabels.examined(extractor)), EXAMINED_TOGETHER):
        budget.check()
        found = extracted(catalog, run, materials(catalog, run.tenant_id, part), phrases)
        known = ledger.kept(part)
        relabels.stage(part[-1], {each: found[each] for each in part if weights(found[each]) != dict(known[each])})
        tell(f"examined up to passage {part[-1]}")
    return relabels.count()


def weights(taught: Sequence[Taught]) -> dict[Label, float]:
    """What a pair's value is made of."""
    return {each.mark.label: each.weight for each in taught}


def contradictions(catalog: Catalog, run: Run) -> list[tuple[int, int]]:
    """(passage, passage) of current documents of one title that give one fact different values, older first.

    One for each title and fact: the newest document against the last before it that says otherwise.
    """
    rows = catalog.query(
        "SELECT title, date, documents.document_id, passage_id, labels.name FROM documents "
        "JOIN passages ON passages.document_id = documents.document_id JOIN pair_labels USING(passage_id) "
        "JOIN labels ON labels.label_id = pair_labels.label_id "
        "WHERE documents.tenant_id = ? AND documents.scope_id = ? AND superseded = 0 AND kind = 'fact' AND title IN "
        "(SELECT title FROM documents WHERE scope_id = ? AND superseded = 0 GROUP BY title HAVING count(*) > 1) "
        "ORDER BY title, date, documents.document_id, passage_id, labels.name",
        (run.tenant_id, run.scope_id, run.scope_id),
    )
    said: dict[tuple[str, str], list[tuple[int, int, set[str]]]] = {}  # (document, its first passage with it, values)
    for title, _, document_id, passage_id, name in rows:
        fact, _, stated = name.partition(": ")
        of_fact = said.setdefault((title, fact), [])
        if not of_fact or of_fact[-1][0] != document_id:
            of_fact.append((document_id, passage_id, set()))
        of_fact[-1][2].add(stated)
    found = []
    for of_fact in said.values():
        *older, newest = of_fact
        against = next((each for each in reversed(older) if not each[2] & newest[2]), None)
        if against is not None:
            found.append((against[1], newest[1]))
    return sorted(found)
