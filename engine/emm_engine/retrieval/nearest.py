"""Vector recall: the passages whose vectors lie nearest to a question's.

Purpose: the nearest visible passages of a roster over the namespaces of its runs, and exact cosines of any others.
Invariants: before the first answer from a version of the catalog every passage has its vector, embedded again where the
store lacks it, so damage and lag cost time and change nothing; only where embedding takes long (a service, a network) a
question does not wait for it, and the answer says how many have none; whatever a filter leaves out takes no place among
the nearest; order is (score descending, id ascending).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emm_engine.catalog.roster import Mask, Places, Roster
from emm_engine.catalog.store import Catalog, Run
from emm_engine.embeddings.provider import Embedder, Float32Array
from emm_engine.vectors.store import Ids, VectorStore

COSINE_MIN = 1e-4  # what lies below it is rounding, not likeness
SPARSE_SHARE = 0.5  # of a run's passages: where a filter leaves fewer, the store is told which
SPARE = 1.25  # how many more than the filter's share are asked for where it is not told

Scores = npt.NDArray[np.float32]
Version = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Nearest:
    """The passages that lie nearest to a question, best first."""

    places: Places  # in a roster
    cosines: Scores


@dataclass(frozen=True, slots=True)
class _Checked:
    """What was found of a namespace."""

    version: Version | None  # of the catalog then
    last: int  # the newest passage looked at
    n_missing: int


NOBODY = Nearest(np.zeros(0, np.int64), np.zeros(0, np.float32))


class VectorRecall:
    """Asks the vector stores of an archive."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._read_at: dict[str, Version] = {}  # by embedder: the catalog's version when its store was last read afresh
        self._checked: dict[tuple[str, str], _Checked] = {}  # by embedder and namespace

    def make_ready(self, runs: Sequence[Run], roster: Roster, embedder: Embedder, store: VectorStore) -> int:
        """Embed and hold what the store lacks; where the catalog has grown, only the new passages are looked up.

        Returns how many passages have no vector: 0 unless the embedder is too slow for a question to wait for.
        """
        n_missing = 0
        for run in runs:
            key = (embedder.fingerprint, str(run.scope))
            checked = self._checked.get(key, _Checked(None, 0, 0))
            if checked.version != roster.version:
                checked = self._check(run, roster, embedder, store, 0 if checked.n_missing else checked.last)
                self._checked[key] = checked
            n_missing += checked.n_missing
        return n_missing

    def _check(self, run: Run, roster: Roster, embedder: Embedder, store: VectorStore, last: int) -> _Checked:
        if self._read_at.get(embedder.fingerprint) != roster.version:
            store.forget_cached()
            self._read_at[embedder.fingerprint] = roster.version
        ours = roster.scope_ids == run.scope_id
        if store.count(str(run.scope)) != int(ours.sum()):  # lost, lagging or left over: look at all of them
            last = 0
        due, n_missing = ours & (roster.ids > last), 0
        if due.any():
            n_missing = self._fill(run, roster.ids[due], roster.text_hashes[due], embedder, store)
            last = int(roster.ids[due][-1])
        return _Checked(roster.version, last, n_missing)

    def _fill(self, run: Run, ids: Ids, hashes: npt.NDArray[np.uint64], embedder: Embedder, store: VectorStore) -> int:
        expected = dict(zip(ids.tolist(), hashes.tolist(), strict=True))
        missing = store.missing(str(run.scope), expected)
        if not embedder.instant:
            return len(missing)
        if len(missing):
            texts = self._catalog.texts(run.tenant_id, missing.tolist())
            digests = np.fromiter((expected[identity] for identity in texts), np.uint64, len(texts))
            rows = embedder.embed(list(texts.values()))
            store.hold(str(run.scope), np.fromiter(texts, np.int64, len(texts)), rows, digests)
        return 0

    def nearest(
        self,
        key: Float32Array,  # (dim,)
        count: int,
        runs: Sequence[Run],
        roster: Roster,
        visible: Mask,  # (n,) of the roster
        store: VectorStore,
    ) -> Nearest:
        """The `count` nearest visible passages that are alike at all."""
        found: list[tuple[float, int]] = []
        for run in runs:
            ours = roster.scope_ids == run.scope_id
            ids, scores = _search(key, count, roster, ours, ours & visible, str(run.scope), store)
            alike = scores > COSINE_MIN
            found += zip((-scores[alike].astype(np.float64)).tolist(), ids[alike].tolist(), strict=True)
        best = sorted(found)[:count]
        places, _ = roster.places(np.array([identity for _, identity in best], np.int64))
        return Nearest(places, np.array([-score for score, _ in best], np.float32))

    def cosines(
        self, key: Float32Array, runs: Sequence[Run], roster: Roster, places: Places, store: VectorStore
    ) -> Scores:
        """Exact cosines at these places, 0 where a passage's vector is zero."""
        found = np.zeros(len(places), np.float32)
        for run in runs:
            ours = roster.scope_ids[places] == run.scope_id
            if ours.any():
                found[ours] = store.scores(str(run.scope), key, roster.ids[places[ours]])
        return found


def _search(
    key: Float32Array, count: int, roster: Roster, ours: Mask, wanted: Mask, namespace: str, store: VectorStore
) -> tuple[Ids, Scores]:
    """The best of a namespace's wanted passages. Where most are wanted, a few more are asked for and sifted."""
    n_ours, n_wanted = int(ours.sum()), int(wanted.sum())
    if not n_wanted:
        return np.zeros(0, np.int64), np.zeros(0, np.float32)
    if n_wanted == n_ours:
        ids, scores = store.search(namespace, key, count)
        _, known = roster.places(ids)
        return ids[known], scores[known]
    if n_wanted >= SPARSE_SHARE * n_ours:
        ids, scores = store.search(namespace, key, int(SPARE * count * n_ours / n_wanted) + 1)
        places, known = roster.places(ids)
        known[known] = wanted[places[known]]
        if known.sum() >= min(count, n_wanted):
            return ids[known][:count], scores[known][:count]
    return store.search(namespace, key, count, roster.ids[wanted])
