"""The pairs of a run as the catalog keeps them: which are in the matrix, their keys, and their values.

Purpose: dreams work from the kept pairs, never from a matrix's own answers. Invariants: *kept* are the pairs that
the ledger says are in the matrix and that nothing has superseded, oldest first; the truth about a pair is its
staged labels where a newer extractor gave it some, else those it was written with.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from emm_engine.catalog.material import materials, pair_keys
from emm_engine.catalog.pairs import PairLedger
from emm_engine.catalog.relabels import Relabels
from emm_engine.catalog.store import Catalog, Run
from emm_engine.embeddings.provider import Embedder, Float32Array
from emm_engine.matrices.labels import value

CHUNK: Final = 256  # pairs in one commit, and embedded together

_IN_MATRIX: Final = "scope_id = ? AND written_by IS NOT NULL AND unlearned_by IS NULL"


class KeptPairs:
    """The pairs of one run."""

    def __init__(self, catalog: Catalog, run: Run, embedder: Embedder) -> None:
        self._catalog = catalog
        self._run = run
        self._embedder = embedder
        self._ledger = PairLedger(catalog, run)
        self._relabels = Relabels(catalog, run)

    def kept(self, after: int = 0) -> list[int]:
        """In the matrix and current; those after a passage, when given."""
        return self._ids(f"{_IN_MATRIX} AND superseded = 0 AND passage_id > ?", after)

    def stale(self) -> list[int]:
        """In the matrix although superseded."""
        return self._ids(f"{_IN_MATRIX} AND superseded = 1")

    def relabelled(self) -> list[int]:
        """Kept, with other labels than the matrix holds for them."""
        return self._ids(
            f"{_IN_MATRIX} AND superseded = 0 AND passage_id IN (SELECT passage_id FROM relabels WHERE scope_id = ?)",
            self._run.scope_id,
        )

    def superseded(self, count: int) -> list[int]:
        """The newest pairs that were in the matrix once, or still are, and are superseded."""
        rows = self._catalog.query(
            "SELECT passage_id FROM pairs WHERE scope_id = ? AND written_by IS NOT NULL AND superseded = 1 "
            "ORDER BY passage_id DESC LIMIT ?",
            (self._run.scope_id, count),
        )
        return [row[0] for row in rows]

    def _ids(self, where: str, *parameters: int) -> list[int]:
        rows = self._catalog.query(
            f"SELECT passage_id FROM pairs WHERE {where} ORDER BY passage_id", (self._run.scope_id, *parameters)
        )
        return [row[0] for row in rows]

    def keys(self, ids: Sequence[int]) -> Float32Array:
        """(n, key_dim), as they were written."""
        return pair_keys(self._embedder, materials(self._catalog, self._run.tenant_id, ids))

    def written(self, ids: Sequence[int], dim: int) -> Float32Array:
        """(n, dim): the values that the matrix was given."""
        labels = self._ledger.kept(ids)
        return np.stack([value(labels[identity], dim) for identity in ids])

    def true(self, ids: Sequence[int], dim: int) -> Float32Array:
        """(n, dim): the values that the matrix should hold."""
        labels = self._ledger.kept(ids) | self._relabels.labels(ids)
        return np.stack([value(labels[identity], dim) for identity in ids])


def chunks(ids: Sequence[int], size: int = CHUNK) -> Iterator[list[int]]:
    for low in range(0, len(ids), size):
        yield list(ids[low : low + size])
