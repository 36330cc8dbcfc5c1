"""Everything that `emm bench capacity` measures, and which of the targets it meets.

Purpose: one place says what rule 2 shall reach, so that the command, the page and the tests judge alike. Invariants:
a target is judged by its worst row; a miss is a result like any other, and nothing is left out because of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from emm.testing.capacity import ALL_RULES, MLSTM_NAME, RIDGE_LIMIT, CapacityRow, capacity_table
from emm.testing.contradictions import SUPERSEDE, WAYS, RewriteRow, rewrite_row
from emm.testing.exactness import (
    PARTS,
    SCENARIOS,
    EnduranceRow,
    ExactRow,
    endurance_row,
    merging_row,
    unlearning_row,
)
from emm.testing.keys import KEY_FAMILIES, KeyFamily, Trial

LOADS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
VALUE_COSINES = (0.0, 0.3)
REWRITE_LOADS = (1.0, 4.0)
EXACT_LOADS = (0.5, 2.0, 8.0)
RIDGES = tuple(2.0**exponent for exponent in (0, -2, -4, -6, -8, -10, -12))
ISOTROPIC = "isotropic"  # the one family whose keys are not correlated


@dataclass(frozen=True, slots=True)
class Target:
    """One figure that rule 2 shall reach, and where it was worst."""

    name: str
    wanted: str
    found: float
    met: bool
    where: str


@dataclass(frozen=True, slots=True)
class CapacityReport:
    """The tables, in the order in which they are printed."""

    rows: tuple[CapacityRow, ...]
    ridges: tuple[tuple[float, CapacityRow], ...]  # (λ, rule 2 at load 1 on text-like keys)
    rewrites: tuple[RewriteRow, ...]
    exact: tuple[ExactRow, ...]
    endurance: tuple[EnduranceRow, ...]
    targets: tuple[Target, ...]


def measure_capacity(
    rank: int = 64,
    loads: Sequence[float] = LOADS,
    seed: int = 0,
    *,
    dim: int = 768,
    key_dim: int | None = None,
    families: Mapping[str, KeyFamily] = KEY_FAMILIES,
    n_keys_max: Mapping[str, int] | None = None,  # families that hold no more keys than that
    rewrite_loads: Sequence[float] = REWRITE_LOADS,
    exact_loads: Sequence[float] = EXACT_LOADS,
    ridges: Sequence[float] = RIDGES,
    n_writes: int = 100_000,  # of each endurance scenario; 0: none
    progress: Callable[[str], None] = lambda what: None,
) -> CapacityReport:
    """Every table for one rank. Loads for which a family has too few keys are left out."""
    rows: list[CapacityRow] = []
    rewrites: list[RewriteRow] = []
    exact: list[ExactRow] = []
    for name, family in families.items():
        progress(f"{name} keys")
        most = (n_keys_max or {}).get(name)

        def fits(load: float, most: int | None = most) -> bool:
            return most is None or round(load * rank) <= most

        for cosine in VALUE_COSINES:
            rules = ALL_RULES if cosine else (*ALL_RULES, MLSTM_NAME)
            rows += capacity_table(
                rank,
                [load for load in loads if fits(load)],
                rules,
                seed,
                dim=dim,
                key_dim=key_dim,
                value_cosine=cosine,
                keys=name,
                family=family,
            )
        for load in filter(fits, rewrite_loads):
            trial = Trial(rank, load, seed, dim, key_dim, name, family)
            rewrites += [rewrite_row(way, trial) for way in WAYS]
        for load in filter(fits, exact_loads):
            trial = Trial(rank, load, seed, dim, key_dim, name, family)
            exact += [unlearning_row(trial), *(merging_row(parts, trial) for parts in PARTS)]
    at_ridges = [
        (ridge, capacity_table(rank, [1.0], ["preconditioned"], seed, dim=dim, key_dim=key_dim, ridge=ridge)[0])
        for ridge in ridges
    ]
    endurance = []
    for scenario in SCENARIOS if n_writes else ():
        progress(scenario)
        endurance.append(endurance_row(scenario, n_writes, rank, seed))
    targets = judge(rows, rewrites, exact, endurance)
    return CapacityReport(tuple(rows), tuple(at_ridges), tuple(rewrites), tuple(exact), tuple(endurance), targets)


def judge(
    rows: Iterable[CapacityRow],
    rewrites: Iterable[RewriteRow],
    exact: Iterable[ExactRow],
    endurance: Iterable[EnduranceRow],
) -> tuple[Target, ...]:
    """The targets that these rows can tell about."""
    all_rows = list(rows)
    mine = [row for row in all_rows if row.rule == "preconditioned"]
    found: list[Target] = []
    if mine:
        worst = max(mine, key=lambda row: row.distance)
        found.append(_at_most("one pass beside float64 ridge at the same λ, ‖ΔM‖ ÷ ‖M‖", 1e-3, worst.distance, worst))
    for name in dict.fromkeys(row.keys for row in mine):
        worst = min((row for row in mine if row.keys == name), key=lambda row: row.of_limit)
        found.append(_at_least("functional utilisation beside least squares, λ → 0", 0.9, worst.of_limit, worst))
    limits = {(row.keys, row.value_cosine): row.top1 for row in all_rows if row.rule == RIDGE_LIMIT and row.load == 8}
    for name in dict.fromkeys(row.keys for row in mine if row.keys != ISOTROPIC and row.load == 8):
        worst = min((row for row in mine if row.keys == name and row.load == 8), key=lambda row: row.top1)
        target = _at_least("top-1 at 8 pairs per rank on correlated keys", 0.95, worst.top1, worst)
        limit = limits.get((name, worst.value_cosine))
        beside = "" if limit is None else f", where the ridge limit itself has {limit:.3f}"
        found.append(replace(target, where=f"{target.where}, values of cosine {worst.value_cosine:g}{beside}"))
    superseded = [row for row in rewrites if row.way == SUPERSEDE]
    if superseded:
        least, most = min(superseded, key=lambda row: row.latest), max(superseded, key=lambda row: row.stale)
        found.append(_at_least("contradicted key, superseded: the latest value", 0.95, least.latest, least))
        found.append(_at_most("contradicted key, superseded: a stale value", 0.0, most.stale, most))
    for what in dict.fromkeys(row.what for row in exact if row.what):
        worst_exact = max((row for row in exact if row.what == what), key=lambda row: row.distance)
        found.append(_at_most(f"{what}, ‖ΔM‖ ÷ ‖M‖", 1e-4, worst_exact.distance, worst_exact))
    for each in endurance:
        sound = not each.findings and not each.refused and each.smallest > 0
        name = f"P stays positive definite over {each.n_writes:,} writes"
        found.append(Target(name, "smallest eigenvalue · λ > 0", each.smallest, sound, each.scenario))
    return tuple(found)


def _where(row: CapacityRow | RewriteRow | ExactRow) -> str:
    return f"{row.keys} keys, load {row.load:g}"


def _at_least(name: str, wanted: float, found: float, row: CapacityRow | RewriteRow) -> Target:
    return Target(name, f"≥ {wanted:g}", found, found >= wanted, _where(row))


def _at_most(name: str, wanted: float, found: float, row: CapacityRow | RewriteRow | ExactRow) -> Target:
    return Target(name, f"≤ {wanted:g}", found, found <= wanted, _where(row))
