"""The pairs of a run as the catalog keeps them: which are in the matrix, their keys, and their values.

Purpose: dreams work from the kept pairs, never from a matrix's own answers. Invariants: *kept* are the pairs that
the ledger says are in the matrix and that nothing has superseded, oldest first; the truth about a pair is its
staged labels where a newer extractor gave it some, else those it was written with.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from emm_engine.catalog.pairs import PairLedger
from emm_engine.catalog.relabels import Relabels
from emm_engine.catalog.store import Catalog, Run
from emm_engine.embeddings.provider import Float32Array
from emm_engine.matrices.growth import KeysOf
from emm_engine.matrices.labels import value

CHUNK: Final = 256  # pairs in one commit, and embedded together

_IN_MATRIX: Final = "scope_id = ? AND written_by IS NOT NULL AND unlearned_by IS NULL"


@dataclass(frozen=True, slots=True)
class Sorted:
    """The pairs in the matrix, as one statement saw them."""

    kept: list[int]  # current
    relabelled: list[int]  # of these, with other labels than the matrix holds for them
    stale: list[int]  # superseded
    unsettled: bool  # a batch is under way or was cut short: the ledger does not know what the matrix holds


class KeptPairs:
    """The pairs of one run."""

    def __init__(self, catalog: Catalog, run: Run, keys_of: KeysOf) -> None:
        self._catalog = catalog
        self._run = run
        self._keys_of = keys_of
        self._ledger = PairLedger(catalog, run)
        self._relabels = Relabels(catalog, run)

    def sorted(self) -> Sorted:
        """One statement, for a pair that is superseded between two would be in neither list."""
        rows = self._catalog.query(
            "SELECT pairs.passage_id, superseded, relabels.passage_id IS NOT NULL, "
            "(SELECT count(*) FROM batches WHERE scope_id = ? AND lsn IS NULL) FROM pairs "
            f"LEFT JOIN relabels ON relabels.passage_id = pairs.passage_id WHERE pairs.{_IN_MATRIX} "
            "ORDER BY pairs.passage_id",
            (self._run.scope_id, self._run.scope_id),
        )
        return Sorted(
            kept=[identity for identity, superseded, *_ in rows if not superseded],
            relabelled=[identity for identity, superseded, staged, _ in rows if staged and not superseded],
            stale=[identity for identity, superseded, *_ in rows if superseded],
            unsettled=bool(rows and rows[0][3]),
        )

    def kept(self, after: int = 0) -> list[int]:
        """In the matrix and current, beyond a passage."""
        rows = self._catalog.query(
            f"SELECT passage_id FROM pairs WHERE {_IN_MATRIX} AND superseded = 0 AND passage_id > ? "
            "ORDER BY passage_id",
            (self._run.scope_id, after),
        )
        return [row[0] for row in rows]

    def superseded(self, count: int) -> list[int]:
        """The newest pairs that were in the matrix once, or still are, and are superseded."""
        rows = self._catalog.query(
            "SELECT passage_id FROM pairs WHERE scope_id = ? AND written_by IS NOT NULL AND superseded = 1 "
            "ORDER BY passage_id DESC LIMIT ?",
            (self._run.scope_id, count),
        )
        return [row[0] for row in rows]

    def keys(self, ids: Sequence[int]) -> Float32Array:
        """(n, key_dim), as they were written."""
        return self._keys_of(self._run, ids)

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
