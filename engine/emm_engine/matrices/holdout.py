"""An honest held-out test: learn the older entries, predict the labels of the newer ones.

Purpose: the demo's measurement of what the matrix is worth on the user's own text, against nearest neighbours
and against always guessing the commonest labels. Invariants: the split is by date, the embedder is fitted on the
older part alone, duplicates are dropped, nothing is tuned on the newer part in the matrix's favour (neighbours get
the best of several k, chosen on the newer part, which favours them); the winner is named whichever it is, and
nobody is where there is a tie or where matrix and neighbours are not distinguishable.
"""

from __future__ import annotations

import hashlib
import math
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

import emm
from emm import InputError
from emm_engine.documents import Document, Label
from emm_engine.embeddings.provider import Float32Array
from emm_engine.extraction.note_tables import OUTCOME
from emm_engine.matrices.labels import codes

LEARNT_SHARE = 0.7
ENTRIES_MAX = 12_000  # more are thinned at an even stride in time
ENTRIES_MIN = 10
RANK, DIM, RIDGE = 512, 768, 1.0
NEIGHBOURS = (1, 3, 5, 10, 20, 50)
PAIRS_PER_BATCH = 512
DISTINGUISHABLE_Z = 2.0  # |z| of the sign test below which matrix and neighbours count as equal
TIE, NOT_DISTINGUISHABLE = "tie", "not distinguishable"

Hits = npt.NDArray[np.bool_]  # (n, up to 3): whether each guess was right


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """A dated text and the labels to predict."""

    date: str
    text: str
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Score:
    """One predictor's shares of newer entries whose labels held its first guess, and one of its first three."""

    name: str
    parameters: str
    p_at_1: float
    p_at_3: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Paired:
    """Matrix against neighbours on the same entries: the newer ones where just one first guess was right."""

    matrix_alone: int
    neighbours_alone: int
    z: float  # sign test (McNemar 1947) in its normal approximation; above 0 for the matrix

    @classmethod
    def of(cls, matrix: npt.NDArray[np.bool_], neighbours: npt.NDArray[np.bool_]) -> Paired:
        """From (n,) first guesses that were right."""
        ours, theirs = int((matrix & ~neighbours).sum()), int((neighbours & ~matrix).sum())
        return cls(ours, theirs, (ours - theirs) / math.sqrt(max(ours + theirs, 1)))

    @property
    def distinguishable(self) -> bool:
        return abs(self.z) >= DISTINGUISHABLE_Z


@dataclass(frozen=True, slots=True)
class HoldoutReport:
    """What was learnt, what was predicted, and who won."""

    n_learnt: int
    n_predicted: int
    n_labels: int  # among the learnt entries
    n_unseen: int  # newer entries none of whose labels an older entry had: nobody can get them right
    n_dates: int  # different dates among all entries: few mean that the split is hardly one by time
    n_named: int  # newer entries whose text names a label outright
    split_date: str  # of the first newer entry
    rank: int  # shape of the held-out matrix, whatever shape an archive of these texts has
    dim: int
    scores: tuple[Score, ...]  # matrix, neighbours, prior
    paired: Paired
    winner: str  # by p_at_1, then p_at_3: a predictor's name, "tie" or "not distinguishable"
    seconds: float

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


def entries_of(documents: Iterable[Document], kind: str) -> list[Entry]:
    """Dated documents that carry labels of a kind, without their titles, which would name them."""
    found = []
    for document in documents:
        labels = tuple(label.name for label in document.labels if label.kind == kind)
        if labels and document.date:
            found.append(Entry(document.date, document.text, labels))
    return found


def entries_of_pairs(documents: Iterable[Document], column: str | None = None) -> list[Entry]:
    """Pairs conditions → outcome as entries: those of one outcome column (the first that is met, where none is named).

    In order of their dates, where all are dated; else in an order that is drawn by a hash of their place.
    """
    found: list[tuple[str, str, tuple[str, ...]]] = []
    for document in documents:
        for passage in document.passages:
            names = [mark.label.name for mark in passage.labels if mark.label.kind == OUTCOME]
            column = column if column is not None or not names else _column(names[0])
            chosen = tuple(name for name in names if _column(name) == column)
            if passage.key is not None and chosen:
                found.append((document.date, document.text[slice(*passage.key)], chosen))
    dated = all(date for date, _, _ in found)
    drawn = (hashlib.sha256(str(at).encode()).hexdigest() for at in range(len(found)))
    return [
        Entry(date if dated else place, text, labels) for (date, text, labels), place in zip(found, drawn, strict=True)
    ]


def _column(outcome: str) -> str:
    """The column that an outcome's name begins with: of `yield: 80..90 %`, or of `grade-a`."""
    name, colon, _ = outcome.partition(": ")
    return name if colon else outcome.rpartition("-")[0]


def holdout(entries: Sequence[Entry], folder: str | Path | None = None) -> HoldoutReport:
    """Run the test; the matrix lives in a temporary directory (below `folder`, when given)."""
    from emm_engine.embeddings.lsa import LsaProvider  # here: scikit-learn takes a second that `--help` need not wait

    started = time.perf_counter()
    ordered = sorted(set(entries))
    if len(ordered) > ENTRIES_MAX:
        ordered = [ordered[at * len(ordered) // ENTRIES_MAX] for at in range(ENTRIES_MAX)]
    if len(ordered) < ENTRIES_MIN:
        raise InputError("too few entries to hold any out", expected=f"at least {ENTRIES_MIN}", found=len(ordered))
    cut = int(len(ordered) * LEARNT_SHARE)
    older, newer = ordered[:cut], ordered[cut:]
    labels = sorted({label for entry in older for label in entry.labels})
    learnt, wanted = _indicators(older, labels), _indicators(newer, labels)
    embedder = LsaProvider().fit([entry.text for entry in older], RANK)
    keys = embedder.embed([entry.text for entry in older])
    queries = embedder.embed([entry.text for entry in newer])
    matrix, matrix_hits = _matrix(keys, learnt, queries, wanted, labels, folder)
    neighbours, neighbours_hits = _neighbours(keys, learnt, queries, wanted)
    scores = (matrix, neighbours, _prior(learnt, wanted))
    paired = Paired.of(matrix_hits[:, 0], neighbours_hits[:, 0])
    return HoldoutReport(
        n_learnt=len(older),
        n_predicted=len(newer),
        n_labels=len(labels),
        n_unseen=int((wanted.sum(axis=1) == 0).sum()),
        n_dates=len({entry.date for entry in ordered}),
        n_named=sum(any(label.lower() in entry.text.lower() for label in entry.labels) for entry in newer),
        split_date=newer[0].date,
        rank=RANK,
        dim=DIM,
        scores=scores,
        paired=paired,
        winner=_winner(scores, paired),
        seconds=time.perf_counter() - started,
    )


def _winner(scores: Sequence[Score], paired: Paired) -> str:
    """The best by P@1, then P@3; nobody when two are equal, or matrix and neighbours too close to call."""
    first, second, *_ = sorted(scores, key=lambda score: (score.p_at_1, score.p_at_3), reverse=True)
    if (first.p_at_1, first.p_at_3) == (second.p_at_1, second.p_at_3):
        return TIE
    if {first.name, second.name} == {"matrix", "neighbours"} and not paired.distinguishable:
        return NOT_DISTINGUISHABLE
    return first.name


def _indicators(entries: Sequence[Entry], labels: Sequence[str]) -> Float32Array:
    """(n, n_labels): 1 where the entry carries the label; labels outside the list are left out."""
    number = {label: at for at, label in enumerate(labels)}
    found = np.zeros((len(entries), len(labels)), np.float32)
    for row, entry in enumerate(entries):
        found[row, [number[label] for label in entry.labels if label in number]] = 1.0
    return found


def _matrix(
    keys: Float32Array,  # (n, key_dim)
    learnt: Float32Array,  # (n, n_labels) indicators
    queries: Float32Array,  # (m, key_dim)
    wanted: Float32Array,  # (m, n_labels) indicators
    labels: Sequence[str],
    folder: str | Path | None,
) -> tuple[Score, Hits]:
    started = time.perf_counter()
    rows = codes([Label("label", label) for label in labels], DIM)
    with (
        tempfile.TemporaryDirectory(prefix="emm-holdout-", dir=folder) as place,
        emm.create(
            str(Path(place, "memory")),
            dim=DIM,
            rank=RANK,
            key_dim=RANK,
            rule="preconditioned",
            ridge=RIDGE,
            expand_at=0,
        ) as memory,
    ):
        for low in range(0, len(keys), PAIRS_PER_BATCH):
            part = slice(low, low + PAIRS_PER_BATCH)
            memory.write(keys[part], learnt[part] @ rows)
        recalled = memory.recall(queries)
    hits = _hits(_top(recalled @ rows.T), wanted)
    parameters = f"rule 2, rank {RANK}, dim {DIM}, λ {RIDGE:g}"
    return Score("matrix", parameters, *_precision(hits), time.perf_counter() - started), hits


def _neighbours(
    keys: Float32Array, learnt: Float32Array, queries: Float32Array, wanted: Float32Array
) -> tuple[Score, Hits]:
    """Votes of the k nearest, weighted by cosine; the k that does best."""
    started = time.perf_counter()
    depths = [k for k in NEIGHBOURS if k <= len(keys)]
    votes = {k: np.zeros((len(queries), learnt.shape[1]), np.float32) for k in depths}
    for low in range(0, len(queries), 512):
        products = queries[low : low + 512] @ keys.T
        at = np.argpartition(-products, depths[-1] - 1, axis=1)[:, : depths[-1]]
        found = np.take_along_axis(products, at, 1)
        order = np.lexsort((at, -found), axis=1)
        at, found = np.take_along_axis(at, order, 1), np.maximum(np.take_along_axis(found, order, 1), 0.0)
        for row in range(len(at)):
            for k in depths:
                votes[k][low + row] = found[row, :k] @ learnt[at[row, :k]]
    hits = {k: _hits(_top(votes[k]), wanted) for k in depths}
    best = max(depths, key=lambda k: (*_precision(hits[k]), -k))
    parameters = f"k {best}, the best of {', '.join(map(str, depths))}"
    return Score("neighbours", parameters, *_precision(hits[best]), time.perf_counter() - started), hits[best]


def _prior(learnt: Float32Array, wanted: Float32Array) -> Score:
    """Always the commonest labels."""
    started = time.perf_counter()
    guesses = np.repeat(_top(learnt.sum(axis=0, keepdims=True)), len(wanted), axis=0)
    precision = _precision(_hits(guesses, wanted))
    return Score("prior", "the commonest labels", *precision, time.perf_counter() - started)


def _top(scores: Float32Array) -> npt.NDArray[np.int64]:
    """(n, up to 3) best columns of each row, ties to the lower number."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :3]


def _hits(guesses: npt.NDArray[np.int64], wanted: Float32Array) -> Hits:
    return np.asarray(np.take_along_axis(wanted, guesses, 1) > 0)


def _precision(hits: Hits) -> tuple[float, float]:
    return float(hits[:, 0].mean()), float(hits.any(axis=1).mean())
