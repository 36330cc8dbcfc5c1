"""Pattern recall over a laboratory notebook: which tags will a later entry carry?

Purpose: the notebook half of `emm bench engine`. Two protocols over the same later entries: held out (learn the first
70 % in time, then predict) and online (predict each, then learn it). Invariants: the embedder sees the first 70 %
alone; a tag that nobody has seen yet cannot be guessed; nearest neighbours get the depth, and the half-life, that does
best on the later entries, which favours them; the matrices get nothing of the kind.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

import emm
from emm_tools.bench_scores import summary
from emm_tools.exits import InputProblem

LEARNT_SHARE = 0.7
RANK, DIM = 512, 768
DELTA_GATE, RIDGE = 0.3, 1.0
DEPTHS = (1, 3, 5, 10, 20, 50)
HALF_LIVES = (20, 50, 100, 200, 400)  # entries
ORDERS = {"date": "by their dates", "id": "by the dates in their addresses"}
SUPPORTS = (10, 1)  # entries that a tag needs to count
P_AT = {"P@1": 1, "P@3": 3}
DELTA, PRECONDITIONED = "matrix, gated delta", "matrix, preconditioned"
NEIGHBOURS, RECENT, PRIOR = "nearest neighbours", "recent neighbours", "prior"
PREDICTORS = (PRECONDITIONED, DELTA, NEIGHBOURS, RECENT, PRIOR)
PROTOCOLS = {"held out": False, "online": True}

Floats = npt.NDArray[np.float32]
Embed = Callable[[Sequence[str], Sequence[str]], tuple[Floats, Floats]]  # (older, newer) texts to keys of RANK numbers


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry's text, as the engine would embed it, and its tags."""

    text: str
    tags: tuple[str, ...]


class Predictor(Protocol):
    """Learns entries one by one and scores every tag for a key."""

    def learn(self, key: Floats, tags: Floats) -> None:
        """A key (RANK,) and the tags' indicators (n_tags,)."""
        ...

    def scores(self, key: Floats) -> Floats:
        """(n_tags,)"""
        ...


def entries(folder: Path, order: str, support: int) -> list[Entry]:
    """The entries with tags that at least `support` entries carry, oldest first."""
    from emm_engine.documents import embedded_text

    path = folder / "lab-notebook" / "entries.jsonl"
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        counts = Counter(tag for row in rows for tag in set(row["tags"]))
        rows.sort(key=lambda row: (row[order], row["id"]))
        found = [
            Entry(embedded_text(row["title"], row["text"]), tuple(tag for tag in row["tags"] if counts[tag] >= support))
            for row in rows
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputProblem(f"{path} cannot be read as a notebook: {type(error).__name__}: {error}") from error
    return [entry for entry in found if entry.tags]


class Matrix:
    """A memory of RANK whose values are the tags' codes."""

    def __init__(self, folder: Path, rule: str, gate: float, codes: Floats) -> None:
        self._codes = codes  # (n_tags, DIM)
        self._gate = gate
        self._memory = emm.create(str(folder), dim=DIM, rank=RANK, key_dim=RANK, rule=rule, ridge=RIDGE, expand_at=0)

    def learn(self, key: Floats, tags: Floats) -> None:
        self._memory.write(key[None], (tags @ self._codes)[None], write_gate=self._gate)

    def scores(self, key: Floats) -> Floats:
        found: Floats = self._codes @ self._memory.recall(key[None])[0]
        return found

    def close(self) -> None:
        self._memory.close()


class Neighbours:
    """Votes of the nearest entries, by cosine, halved for every `half_life` entries of age where there is one."""

    def __init__(self, depth: int, half_life: float | None, n_entries_max: int, n_tags: int) -> None:
        self._depth = depth
        self._half_life = half_life
        self._keys = np.zeros((n_entries_max, RANK), np.float32)
        self._tags = np.zeros((n_entries_max, n_tags), np.float32)
        self._count = 0

    def learn(self, key: Floats, tags: Floats) -> None:
        self._keys[self._count], self._tags[self._count] = key, tags
        self._count += 1

    def scores(self, key: Floats) -> Floats:
        weights = np.maximum(self._keys[: self._count] @ key, 0.0)
        if self._half_life is not None:
            weights = weights * np.exp2(-np.arange(self._count)[::-1] / self._half_life)
        nearest = np.argsort(-weights, kind="stable")[: self._depth]
        found: Floats = weights[nearest] @ self._tags[nearest]
        return found


class Prior:
    """The commonest tags, whatever the key."""

    def __init__(self, n_tags: int) -> None:
        self._counts = np.zeros(n_tags, np.float32)

    def learn(self, key: Floats, tags: Floats) -> None:
        self._counts += tags

    def scores(self, key: Floats) -> Floats:
        return self._counts


def guesses(
    predictor: Predictor,
    keys: Floats,  # (n, RANK)
    tags: Floats,  # (n, n_tags) indicators
    n_learnt: int,
    online: bool,
) -> npt.NDArray[np.bool_]:
    """(n − n_learnt, 3): whether the first, second and third guess for each later entry is one of its tags."""
    for key, carried in zip(keys[:n_learnt], tags[:n_learnt], strict=True):
        predictor.learn(key, carried)
    seen = tags[:n_learnt].sum(axis=0) > 0
    hits = np.zeros((len(keys) - n_learnt, 3), bool)
    for row, (key, carried) in enumerate(zip(keys[n_learnt:], tags[n_learnt:], strict=True)):
        best = np.argsort(-np.where(seen, predictor.scores(key), -np.inf), kind="stable")[:3]
        hits[row, : len(best)] = (carried[best] > 0) & seen[best]
        if online:
            predictor.learn(key, carried)
            seen = seen | (carried > 0)
    return hits


def measure_patterns(folder: Path, embedders: dict[str, Embed]) -> list[dict[str, Any]]:
    """One table for each order, choice of tags, protocol and embedder."""
    found = []
    for order in ORDERS:
        for support in SUPPORTS:
            chosen = entries(folder, order, support)
            n_learnt = int(LEARNT_SHARE * len(chosen))
            names = sorted({tag for entry in chosen for tag in entry.tags})
            tags = np.array([[name in entry.tags for name in names] for entry in chosen], np.float32)
            texts = [entry.text for entry in chosen]
            for embedder, embed in embedders.items():
                keys = np.concatenate(embed(texts[:n_learnt], texts[n_learnt:]))
                for protocol, online in PROTOCOLS.items():
                    table = {"order": order, "support": support, "embedder": embedder, "protocol": protocol}
                    shape = {"learnt": n_learnt, "predicted": len(chosen) - n_learnt, "tags": len(names)}
                    found.append({**table, **shape, **_compared(keys, tags, names, n_learnt, online)})
    return found


def _compared(keys: Floats, tags: Floats, names: Sequence[str], n_learnt: int, online: bool) -> dict[str, Any]:
    """Scores of all predictors over the same entries, and with which parameters."""
    from emm_engine import Label
    from emm_engine.matrices.labels import codes

    rows = codes([Label("tag", name) for name in names], DIM)
    hits, parameters = {}, {}
    with tempfile.TemporaryDirectory(prefix="emm-patterns-") as place:
        for name, rule, gate, said in (
            (PRECONDITIONED, "preconditioned", 1.0, f"λ {RIDGE:g}, rank {RANK}"),
            (DELTA, "gated-delta", DELTA_GATE, f"β {DELTA_GATE:g}, rank {RANK}"),
        ):
            matrix = Matrix(Path(place, rule), rule, gate, rows)
            hits[name], parameters[name] = guesses(matrix, keys, tags, n_learnt, online), said
            matrix.close()
    for name, half_lives in ((NEIGHBOURS, (None,)), (RECENT, HALF_LIVES)):
        tried = {
            (depth, half_life): guesses(Neighbours(depth, half_life, *tags.shape), keys, tags, n_learnt, online)
            for depth in DEPTHS
            for half_life in half_lives
        }
        depth, half_life = max(tried, key=lambda each: (tried[each][:, 0].mean(), tried[each].any(axis=1).mean()))
        hits[name] = tried[depth, half_life]
        parameters[name] = f"k {depth}" + (f", half-life {half_life}" if half_life is not None else "")
    hits[PRIOR], parameters[PRIOR] = guesses(Prior(len(names)), keys, tags, n_learnt, online), ""
    scores = {
        metric: summary(
            {name: hits[name][:, :depth].any(axis=1).astype(float).tolist() for name in PREDICTORS},
            [PRECONDITIONED, DELTA],
        )
        for metric, depth in P_AT.items()
    }
    return {"parameters": parameters, "scores": scores}


def widened(keys: npt.NDArray[np.float32]) -> Floats:
    """Keys of at most RANK numbers with zeros up to RANK."""
    return np.ascontiguousarray(np.pad(keys, ((0, 0), (0, RANK - keys.shape[1]))), np.float32)
