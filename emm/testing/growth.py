"""How the cost of a write grows with rank and with dim.

Purpose: show the O(dim · rank) of a write, and the rank² that P adds, on the machine at hand. Invariants: all sizes
take turns in every round, so a slow moment hits all of them; figures are medians; pairs are written in batches, as
replay does.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from emm import kernel
from emm.layout import Projection, Rule
from emm.state import Float32Array, MatrixState, Parameters, empty_state

RANKS = (16, 32, 64, 128, 256, 512, 1024)
DIMS = (128, 256, 512, 1024, 2048, 4096)
RANK_FIXED, DIM_FIXED = 256, 768
_TERMS_AIM = 8_000_000  # numbers of M gone through in one timing, so that most are not interrupted
_BATCH_MIN, _BATCH_MAX = 32, 4096


@dataclass(frozen=True, slots=True)
class GrowthRow:
    """One size: µs of one write in a batch."""

    rule: str
    dim: int
    rank: int
    batch: int
    us: float  # median over the rounds
    us_min: float
    us_low: float  # quartiles
    us_high: float
    ns_per_element: float  # µs · 1000 ÷ (dim · rank), flat where the cost is O(dim · rank)
    line_us: float  # the line c · dim · rank through the row of the same rule at 768 × 256


@dataclass(slots=True)
class _Case:
    rule: Rule
    dim: int
    rank: int
    batch: int
    state: MatrixState = field(init=False)
    x: Float32Array = field(init=False)
    values: Float32Array = field(init=False)

    def __post_init__(self) -> None:
        random = np.random.default_rng([self.dim, self.rank])
        self.state = empty_state(Parameters(self.dim, self.rank, self.rank, self.rule, Projection.NONE))
        self.x = random.standard_normal((self.batch, self.rank), np.float32) / np.float32(self.rank**0.5)
        self.values = random.standard_normal((self.batch, self.dim), np.float32)
        kernel.write(self.state, self.x, self.values)

    def seconds(self) -> float:
        began = time.perf_counter()
        kernel.write(self.state, self.x, self.values)
        return time.perf_counter() - began


def measure_growth(ranks: Sequence[int] = RANKS, dims: Sequence[int] = DIMS, *, rounds: int = 41) -> list[GrowthRow]:
    """Rules 1 and 2 at every rank with dim 768, and at every dim with rank 256."""
    shapes = dict.fromkeys(
        [(DIM_FIXED, RANK_FIXED), *((DIM_FIXED, rank) for rank in ranks), *((dim, RANK_FIXED) for dim in dims)]
    )
    cases = [
        _Case(rule, dim, rank, min(_BATCH_MAX, max(_BATCH_MIN, _TERMS_AIM // (dim * rank))))
        for rule in (Rule.GATED_DELTA, Rule.PRECONDITIONED)
        for dim, rank in shapes
    ]
    taken: list[list[float]] = [[] for _ in cases]
    for _ in range(rounds):
        for case, times in zip(cases, taken, strict=True):
            times.append(1e6 * case.seconds() / case.batch)
    medians = [statistics.median(times) for times in taken]
    per_element = {
        case.rule: median / (case.dim * case.rank)
        for case, median in zip(cases, medians, strict=True)
        if (case.dim, case.rank) == (DIM_FIXED, RANK_FIXED)
    }
    return [
        GrowthRow(
            case.rule.name.lower().replace("_", "-"),
            case.dim,
            case.rank,
            case.batch,
            median,
            min(times),
            float(np.percentile(times, 25)),
            float(np.percentile(times, 75)),
            1000 * median / (case.dim * case.rank),
            per_element[case.rule] * case.dim * case.rank,
        )
        for case, times, median in zip(cases, taken, medians, strict=True)
    ]
