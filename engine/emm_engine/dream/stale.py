"""Stale answers: does a memory still name what only superseded versions said?

Purpose: the measure that must be 0 after a dream. Invariants: a question is the text of a superseded passage; an
answer is stale when the memory, so asked, recalls a label that no current pair of the run carries, above what the
codes of other labels give by chance (all questions together name one falsely with a probability below 10⁻⁴).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Final

import numpy as np

import emm
from emm_engine.catalog.store import Catalog, Run, marks
from emm_engine.documents import Label
from emm_engine.dream.kept import KeptPairs
from emm_engine.matrices.labels import codes
from emm_engine.retrieval.associations import STRENGTH_MIN

QUESTIONS_MAX: Final = 256
_FALSE_ALARM: Final = 1e-4


def only_stale(catalog: Catalog, run: Run, ids: Sequence[int]) -> dict[int, list[Label]]:
    """{superseded passage: its labels that no current pair in the matrix carries}, of those that have any."""
    found: dict[int, list[Label]] = {}
    for low in range(0, len(ids), 200):
        part = list(ids[low : low + 200])
        rows = catalog.query(
            "SELECT former.passage_id, kind, name FROM pair_labels AS former "
            "JOIN labels ON labels.label_id = former.label_id "
            f"WHERE labels.tenant_id = ? AND former.passage_id IN ({marks(part)}) AND NOT EXISTS "
            "(SELECT 1 FROM pair_labels AS other JOIN pairs ON pairs.passage_id = other.passage_id "
            "WHERE other.label_id = former.label_id AND pairs.scope_id = ? AND superseded = 0 "
            "AND unlearned_by IS NULL)",
            (run.tenant_id, *part, run.scope_id),
        )
        for identity, kind, name in rows:
            found.setdefault(identity, []).append(Label(kind, name))
    return found


def stale_answers(memory: emm.Memory, pairs: KeptPairs, catalog: Catalog, run: Run) -> tuple[int, int]:
    """(stale answers, questions asked) over the newest superseded passages."""
    asked = only_stale(catalog, run, pairs.superseded(QUESTIONS_MAX))
    if not asked:
        return 0, 0
    ids = sorted(asked)
    recalled = memory.recall(pairs.keys(ids)).astype(np.float64)
    n_tests = sum(map(len, asked.values()))
    deviations = NormalDist().inv_cdf(1.0 - _FALSE_ALARM / n_tests)
    n_stale = 0
    for row, identity in enumerate(ids):
        products = codes(asked[identity], memory.dim).astype(np.float64) @ recalled[row]
        chance = float(np.linalg.norm(recalled[row])) / math.sqrt(memory.dim) * deviations
        n_stale += bool(products.max() > max(chance, STRENGTH_MIN))
    return n_stale, len(ids)
