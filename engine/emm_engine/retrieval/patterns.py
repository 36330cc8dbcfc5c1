"""What the matrices associate with a question, and the documents behind it.

Purpose: recall from the memories of a scope, decode to labels, find for each label the passages that carry it and lie
nearest. Invariants: an association is about everything that the memories absorbed, whatever an answer is filtered by,
so a filtered question gets none; the strongest documents are exact where the nearest passages hold enough of them, or
where no more than `CARRIERS_MAX` passages carry the label; else the newest of those are looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

import emm
from emm_engine.catalog.pairs import PairLedger
from emm_engine.catalog.pairs import Progress as PairProgress
from emm_engine.catalog.roster import Roster
from emm_engine.catalog.search import CatalogReader
from emm_engine.catalog.store import Catalog, Run
from emm_engine.documents import Label
from emm_engine.embeddings.provider import Float32Array
from emm_engine.hierarchy import Scope
from emm_engine.matrices.consult import Consulting
from emm_engine.matrices.packed import packed
from emm_engine.retrieval.answer import Association, Evidence
from emm_engine.retrieval.associations import Candidates, Strength
from emm_engine.retrieval.nearest import Nearest, VectorRecall
from emm_engine.retrieval.quoting import place_of
from emm_engine.vectors.store import VectorStore

LABEL_SUPPORT_MIN = 2  # a label of one passage is no pattern
EVIDENCE = 3
NEAREST = 400  # passages among which the carriers of a label are looked for first,
AMONG = 100  # so many at a time
CARRIERS_MAX = 2048  # that are looked at where those hold too few

Version = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Standing:
    """What the matrices of a scope hold, and what waits for them."""

    version: Version
    absorbed: int
    pending: int
    lsns: tuple[int, ...]  # of each run


class Patterns:
    """Knows what the memories of a scope may name, and finds the documents behind it."""

    def __init__(self, catalog: Catalog, consulting: Consulting, vectors: VectorRecall) -> None:
        self._catalog = catalog
        self._consulting = consulting
        self._vectors = vectors
        self._standings: dict[tuple[int, ...], Standing] = {}
        self._candidates: dict[tuple[int, ...], tuple[tuple[int, ...], Candidates]] = {}  # with the LSNs they are of

    def standing(self, runs: Sequence[Run]) -> Standing:
        """Read again when the catalog has changed: it counts the pairs of every run."""
        key, version = tuple(run.scope_id for run in runs), self._catalog.version()
        held = self._standings.get(key)
        if held is None or held.version != version:
            found: list[PairProgress] = [PairLedger(self._catalog, run).progress() for run in runs]
            held = Standing(
                version,
                sum(each.absorbed for each in found),
                sum(each.pending for each in found),
                tuple(each.lsn for each in found),
            )
            self._standings[key] = held
        return held

    def memories(self, scope: Scope) -> list[emm.Memory]:
        """The memories to ask; none before anything was absorbed."""
        return self._consulting.memories(scope)

    def candidates(self, runs: Sequence[Run], reader: CatalogReader, memories: Sequence[emm.Memory]) -> Candidates:
        """The labels that the memories may know; counted again when a memory has changed."""
        key, lsns = tuple(run.scope_id for run in runs), self.standing(runs).lsns
        held = self._candidates.get(key)
        if held is None or held[0] != lsns:
            counted = reader.matrix_labels(LABEL_SUPPORT_MIN)
            labels, counts = [label for label, _ in counted], [count for _, count in counted]
            n_pairs = max(self.standing(runs).absorbed, 1)
            codes = packed(labels, memories[0].dim)
            held = (lsns, Candidates(labels, codes, counts, [count / n_pairs for count in counts]))
            self._candidates[key] = held
        return held[1]

    def associations(
        self,
        found: Sequence[Strength],
        key: Float32Array,  # (dim,) of the question
        runs: Sequence[Run],
        roster: Roster,
        nearest: Nearest,
        reader: CatalogReader,
        store: VectorStore,
    ) -> list[Association]:
        """What was decoded, each with its strongest documents."""
        ranked = list(zip(roster.ids[nearest.places].tolist(), nearest.cosines.tolist(), strict=True))
        behind: dict[Label, list[tuple[int, float]]] = {item.label: [] for item in found}
        for low in range(0, len(ranked), AMONG):  # the nearest of the nearest are nearly always enough
            wanted = [label for label, chosen in behind.items() if len(chosen) < EVIDENCE]
            part = ranked[low : low + AMONG]
            carriers = reader.carriers_among(wanted, [identity for identity, _ in part])
            for label in wanted:
                more = [item for item in part if item[0] in carriers[label]]
                behind[label] = _of_different_documents(roster, [*behind[label], *more])
        for label, chosen in behind.items():
            if len(chosen) < EVIDENCE:
                behind[label] = self._further(label, key, runs, roster, reader, store)
        quotes = reader.quotes(sorted({identity for chosen in behind.values() for identity, _ in chosen}))
        return [
            Association(
                item.label.kind,
                item.label.name,
                item.strength,
                item.base,
                item.n_pairs,
                tuple(
                    Evidence(**place_of(quotes[identity]), score=score, number=0)
                    for identity, score in behind[item.label]
                    if identity in quotes
                ),
            )
            for item in found
        ]

    def _further(
        self,
        label: Label,
        key: Float32Array,
        runs: Sequence[Run],
        roster: Roster,
        reader: CatalogReader,
        store: VectorStore,
    ) -> list[tuple[int, float]]:
        """The nearest carriers of a label that hardly any of the nearest passages carries."""
        places, known = roster.places(np.array(reader.newest_carriers(label, CARRIERS_MAX), np.int64))
        places = places[known]
        places = places[~roster.hidden[places]]
        cosines = self._vectors.cosines(key, runs, roster, places, store)
        order = np.lexsort((roster.ids[places], -cosines))
        ranked = zip(roster.ids[places][order].tolist(), cosines[order].tolist(), strict=True)
        return _of_different_documents(roster, list(ranked))


def _of_different_documents(roster: Roster, ranked: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """The first passage of each of the first documents."""
    chosen: dict[int, tuple[int, float]] = {}
    ids = np.array([identity for identity, _ in ranked], np.int64)
    places, _ = roster.places(ids)
    for item, document in zip(ranked, roster.document_ids[places].tolist(), strict=True):
        if len(chosen) < EVIDENCE:
            chosen.setdefault(document, item)
    return list(chosen.values())
