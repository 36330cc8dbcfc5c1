"""What a vector store is: the interface before exact search, Annoy segments and pgvector.

Purpose: retrieval and associations talk to this and to nothing behind it. Invariants: a namespace is one run
of one tenant, never shared; results are ordered by (score descending, id ascending) with scores computed from
the stored float32 vectors, so any implementation gives the same answer for what it finds; the store is derived
data: it can be rebuilt from the catalog, and damage to it may cost speed, never an answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from emm_engine.embeddings.provider import Float32Array

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RecallReport:
    """How much of exact search's first ten an index finds in a namespace."""

    recall: float | None  # of this handle's checks; before the first, as measured at its building; None: not yet known
    n_checked: int  # queries of this handle that were answered both ways
    search_k: int | None  # what the index is searched with; None where every search is exact


class VectorStore(Protocol):
    """Vectors by id, in namespaces. `namespace` is a scope's text form."""

    def add(self, namespace: str, ids: Ids, vectors: Float32Array, text_hashes: npt.NDArray[np.uint64]) -> None:
        """Add (n, dim) vectors under (n,) ids, replacing those ids' older vectors; durable when it returns.

        A vector has length one, or zero for a text that the embedder knows nothing of.
        """
        ...

    def search(
        self, namespace: str, query: Float32Array, k: int, allowed: Ids | None = None
    ) -> tuple[Ids, Float32Array]:
        """The k best ids (of `allowed`, when given, sorted) and their scores: dot products with `query` (dim,)."""
        ...

    def scores(self, namespace: str, query: Float32Array, ids: Ids) -> Float32Array:
        """Exact scores of these ids; 0 for an id without a vector."""
        ...

    def remove(self, namespace: str, ids: Ids) -> None:
        """Forget these ids; durable when it returns; unknown ids are ignored."""
        ...

    def fetch(self, namespace: str, ids: Ids) -> tuple[Ids, Float32Array]:
        """Those of the ids that have a vector, in the order given, and their vectors (n, dim)."""
        ...

    def count(self, namespace: str) -> int:
        """How many ids have a vector."""
        ...

    def missing(self, namespace: str, expected: Mapping[int, int]) -> Ids:
        """Of the expected {id: text hash}, the ids without a vector of that very text, ascending."""
        ...

    def hold(self, namespace: str, ids: Ids, vectors: Float32Array, text_hashes: npt.NDArray[np.uint64]) -> None:
        """Add vectors in memory only: how a reader answers in full over a damaged or lagging store."""
        ...

    def rename(self, namespace: str, into: str) -> None:
        """Give a namespace another name, in place of whatever has that one; done again, it changes nothing."""
        ...

    def forget_cached(self) -> None:
        """Read the store afresh at its next use: another process may have written."""
        ...

    def close(self) -> None:
        """Give back what this handle holds of the system; it must not be used afterwards."""
        ...

    def compact(self, namespace: str) -> None:
        """Write the namespace anew: no file of the store holds a removed or replaced vector when it returns."""
        ...

    def drop(self, namespace: str) -> None:
        """Forget a namespace: nothing of it is left when it returns. Done again after a death, it ends the work."""
        ...

    def maintain(self, namespace: str) -> list[str]:
        """Check what is derived from a namespace's vectors, mend it and put it in order; what was done, in words."""
        ...

    def recall(self, namespace: str) -> RecallReport:
        """What the recall guard knows of this namespace."""
        ...
