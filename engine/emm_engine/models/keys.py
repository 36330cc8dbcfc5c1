"""The keys of passages: read from the vector store, or embedded and stored first.

Purpose: what the matrix is written with and unlearned by is a stored vector, for a service need not give the same bits
twice: the passage's own, or, where a passage states what its key is (the conditions of an outcome), that of its key
span, which lies in a namespace beside the run's and is found by no question. Invariants: a vector is durable in the
store before anything is derived from it, portion by portion, so a try that fails half-way is not repeated; a text that
the service refuses is noted and holds nobody else up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from emm_engine.catalog.material import own_keys
from emm_engine.catalog.store import Catalog, Run
from emm_engine.catalog.waiting import WaitingList
from emm_engine.documents import text_hash
from emm_engine.embeddings.provider import Embedder, Float32Array
from emm_engine.errors import TextRefused
from emm_engine.vectors.store import VectorStore

PORTION_INSTANT, PORTION_SLOW = 2048, 64  # texts embedded and stored together

_UNSIGNED = 0xFFFF_FFFF_FFFF_FFFF

OnEmbedded = Callable[[int], None]  # how many texts more


def key_namespace(run: Run) -> str:
    """Where the vectors of a run's key spans lie."""
    return keys_beside(str(run.scope))


def keys_beside(namespace: str) -> str:
    """The namespace of key spans beside that of passages. No run is called so: no name begins with an underscore."""
    return f"{namespace}/_keys"


class KeyMaker:
    """Keys of one run's passages."""

    def __init__(self, catalog: Catalog, run: Run, embedder: Embedder, vectors: VectorStore) -> None:
        self._catalog = catalog
        self._run = run
        self._embedder = embedder
        self._vectors = vectors
        self._waiting = WaitingList(catalog, run)
        self._namespace = str(run.scope)

    def keys(self, ids: Sequence[int], hashes: dict[int, int]) -> tuple[list[int], Float32Array]:
        """(those of the ids that have a key, in the order given; their keys (n, dim)). `hashes` covers the ids."""
        self.fill({identity: hashes[identity] for identity in ids})
        found, rows = self._vectors.fetch(self._namespace, np.asarray(ids, np.int64))
        own = self.fill_stated(found.tolist())
        if not own:
            return found.tolist(), rows
        stated, stated_rows = self._vectors.fetch(key_namespace(self._run), np.array(sorted(own), np.int64))
        keys = {**dict(zip(found.tolist(), rows, strict=True)), **dict(zip(stated.tolist(), stated_rows, strict=True))}
        kept = [each for each in found.tolist() if each not in own or each in stated]
        return kept, np.stack([keys[each] for each in kept]) if kept else rows[:0]

    def fill(self, expected: dict[int, int], embedded: OnEmbedded | None = None) -> int:
        """Embed and store what the store lacks of {id: text hash}, except what was refused; how many that was."""
        return self._fill(self._namespace, expected, None, embedded)

    def fill_stated(self, ids: Sequence[int]) -> dict[int, str]:
        """{id: what its key says} of those passages that state one, embedded and stored where the store lacks them."""
        own = own_keys(self._catalog, self._run.tenant_id, ids)
        self._fill(key_namespace(self._run), {each: text_hash(own[each]) & _UNSIGNED for each in own}, own.__getitem__)
        return own

    def _fill(
        self,
        namespace: str,
        expected: dict[int, int],
        text_of: Callable[[int], str] | None,  # None: as the passages stand in the catalog
        embedded: OnEmbedded | None = None,
    ) -> int:
        refused = self._waiting.refused()
        missing = [int(at) for at in self._vectors.missing(namespace, expected) if int(at) not in refused]
        portion = PORTION_INSTANT if self._embedder.instant else PORTION_SLOW
        for low in range(0, len(missing), portion):
            part = missing[low : low + portion]
            if text_of is None:
                texts = self._catalog.texts(self._run.tenant_id, part)
            else:
                texts = {identity: text_of(identity) for identity in part}
            ids, rows = self._embed(list(texts), list(texts.values()))
            if ids:
                digests = np.fromiter((expected[identity] for identity in ids), np.uint64, len(ids))
                self._vectors.add(namespace, np.asarray(ids, np.int64), rows, digests)
            if embedded is not None:
                embedded(len(texts))
        return len(missing)

    def _embed(self, ids: list[int], texts: list[str]) -> tuple[list[int], Float32Array]:
        """Halves what is refused until the text that is to blame stands alone."""
        try:
            return ids, self._embedder.embed(texts)
        except TextRefused as error:
            if len(ids) == 1:
                self._waiting.refuse(ids[0], str(error))
                return [], np.zeros((0, self._embedder.dim), np.float32)
        middle = len(ids) // 2
        first, last = self._embed(ids[:middle], texts[:middle]), self._embed(ids[middle:], texts[middle:])
        return first[0] + last[0], np.concatenate([first[1], last[1]])
