"""How good rankings and guesses are, and whether two ways differ by more than chance.

Purpose: the figures of `emm bench engine`. nDCG (Järvelin & Kekäläinen 2002) with grades of 0 and 1, recall, and the
percentile bootstrap (Efron 1979) over questions, paired where two ways are compared. Invariants: pure arithmetic with a
fixed seed, so equal values give equal intervals; every way is resampled by the same draws; a difference whose interval
touches 0 is not called distinguishable.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SEED = 0
RESAMPLES = 10_000
TAIL = 0.025  # on each side of an interval

Floats = npt.NDArray[np.float64]


def ndcg(ranking: Sequence[str], wanted: Collection[str], depth: int) -> float:
    """Gain 1 / log2(place + 1) of the wanted among the first `depth`, over the most that there could be."""
    gain = sum(1.0 / math.log2(at + 2) for at, item in enumerate(ranking[:depth]) if item in wanted)
    most = sum(1.0 / math.log2(at + 2) for at in range(min(depth, len(wanted))))
    return gain / most if most else 0.0


def recall(ranking: Sequence[str], wanted: Collection[str], depth: int) -> float:
    """The share of the wanted that is among the first `depth`."""
    return len(set(ranking[:depth]) & set(wanted)) / len(wanted) if wanted else 0.0


METRICS = {"nDCG": ndcg, "recall": recall}


def metric(name: str, ranking: Sequence[str], wanted: Collection[str]) -> float:
    """`nDCG@10`, `recall@5`: of one question."""
    kind, _, depth = name.partition("@")
    return METRICS[kind](ranking, wanted, int(depth))


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over questions, and where 95 % of the means of resampled questions lie."""

    mean: float
    low: float
    high: float

    @property
    def distinguishable(self) -> bool:
        """Of a difference: whether all of it lies on one side of 0."""
        return self.low > 0.0 or self.high < 0.0

    def rounded(self) -> list[float]:
        return [round(float(each), 4) for each in (self.mean, self.low, self.high)]


def intervals(values: Floats) -> list[Interval]:
    """One for each column of (n, m) values of n questions."""
    means = _draws(len(values)) @ values
    low, high = np.quantile(means, (TAIL, 1.0 - TAIL), axis=0)
    return [Interval(*each) for each in zip(values.mean(axis=0).tolist(), low.tolist(), high.tolist(), strict=True)]


def summary(values: Mapping[str, Sequence[float]], references: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    """Of each way: `score`, and the differences `<reference> −` to it, each as (mean, low, high)."""
    columns: dict[tuple[str, str], Floats] = {}
    for way, found in values.items():
        mine = np.asarray(found, np.float64)
        columns[way, "score"] = mine
        columns |= {(way, each): np.asarray(values[each]) - mine for each in references if each != way}
    found_intervals = intervals(np.stack(list(columns.values()), axis=1))
    result: dict[str, dict[str, list[float]]] = {way: {} for way in values}
    for (way, what), interval in zip(columns, found_intervals, strict=True):
        result[way][what] = interval.rounded()
    return result


@functools.lru_cache(maxsize=2)
def _draws(count: int) -> Floats:
    """(RESAMPLES, count): the share of each question in each resample."""
    rng = np.random.default_rng(SEED)
    shares = np.empty((RESAMPLES, count), np.float64)
    for row in shares:
        row[:] = np.bincount(rng.integers(0, count, count), minlength=count)
    return shares / count
