"""What a memory holds, on keys like those of text (`emm.testing.capacity`, seed 0, rank 64).

Red when: the gain stops using P (rule 2 falls to rule 1's figures), P's deferral loses a term, φ's ordering loses
directions, or the generator of the table changes.
"""

from __future__ import annotations

import numpy as np
import pytest

from emm.errors import InputError
from emm.testing.capacity import ALL_RULES, RIDGE_LIMIT, CapacityRow, capacity_table, text_like_keys, unit_values


@pytest.fixture(scope="module", params=[0.0, 0.3], ids=["independent values", "values with cosine 0.3"])
def rows(request: pytest.FixtureRequest) -> dict[tuple[str, float], CapacityRow]:
    table = capacity_table(64, (1, 2, 8), ALL_RULES, seed=0, value_cosine=request.param)
    return {(row.rule, row.load): row for row in table}


def test_keys_have_the_mean_cosine_of_text_and_values_the_one_asked_for() -> None:
    for sample in (text_like_keys(1500, 128, 0), unit_values(1500, 768, 0, 0.3)):
        mean = float(np.mean(sample, axis=0) @ np.mean(sample, axis=0))
        assert 0.27 < mean < 0.33


def test_preconditioned_remembers_eight_pairs_per_rank(rows: dict[tuple[str, float], CapacityRow]) -> None:
    assert rows["preconditioned", 8].top1 >= 0.95
    assert rows["preconditioned", 1].top1 == 1.0


def test_preconditioned_uses_its_rank(rows: dict[tuple[str, float], CapacityRow]) -> None:
    assert rows["preconditioned", 1].functional >= 0.85


def test_preconditioned_is_the_ridge_limit_in_one_pass(rows: dict[tuple[str, float], CapacityRow]) -> None:
    for load in (1, 2, 8):
        found, limit = rows["preconditioned", load], rows[RIDGE_LIMIT, load]
        assert abs(found.top1 - limit.top1) <= 0.004
        assert abs(found.functional - limit.functional) <= 1e-3
        assert abs(found.saturation - limit.saturation) <= 1e-4


def test_the_other_rules_drown_in_crosstalk(rows: dict[tuple[str, float], CapacityRow]) -> None:
    """So the table can tell the rules apart, and the default is not better by construction."""
    for rule in ("outer-product", "gated-delta"):
        assert rows[rule, 8].top1 < 0.5
        assert rows[rule, 1].functional < 0.75


def test_structural_and_functional_utilisation_disagree(rows: dict[tuple[str, float], CapacityRow]) -> None:
    """Rule 1 has the higher structural figure and the worse memory: why the two are published together."""
    plain, best = rows["gated-delta", 8], rows["preconditioned", 8]
    assert plain.structural > best.structural and plain.top1 < best.top1


def test_a_rule_nobody_knows_is_refused() -> None:
    with pytest.raises(InputError, match="unknown rule"):
        capacity_table(16, (1,), ["hebbian"])
