"""One contender of `emm bench vectors` in a process of its own: lives through the churn, or answers afterwards.

Purpose: memory and latency of a store are those of a process that does nothing else. Every contender gets the same
vectors, the same additions, deletions and replacements, and the same questions. Invariants: recall is counted against
brute force over what is alive; what the process needed before it opened the store is not counted as the store's.

    python -m emm_tools.vectors_churn '{"contender": "segments", "phase": "churn", …}'
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]

K: Final = 10
BATCH: Final = 2000
TURNS: Final = 10  # of replacing and deleting
WARM: Final = 40  # questions before the clock counts
CLUSTERS: Final = 400
LARGE_SHARE: Final = 0.6  # of all vectors in the first namespace; the others share the rest
DELETED: Final = 0.5
REPLACED: Final = 0.2
EF_SEARCH: Final = 100
EF_CONSTRUCTION: Final = 200
M: Final = 16


@dataclass(frozen=True, slots=True)
class Workload:
    """What every contender lives through."""

    n: int
    dim: int
    n_namespaces: int
    n_queries: int
    seed: int
    vectors: str = ""  # an .npy file instead of made-up vectors

    def rows(self) -> Vectors:
        """(n + replacements + queries, dim) unit vectors."""
        n = self.n + int(self.n * REPLACED) + self.n_queries
        if self.vectors:
            rows = np.load(self.vectors, mmap_mode="r", allow_pickle=False)[:n].astype(np.float32)
        else:
            rows = made_up(n, self.dim, self.seed)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        return np.ascontiguousarray(rows / np.where(lengths > 0, lengths, 1), np.float32)

    def sizes(self) -> list[int]:
        rest = self.n_namespaces - 1
        large = int(self.n * LARGE_SHARE) if rest else self.n
        return [large, *((self.n - large) // rest for _ in range(rest))]


def made_up(n: int, dim: int, seed: int) -> Vectors:
    """Topics, each in a subspace of its own of about 30 dimensions, as sentence embeddings have them."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((CLUSTERS, dim)).astype(np.float32)
    bases = random.standard_normal((CLUSTERS, 30, dim)).astype(np.float32) / np.sqrt(30)
    topics = random.integers(CLUSTERS, size=n)
    rows = np.empty((n, dim), np.float32)
    for topic in range(CLUSTERS):
        mine = np.flatnonzero(topics == topic)
        rows[mine] = centres[topic] + random.standard_normal((len(mine), 30)).astype(np.float32) @ bases[topic]
    return rows + 0.3 * random.standard_normal((n, dim)).astype(np.float32)


class Contender(Protocol):
    def add(self, namespace: int, ids: Ids, rows: Vectors) -> None: ...

    def remove(self, namespace: int, ids: Ids) -> None: ...

    def settle(self) -> None:
        """All that goes on in the background is done, and everything is on disk."""
        ...

    def search(self, namespace: int, query: Vectors) -> Ids: ...

    def notes(self) -> dict[str, Any]: ...


class Ours:
    """A `VectorStore` of the engine."""

    def __init__(self, store: Any, n_namespaces: int) -> None:
        self._store = store
        self._n_namespaces = n_namespaces

    @staticmethod
    def name(namespace: int) -> str:
        return f"bench:churn/n{namespace:02d}/run"

    def add(self, namespace: int, ids: Ids, rows: Vectors) -> None:
        self._store.add(self.name(namespace), ids, rows, ids.astype(np.uint64))

    def remove(self, namespace: int, ids: Ids) -> None:
        self._store.remove(self.name(namespace), ids)

    def settle(self) -> None:
        wait = getattr(self._store, "wait", None)
        if wait is not None:
            wait()
            for namespace in range(self._n_namespaces):
                self._store.maintain(self.name(namespace))

    def search(self, namespace: int, query: Vectors) -> Ids:
        found: Ids = self._store.search(self.name(namespace), query, K)[0]
        return found

    def notes(self) -> dict[str, Any]:
        return {"guard": asdict(self._store.recall(self.name(0)))}


class Hnsw:
    """hnswlib: an index for each namespace, or one for all of them that is filtered afterwards."""

    def __init__(self, kind: Any, folder: Path, workload: Workload, shared: bool, load: bool) -> None:
        self._folder, self._shared = folder, shared
        sizes = [workload.n] if shared else workload.sizes()
        self._indexes = []
        for number, size in enumerate(sizes):
            index = kind(space="ip", dim=workload.dim)
            if load:
                index.load_index(str(folder / f"{number}.hnsw"))
            else:
                index.init_index(size, M=M, ef_construction=EF_CONSTRUCTION, random_seed=workload.seed)
            index.set_num_threads(1)
            index.set_ef(EF_SEARCH)
            self._indexes.append(index)
        self._bounds = np.cumsum([0, *workload.sizes()])

    def add(self, namespace: int, ids: Ids, rows: Vectors) -> None:
        self._indexes[0 if self._shared else namespace].add_items(rows, ids)

    def remove(self, namespace: int, ids: Ids) -> None:
        index = self._indexes[0 if self._shared else namespace]
        for identity in ids.tolist():
            index.mark_deleted(identity)

    def settle(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        for number, index in enumerate(self._indexes):
            index.save_index(str(self._folder / f"{number}.hnsw"))

    def search(self, namespace: int, query: Vectors) -> Ids:
        index = self._indexes[0 if self._shared else namespace]
        found: Ids = index.knn_query(query[None], k=EF_SEARCH if self._shared else K)[0][0].astype(np.int64)
        if self._shared:
            low, high = self._bounds[namespace], self._bounds[namespace + 1]
            found = found[(found >= low) & (found < high)][:K]
        return found

    def notes(self) -> dict[str, Any]:
        return {}


def contender(name: str, folder: Path, workload: Workload, load: bool) -> Callable[[], Contender]:
    """What opens it; everything that has to be imported is."""
    if name in ("segments", "exact"):
        from emm_engine.vectors.exact import ExactVectors
        from emm_engine.vectors.segmented import SegmentedVectors

        kind = ExactVectors if name == "exact" else SegmentedVectors
        return lambda: Ours(kind(folder, workload.dim, "00" * 32), workload.n_namespaces)
    import hnswlib

    return lambda: Hnsw(hnswlib.Index, folder, workload, shared=name == "hnswlib shared", load=load)


@dataclass(slots=True)
class Life:
    """Who is alive, with which row."""

    workload: Workload
    rows: Vectors
    row_of: npt.NDArray[np.int64]  # (n,) of each id; -1 for the deleted
    bounds: npt.NDArray[np.int64]

    @classmethod
    def of(cls, workload: Workload) -> Life:
        return cls(workload, workload.rows(), np.arange(workload.n), np.cumsum([0, *workload.sizes()]))

    def steps(self) -> Iterator[tuple[str, int, Ids, Vectors]]:
        """Additions, then replacements and deletions in turn, a batch at a time."""
        ids = np.arange(self.bounds[-1])
        for namespace, mine in self._by_namespace(ids):
            yield "add", namespace, mine, self.rows[mine]
        drawn = np.random.default_rng(self.workload.seed + 1).permutation(ids)
        doomed, replaced = np.split(drawn[: int(len(ids) * (DELETED + REPLACED))], [int(len(ids) * DELETED)])
        self.row_of[replaced] = self.workload.n + np.arange(len(replaced))
        for turn in range(TURNS):
            for namespace, mine in self._by_namespace(np.sort(replaced[turn::TURNS])):
                yield "replace", namespace, mine, self.rows[self.row_of[mine]]
            for namespace, mine in self._by_namespace(np.sort(doomed[turn::TURNS])):
                yield "remove", namespace, mine, self.rows[:0]
        self.row_of[doomed] = -1

    def _by_namespace(self, ids: Ids) -> Iterator[tuple[int, Ids]]:
        """These ids, which ascend, in batches of one namespace each."""
        for namespace, mine in enumerate(np.split(ids, np.searchsorted(ids, self.bounds[1:-1]))):
            for low in range(0, len(mine), BATCH):
                yield namespace, mine[low : low + BATCH]

    def alive(self, namespace: int) -> Ids:
        ids = np.arange(self.bounds[namespace], self.bounds[namespace + 1])
        return ids[self.row_of[ids] >= 0]

    def questions(self) -> Iterator[tuple[int, Vectors, Ids]]:
        """(namespace, query, the right answer): half of them to the large namespace."""
        first = self.workload.n + int(self.workload.n * REPLACED)
        truth = {each: self.alive(each) for each in range(self.workload.n_namespaces)}
        kept = {each: self.rows[self.row_of[ids]] for each, ids in truth.items()}
        for number in range(self.workload.n_queries):
            namespace = 0 if number % 2 else number // 2 % self.workload.n_namespaces
            query = self.rows[first + number]
            scores = kept[namespace] @ query
            yield namespace, query, truth[namespace][np.argsort(-scores)[:K]]


def churn(name: str, folder: Path, workload: Workload) -> dict[str, Any]:
    """Live it; seconds of the three kinds of acts."""
    store, life = contender(name, folder, workload, load=False)(), Life.of(workload)
    seconds: dict[str, float] = {"add": 0.0, "replace": 0.0, "remove": 0.0}
    for word, namespace, ids, rows in life.steps():
        started = time.perf_counter()
        if word == "remove":
            store.remove(namespace, ids)
        else:
            store.add(namespace, ids, rows)
        seconds[word] += time.perf_counter() - started
    started = time.perf_counter()
    store.settle()
    seconds["settle"] = time.perf_counter() - started
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {"seconds": seconds, "disk_bytes": size}


def ask(name: str, folder: Path, workload: Workload) -> dict[str, Any]:
    """Open what is there and answer the questions."""
    life = Life.of(workload)
    for _ in life.steps():
        pass
    questions = list(life.questions())
    opening = contender(name, folder, workload, load=True)
    before = resident()
    started = time.perf_counter()
    store = opening()
    store.search(0, questions[0][1])
    opened = time.perf_counter() - started
    times, shares = list[float](), {True: list[float](), False: list[float]()}  # of the large namespace, of the others
    for number, (namespace, query, right) in enumerate(questions):
        started = time.perf_counter()
        found = store.search(namespace, query)
        if number >= WARM:
            times.append(1000 * (time.perf_counter() - started))
        shares[namespace == 0].append(len(np.intersect1d(found, right)) / len(right))
    after = resident()
    return {
        "open_s": opened,
        "p50_ms": float(np.quantile(times, 0.5)),
        "p99_ms": float(np.quantile(times, 0.99)),
        "recall_large": float(np.mean(shares[True])),
        "recall_small": float(np.mean(shares[False])),
        "anonymous_bytes": after["RssAnon"] - before["RssAnon"],
        "mapped_bytes": after["RssFile"] - before["RssFile"],
        **store.notes(),
    }


def resident() -> dict[str, int]:
    """Bytes of this process in memory: its own, and mapped files that the system may drop."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    lines = (line.split() for line in text.splitlines() if line.startswith("Rss"))
    return {name.rstrip(":"): 1024 * int(size) for name, size, _ in lines}


def main(arguments: list[str]) -> int:
    given = json.loads(arguments[0])
    act = {"churn": churn, "ask": ask}[given["phase"]]
    print(json.dumps(act(given["contender"], Path(given["folder"]), Workload(**given["workload"]))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
