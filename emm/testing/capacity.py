"""How much a memory holds: one table, computed, for tests and for `emm bench capacity`.

Purpose: compare the three rules with the ridge limit, and with v3's cell, on keys of several families. Invariants:
everything follows from (keys, rank, load, seed); nothing is cached; a limit is computed in binary64 on the same φ of
the same keys.
Source: docs/capacity.md; top-1 as in Ramsauer et al., "Hopfield networks is all you need" (2021).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emm import kernel
from emm.errors import InputError
from emm.kernel.measures import cosines
from emm.layout import RIDGE_DEFAULT, Rule
from emm.state import Float32Array, MatrixState, Parameters, empty_state
from emm.testing.keys import KEY_FAMILIES, MEAN_COSINE, KeyFamily, paraphrases, text_like_keys, unit_values
from emm.testing.mlstm import MLSTM_NAME, Mlstm

__all__ = [
    "ALL_RULES",
    "MEAN_COSINE",
    "MLSTM_NAME",
    "RIDGE_LIMIT",
    "RULE_NAMES",
    "CapacityRow",
    "capacity_table",
    "distance",
    "least_squares",
    "solve",
    "text_like_keys",
    "top1",
    "unit_values",
]

RULE_NAMES = {
    "outer-product": Rule.OUTER_PRODUCT,
    "gated-delta": Rule.GATED_DELTA,
    "preconditioned": Rule.PRECONDITIONED,
}
RIDGE_LIMIT = "ridge limit"
ALL_RULES = (*RULE_NAMES, RIDGE_LIMIT)
TEXT_LIKE = "text-like"

Recall = Callable[[Float32Array], Float32Array]  # φ of queries (n, rank) -> (n, dim)


@dataclass(frozen=True, slots=True)
class CapacityRow:
    """One line of the table."""

    keys: str  # the family
    rule: str  # a rule's name, "ridge limit" (the same least squares in binary64), or v3's cell
    rank: int
    load: float  # pairs ÷ rank
    n_pairs: int
    value_cosine: float  # mean pairwise cosine of the values
    top1: float  # share of pairs whose own value is the nearest of all stored values
    top1_paraphrase: float  # the same, asked with a query at cosine 0.9 of the key
    mean_cosine: float  # of recall and value
    error: float  # mean of ‖recall − value‖, values of length one: what cosines do not see
    functional: float  # Σ cos² / rank
    of_limit: float  # functional ÷ that of least squares without ridge (λ → 0)
    structural: float  # energy effective rank of M / rank
    saturation: float
    distance: float  # ‖M − M of the ridge limit‖ ÷ ‖M of the ridge limit‖, Frobenius


def top1(recalled: Float32Array, values: Float32Array) -> float:
    """Share of rows of `recalled` (n, dim) whose nearest value by cosine, among all of `values`, is their own."""
    scores = recalled @ values.T / np.linalg.norm(values, axis=1)
    return float(np.mean(np.argmax(scores, axis=1) == np.arange(len(values))))


def distance(found: npt.ArrayLike, wanted: npt.ArrayLike) -> float:
    """Relative Frobenius distance of two matrices."""
    right = np.asarray(wanted, np.float64)
    return float(np.linalg.norm(np.asarray(found, np.float64) - right) / np.linalg.norm(right))


def least_squares(x: Float32Array, values: Float32Array) -> npt.NDArray[np.float64]:
    """Recall (n, dim) of the least-squares solution without ridge, λ → 0, in binary64: no linear memory fits better."""
    left, singular, _ = np.linalg.svd(x.astype(np.float64), full_matrices=False)
    basis = left[:, singular > 1e-9 * singular[0]]
    fitted: npt.NDArray[np.float64] = basis @ (basis.T @ values)
    return fitted


def solve(
    rule: str, keys: Float32Array, values: Float32Array, rank: int, ridge: float = RIDGE_DEFAULT
) -> tuple[MatrixState, Float32Array]:
    """The memory of the pairs under one rule, and φ of the keys."""
    if rule not in ALL_RULES:
        raise InputError("unknown rule", expected=", ".join(ALL_RULES), found=rule)
    chosen = RULE_NAMES.get(rule, Rule.PRECONDITIONED)
    state = empty_state(Parameters(values.shape[1], keys.shape[1], rank, chosen, ridge=ridge))
    x = kernel.project(keys, state.parameters)
    if rule != RIDGE_LIMIT:
        kernel.write(state, x, values)
        return state, x
    matrix, inverse = kernel.ridge_solution(x, values, state.parameters.ridge)
    assert state.gain is not None
    state.matrix[...] = matrix
    state.gain.pbar[...] = inverse
    return state, x


def capacity_table(
    rank: int = 64,
    loads: Sequence[float] = (0.5, 1, 2, 4, 8),
    rules: Iterable[str] = ALL_RULES,
    seed: int = 0,
    *,
    dim: int = 768,
    key_dim: int | None = None,  # 2 · rank where not given
    value_cosine: float = 0.0,
    ridge: float = RIDGE_DEFAULT,
    keys: str = TEXT_LIKE,
    family: KeyFamily | None = None,  # of that name; one of `KEY_FAMILIES` where not given
) -> list[CapacityRow]:
    """Write load · rank pairs under each rule and ask for all of them; rows in the order of loads, then rules.

    φ keeps about rank/n of a unit key's squared norm, so with λ fixed a small share weighs the prior more: at
    load 1 even the ridge limit has functional utilisation 0.87 for 128 → 64, 0.78 for 384 → 64 (seed 0).
    """
    draw = KEY_FAMILIES[keys] if family is None else family
    key_dim = 2 * rank if key_dim is None else key_dim
    rows, chosen = [], tuple(rules)
    for load in loads:
        n = max(1, round(load * rank))
        pairs = draw(n, key_dim, seed), unit_values(n, dim, seed, value_cosine)
        rows += _rows_of_load(keys, chosen, rank, load, pairs, value_cosine, ridge, seed)
    return rows


def _recall_of(state: MatrixState) -> Recall:
    return lambda x: kernel.recall(state, x)


def _rows_of_load(
    name: str,
    rules: Sequence[str],
    rank: int,
    load: float,
    pairs: tuple[Float32Array, Float32Array],
    value_cosine: float,
    ridge: float,
    seed: int,
) -> list[CapacityRow]:
    keys, values = pairs
    queries = paraphrases(keys, seed)
    rows = []
    limit, x = solve(RIDGE_LIMIT, keys, values, rank, ridge)
    best = kernel.functional_utilisation(least_squares(x, values), values, rank)
    for rule in rules:
        if rule == MLSTM_NAME:
            cell = Mlstm(values.shape[1], rank)
            cell.write(x, values)
            state = cell.as_state(limit.parameters)
            recall: Recall = cell.recall
        else:
            state, _ = solve(rule, keys, values, rank, ridge)
            recall = _recall_of(state)
        recalled = recall(x)
        functional = kernel.functional_utilisation(recalled, values, rank)
        rows.append(
            CapacityRow(
                name,
                rule,
                rank,
                float(load),
                len(keys),
                value_cosine,
                top1(recalled, values),
                top1(recall(kernel.project(queries, limit.parameters)), values),
                float(cosines(recalled, values).mean()),
                float(np.linalg.norm(recalled - values, axis=1).mean()),
                functional,
                functional / best,
                kernel.structural_utilisation(state),
                kernel.saturation(state),
                distance(state.matrix, limit.matrix),
            )
        )
    return rows
