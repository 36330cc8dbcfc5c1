"""What dreams are worth: recall before and after a replay, and stale answers before and after a supersession.

Purpose: the figures behind docs/benchmarks/dream.md, computed through the code that dreams run. Invariants:
everything follows from the seeds; each way starts from the same memory; values are random and of length one, and
an answer is right when it lies nearer to its own value than to any other that was ever given.
"""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

import emm
from emm.testing.keys import KEY_FAMILIES, paraphrases, text_like_keys, unit_values
from emm_engine.dream.replay import gate_of, replay
from emm_engine.embeddings.provider import Float32Array

DIM: Final = 768
KEY_DIM: Final = 256
VERSIONS: Final = 5
BEFORE: Final = "before"
DREAMT: Final = "after a dream"
SEEDS: Final = (0, 1, 2, 3, 4)
BUDGETS: Final = (1, 4)  # extra writes ÷ pairs

Way = Callable[[emm.Memory, Float32Array, Float32Array, int], object]  # memory, keys, values, extra writes


@dataclass(frozen=True, slots=True)
class ReplayRow:
    """One way and one budget on one family of keys: means over the seeds."""

    keys: str
    way: str
    budget: int  # extra writes ÷ pairs
    n_pairs: int
    rank: int
    top1: float
    top1_least: float  # of the seeds
    top1_held_out: float  # asked by queries at cosine 0.9 to the keys
    cosine: float


@dataclass(frozen=True, slots=True)
class StaleRow:
    """What a memory answers for keys whose values have changed, after the last version."""

    rule: str
    way: str
    n_keys: int
    latest: float
    stale: float
    other: float


def _in_order(annealed: bool) -> Way:
    """All pairs again and again, as they were written."""

    def run(memory: emm.Memory, keys: Float32Array, values: Float32Array, budget: int) -> None:
        for number in range(budget // len(keys)):
            memory.write(keys, values, write_gate=gate_of(number) if annealed else 1.0)

    return run


WAYS: Final[dict[str, Way]] = {
    "surprise first, annealed": replay,  # as dreams do
    "surprise first, β = 1": partial(replay, gate=lambda _: 1.0),
    "in order, annealed": _in_order(True),
    "in order, β = 1": _in_order(False),
}


def measure_replay(rank: int = 64, load: float = 2.0, seeds: tuple[int, ...] = SEEDS) -> Iterator[ReplayRow]:
    """Rule 1 at load · rank pairs: every way with every budget, on every family of keys."""
    n_pairs = round(load * rank)
    for name, family in KEY_FAMILIES.items():
        for way, budget in [(BEFORE, 0), *itertools.product(WAYS, BUDGETS)]:
            found = [_replayed(family(n_pairs, KEY_DIM, seed), rank, seed, WAYS.get(way), budget) for seed in seeds]
            top1, held_out, cosine = (float(np.mean(column)) for column in zip(*found, strict=True))
            least = min(each[0] for each in found)
            yield ReplayRow(name, way, budget, n_pairs, rank, top1, least, held_out, cosine)


def _replayed(keys: Float32Array, rank: int, seed: int, act: Way | None, budget: int) -> tuple[float, float, float]:
    """(top-1, top-1 of held-out queries, mean cosine)."""
    values = unit_values(len(keys), DIM, seed)
    with _memory("gated-delta", rank) as memory:
        memory.write(keys, values)
        if act is not None:
            act(memory, keys, values, budget * len(keys))
        recalled, asked = memory.recall(keys), memory.recall(paraphrases(keys, seed))
    cosine = np.sum(recalled * values, axis=1) / np.maximum(np.linalg.norm(recalled, axis=1), 1e-30)
    own = np.arange(len(keys))
    return (
        float(np.mean(_nearest(recalled, values) == own)),
        float(np.mean(_nearest(asked, values) == own)),
        float(cosine.mean()),
    )


def measure_stale(rank: int = 64, load: float = 1.0, seeds: tuple[int, ...] = SEEDS) -> Iterator[StaleRow]:
    """Keys whose values have changed `VERSIONS` - 1 times: everything learnt, and what a dream makes of it."""
    n_keys = round(load * rank)
    for rule in ("preconditioned", "gated-delta"):
        for way in (BEFORE, DREAMT):
            found = [_superseded(text_like_keys(n_keys, KEY_DIM, seed), rule, rank, seed, way) for seed in seeds]
            latest, stale = (float(np.mean(column)) for column in zip(*found, strict=True))
            yield StaleRow(rule, way, n_keys, latest, stale, 1.0 - latest - stale)


def _superseded(keys: Float32Array, rule: str, rank: int, seed: int, way: str) -> tuple[float, float]:
    """(share of latest answers, of stale ones) among all values that were ever given."""
    n_keys = len(keys)
    values = unit_values(VERSIONS * n_keys, DIM, seed)
    latest = values[-n_keys:]
    with _memory(rule, rank) as memory:
        if way == BEFORE:
            memory.write(np.tile(keys, (VERSIONS, 1)), values)
        else:  # superseded versions first: what is kept is solved, and replayed where the rule needs it
            memory.write(keys, latest)
            if rule == "gated-delta":
                replay(memory, keys, latest, n_keys)
        answer = _nearest(memory.recall(keys), values)
    mine = answer % n_keys == np.arange(n_keys)
    is_latest = answer // n_keys == VERSIONS - 1
    return float(np.mean(mine & is_latest)), float(np.mean(mine & ~is_latest))


def _nearest(recalled: Float32Array, values: Float32Array) -> np.typing.NDArray[np.intp]:
    """(n,) which of the unit values (m, dim) each recalled vector (n, dim) is nearest to."""
    nearest: np.typing.NDArray[np.intp] = np.argmax(recalled @ values.T, axis=1)
    return nearest


@contextlib.contextmanager
def _memory(rule: str, rank: int) -> Iterator[emm.Memory]:
    """An empty memory that does not outlive the block."""
    with (
        tempfile.TemporaryDirectory(prefix="emm-dream-") as place,
        emm.create(str(Path(place, "memory")), dim=DIM, rank=rank, key_dim=KEY_DIM, rule=rule, expand_at=0.0) as memory,
    ):
        yield memory
