"""Annoy over the rows of a segment: built alike everywhere, checked before it is loaded.

Purpose: a disposable cache that proposes rows; exact scores decide. The one module that imports annoy. Invariants: a
file is hashed as a whole and every node's references are checked before Annoy maps that very file (a flipped bit in
it ends the process, a crafted one reads where it likes); a build has one job and a fixed seed; Annoy orders by
angle, so each row gets one number more that makes all rows equally long, and the order becomes that of dot products.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from annoy import AnnoyIndex

from emm_engine.embeddings.provider import Float32Array
from emm_engine.vectors.ranking import ROUGH_ERROR, SCAN_ROWS, Places

SEED: Final = 0xE33
METRIC: Final = "angular"
HEAD: Final = 3  # 32-bit words of a node before its vector: how many items lie below it, and two children
READ_BYTES: Final = 4 << 20  # at a time, about
RECALL_WANTED: Final = 0.98
RECALL_AIM: Final = 0.985  # when an index is measured on its own rows, which are easier than questions
SAMPLE: Final = 64  # queries of that measurement
K: Final = 10
SEARCH_K_MIN: Final = 512
WORTH: Final = 3  # an index that looks at more than one row in so many is no faster than looking at all


@dataclass(frozen=True, slots=True)
class IndexFacts:
    """What a manifest says of an index."""

    trees: int
    seed: int
    metric: str
    search_k: int  # with which it finds what is wanted
    recall: float  # of ten, measured with that


class Index:
    """A loaded index of n rows."""

    def __init__(self, annoy: AnnoyIndex) -> None:
        self._annoy = annoy

    def near(self, query: Float32Array, want: int, search_k: int) -> Places:
        """The places of about `want` rows with the largest dot products, in no promised order."""
        found = self._annoy.get_nns_by_vector([*query.tolist(), 0.0], want, search_k)
        return np.asarray(found, np.intp)


def build(vectors: Float32Array, path: Path, trees: int) -> IndexFacts | None:
    """Index (n, dim) vectors into a new file, and measure it; None, and no file, where exact search is as fast."""
    n, dim = vectors.shape
    annoy = AnnoyIndex(dim + 1, METRIC)
    annoy.set_seed(SEED)
    annoy.on_disk_build(str(path))
    lengths = np.concatenate([np.einsum("ij,ij->i", b, b, dtype=np.float64) for b in _blocks(vectors)])
    rest = np.sqrt(np.maximum(lengths.max() - lengths, 0.0))
    for place in range(n):
        annoy.add_item(place, [*vectors[place].tolist(), float(rest[place])])
    annoy.build(trees, n_jobs=1)
    measured = measure(Index(annoy), vectors)
    annoy.unload()
    if measured is None:
        path.unlink()
        return None
    return IndexFacts(trees, SEED, METRIC, *measured)


def load(path: Path, n_bytes: int, sha256: str, n_rows: int, dim: int) -> Index | None:
    """The index, when the file is byte for byte the one that was built; else None."""
    node_bytes = 4 * (HEAD + dim + 1)
    with contextlib.ExitStack() as stack:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        stack.callback(os.close, descriptor)
        if os.fstat(descriptor).st_size != n_bytes or n_bytes % node_bytes or n_bytes // node_bytes <= n_rows:
            return None
        digest, first = hashlib.sha256(), 0
        step = max(READ_BYTES // node_bytes, 1)
        while part := os.pread(descriptor, step * node_bytes, first * node_bytes):
            if len(part) % node_bytes or not _nodes_are_sound(part, node_bytes, first, n_rows):
                return None
            digest.update(part)
            first += len(part) // node_bytes
        if digest.hexdigest() != sha256 or first * node_bytes != n_bytes:
            return None
        annoy = AnnoyIndex(dim + 1, METRIC)
        try:
            annoy.load(f"/proc/self/fd/{descriptor}")  # that very file, whatever the name means by now
        except OSError:
            return None
        return Index(annoy) if annoy.get_n_items() == n_rows else None


def _nodes_are_sound(part: bytes, node_bytes: int, first: int, n_rows: int) -> bool:
    """Whether the nodes from number `first` on refer to nodes before themselves alone, so that a search ends."""
    words = np.frombuffer(part, "<i4").reshape(-1, node_bytes // 4)
    numbers = np.arange(first, first + len(words))
    items = numbers < n_rows
    below = words[:, 0]
    if not (below[items] == 1).all():
        return False
    listed_max = node_bytes // 4 - 1
    trees = words[~items]
    counts, own = below[~items], numbers[~items]
    if not (counts >= 1).all():
        return False
    lists = counts <= listed_max
    used = np.where(lists, counts, 2)
    for width in np.unique(used).tolist():
        rows = used == width
        children = trees[rows, 1 : 1 + width]
        if (children < 0).any() or (children >= own[rows, None]).any():
            return False
    return True


def measure(index: Index, vectors: Float32Array) -> tuple[int, float] | None:
    """(the least search_k of a doubling series that finds what is wanted, its recall); None where exact is as fast.

    Queries are mixtures of two rows: a question lies between passages, and nearer to none than a passage to itself.
    """
    n = len(vectors)
    random = np.random.default_rng(SEED)
    weights = random.uniform(0.3, 0.7, (SAMPLE, 1)).astype(np.float32)
    queries = weights * vectors[random.integers(n, size=SAMPLE)]
    queries += (1 - weights) * vectors[random.integers(n, size=SAMPLE)]
    top = np.full((K, SAMPLE), -np.inf, np.float32)
    for block in _blocks(vectors):
        top = np.partition(np.concatenate([top, block @ queries.T]), -K, axis=0)[-K:]
    floors = top.min(axis=0) - ROUGH_ERROR
    search_k = SEARCH_K_MIN
    while search_k * WORTH <= n:
        hits = 0
        for query, floor in zip(queries, floors, strict=True):
            hits += min(int((vectors[index.near(query, 2 * K, search_k)] @ query >= floor).sum()), K)
        if hits >= RECALL_AIM * K * SAMPLE:
            return search_k, hits / (K * SAMPLE)
        search_k *= 2
    return None


def _blocks(vectors: Float32Array) -> list[npt.NDArray[np.float32]]:
    return [vectors[low : low + SCAN_ROWS] for low in range(0, len(vectors), SCAN_ROWS)]
