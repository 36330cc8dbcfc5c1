"""What an upgrade of a v3 cell keeps, at once and after new pairs: one table each, computed.

Purpose: put figures on docs/upgrade.md from a command, and let tests ask for the same. Invariants: everything follows
from (keys, dim, pairs, seed); the cell's own answers, in binary64 from its own numbers, are what upgrades are held
against; every way that was not taken is measured beside the one that was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from emm import kernel
from emm.layout import Rule
from emm.state import Float32Array, MatrixState, empty_state
from emm.testing.keys import KEY_FAMILIES, unit_values
from emm.testing.mlstm import Mlstm
from emm.v3.cell import recall as cell_recall
from emm.v3.codec import Cell
from emm.v3.layout import V3Flag
from emm.v3.upgrade import Pairs, parameters_of, solved, upgraded

WRITES = (0, 64, 512)
FAMILIES = ("text-like", "isotropic", "clustered")
SHAPES = ((64, 16), (64, 64), (256, 64), (256, 256), (256, 1024))  # (dim, pairs)
WAYS = ("estimated P", "from pairs", "rule 0", "rule 1", "rule 1, fitted", "rule 2, P₀")


@dataclass(frozen=True, slots=True)
class KeptRow:
    """What stays the same at the upgrade, over all stored keys."""

    keys: str
    dim: int
    n_pairs: int
    cosine_min: float  # of the upgraded memory's answer and the cell's
    length_error_max: float  # of its length, relative
    top1_cell: float  # share of pairs whose own value is the nearest of all stored ones
    top1_upgraded: float
    length_after: float  # median of ‖answer‖ ÷ ‖cell's answer‖ after one more pair, which ends the normaliser
    cosine_after: float  # median of the cosine of both


@dataclass(frozen=True, slots=True)
class SurvivalRow:
    """Top-1 among all values, old and new, after new pairs were written in one of several ways."""

    keys: str
    dim: int
    n_pairs: int
    way: str
    n_written: int
    old: float
    new: float | None  # None: no new pairs yet


def measure_kept(seed: int = 0, shapes: Sequence[tuple[int, int]] = SHAPES) -> list[KeptRow]:
    """One row for each family and shape."""
    return [_kept(name, dim, n, seed) for name in FAMILIES for dim, n in shapes]


def measure_survival(
    seed: int = 0, shapes: Sequence[tuple[int, int]] = SHAPES, writes: Sequence[int] = WRITES
) -> list[SurvivalRow]:
    """Rows for each family, shape, way and number of new pairs."""
    return [
        row
        for name in FAMILIES
        for dim, n in shapes
        for way in WAYS
        for row in _survival(name, dim, n, way, tuple(writes), seed)
    ]


def cell_of(keys: Float32Array, values: Float32Array) -> Cell:
    """A v3 cell that was given these pairs, each with forget and input gate 1 (1/√d on the query)."""
    mlstm = Mlstm(values.shape[1], keys.shape[1])
    mlstm.write(keys, values)
    matrix, vector = mlstm.scaled()
    flags = V3Flag.SCALE_ON_QUERY
    return Cell(keys.shape[1], flags, float(np.float32(mlstm.log_scale)), matrix, vector)


def _pairs(name: str, dim: int, n: int, seed: int) -> tuple[Float32Array, Float32Array]:
    return KEY_FAMILIES[name](n, dim, seed), unit_values(n, dim, seed)


def _kept(name: str, dim: int, n: int, seed: int) -> KeptRow:
    keys, values = _pairs(name, dim, n + max(WRITES), seed)  # the draw of the other table
    old, own = keys[:n], values[:n]
    cell = cell_of(old, own)
    wanted = cell_recall(cell, old)
    state = upgraded(cell)
    x = kernel.project(old, state.parameters)
    found = kernel.recall(state, x)
    cosine, length = _compared(found, wanted)
    kernel.write(state, kernel.project(keys[n : n + 1], state.parameters), values[n : n + 1])
    cosine_after, length_after = _compared(kernel.recall(state, x), wanted)
    return KeptRow(
        name,
        dim,
        n,
        float(cosine.min()),
        float(np.abs(length - 1).max()),
        _top1(wanted, own, np.arange(n)),
        _top1(found, own, np.arange(n)),
        float(np.median(length_after)),
        float(np.median(cosine_after)),
    )


def _compared(found: Float32Array, wanted: Float32Array) -> tuple[np.ndarray, np.ndarray]:
    """(cosine, ratio of lengths) row by row, in binary64."""
    one, two = found.astype(np.float64), wanted.astype(np.float64)
    lengths = np.linalg.norm(one, axis=1), np.linalg.norm(two, axis=1)
    return np.einsum("ij,ij->i", one, two) / (lengths[0] * lengths[1]), lengths[0] / lengths[1]


def _survival(name: str, dim: int, n: int, way: str, writes: tuple[int, ...], seed: int) -> Iterator[SurvivalRow]:
    keys, values = _pairs(name, dim, n + max(writes), seed)
    state = _STARTS[way](cell_of(keys[:n], values[:n]), keys[:n], values[:n])
    x = kernel.project(keys, state.parameters)
    done = 0
    for count in sorted(writes):
        if count > done:
            kernel.write(state, x[n + done : n + count], values[n + done : n + count])
            done = count
        known = values[: n + count]
        answers = kernel.recall(state, x[: n + count])
        old = _top1(answers[:n], known, np.arange(n))
        new = _top1(answers[n:], known, np.arange(n, n + count)) if count else None
        yield SurvivalRow(name, dim, n, way, count, old, new)


def _top1(answers: Float32Array, values: Float32Array, own: np.ndarray) -> float:
    scores = answers @ values.T / np.linalg.norm(values, axis=1)
    return float(np.mean(np.argmax(scores, axis=1) == own))


def _carried(rule: Rule, *, fitted: bool = False) -> Callable[[Cell, Float32Array, Float32Array], MatrixState]:
    """C as M under some rule, P as before the first write; fitted: divided by the mean |nᵀk| of the stored keys."""

    def start(cell: Cell, keys: Float32Array, values: Float32Array) -> MatrixState:
        state = empty_state(replace(parameters_of(cell), rule=rule))
        scale = 1.0 / float(np.mean(np.abs(keys @ cell.normaliser))) if fitted else 1.0
        state.matrix[:, : cell.dim] = cell.matrix * scale
        return state

    return start


_STARTS: dict[str, Callable[[Cell, Float32Array, Float32Array], MatrixState]] = {
    "estimated P": lambda cell, keys, values: upgraded(cell),
    "from pairs": lambda cell, keys, values: solved(cell, Pairs(keys, values)),
    "rule 0": _carried(Rule.OUTER_PRODUCT),
    "rule 1": _carried(Rule.GATED_DELTA),
    "rule 1, fitted": _carried(Rule.GATED_DELTA, fitted=True),
    "rule 2, P₀": _carried(Rule.PRECONDITIONED),
}
