"""`emm bench pairs`: what conditions → outcome is worth where the answer is known.

Purpose: the held-out test of `emm bench heldout --table` on a table anybody can make again: yields of a first-order
reaction with a catalyst, from Arrhenius' law, integrated step by step. Invariants: the table follows from rows and
seed; it is read by the same importer as any CSV; every figure is computed in this run.
"""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path

import click
import numpy as np

from emm.testing.machine import this_machine
from emm_tools.bench_pages import replace_block
from emm_tools.exits import examples
from emm_tools.inspect_text import table

BLOCK = "emm bench pairs"
RATES = {"NaOH": 1.2, "K2CO3": 0.4, "none": 0.05}  # per hour at 350 K
ACTIVATION_K = 5000.0  # energy over the gas constant
STEPS = 50
TABLES = (300, 2000)


def reactor_runs(count: int, seed: int = 1) -> str:
    """A CSV of runs: temperature, base and time, and the yield that they give."""
    chance = np.random.default_rng(seed)
    lines = ["temperature [K],base,time (h),yield (%)"]
    for _ in range(count):
        kelvin, hours = chance.uniform(300, 400), chance.uniform(0.5, 4)
        base = str(chance.choice(list(RATES)))
        step = RATES[base] * math.exp(-ACTIVATION_K * (1 / kelvin - 1 / 350)) * hours / STEPS
        left = 1.0
        for _ in range(STEPS):
            left /= 1.0 + step  # implicit Euler
        lines.append(f"{kelvin:.1f},{base},{hours:.2f},{100 * (1 - left):.1f}")
    return "\n".join(lines)


@click.command(epilog=examples("emm bench pairs", "emm bench pairs --rows 500 --json"))
@click.option("--rows", type=click.IntRange(30), multiple=True, help="Of a table [default: 300 and 2000].")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a table.")
@click.option(
    "--write", "page", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Put the text into this page."
)
def pairs(rows: tuple[int, ...], seed: int, as_json: bool, page: Path | None) -> None:
    """Predict the yields of runs that were not learnt from their conditions alone: matrix, neighbours, prior."""
    from emm_engine import Intake
    from emm_engine.matrices.holdout import entries_of_pairs, holdout

    shown = []
    for count in rows or TABLES:
        with tempfile.TemporaryDirectory(prefix="emm-bench-pairs-") as place:
            path = Path(place, "runs.csv")
            path.write_text(reactor_runs(count, seed), encoding="utf-8")
            report = holdout(entries_of_pairs(Intake([path]).documents()))
        if as_json:
            click.echo(json.dumps({"rows": count, "seed": seed, **report.to_dict()}))
        for score in report.scores:
            first, three = f"{score.p_at_1:.3f}", f"{score.p_at_3:.3f}"
            shown.append((report.n_learnt, report.n_predicted, score.name, first, three, score.parameters))
    if as_json:
        return
    head = ("learnt", "predicted", "predictor", "P@1", "P@3", "")
    text = "\n".join([f"{this_machine()}; seed {seed}", *table(head, shown)])
    click.echo(text)
    if page is not None:
        replace_block(page, BLOCK, text)
