"""`emm bench upgrade`: what a v3 cell keeps when it is upgraded, and what new pairs do to old ones.

Purpose: print the tables of `emm.testing.upgrade_kept`, or put them into docs/upgrade.md. Invariant: every figure is
computed in this run; the ways that were not taken are printed beside the one that was.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import click

from emm.testing.machine import this_machine
from emm.testing.upgrade_kept import SHAPES, WAYS, WRITES, KeptRow, SurvivalRow, measure_kept, measure_survival
from emm_tools.bench_pages import replace_block
from emm_tools.exits import examples
from emm_tools.inspect_text import table

BLOCK = "emm bench upgrade"
COSINE_WANTED = 0.9999


@click.command(
    epilog=examples(
        "emm bench upgrade",
        "emm bench upgrade --shape 64,32 --json",
        "emm bench upgrade --write docs/upgrade.md",
    )
)
@click.option("--shape", "shapes", multiple=True, metavar="DIM,PAIRS", help="A cell, and how much is in it.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, its table named in it.")
@click.option(
    "--write", "page", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Put the text into this page."
)
def upgrade(shapes: tuple[str, ...], seed: int, as_json: bool, page: Path | None) -> None:
    """What an upgraded v3 cell keeps: direction, length and top-1, at once and after 64 and 512 new pairs.

    Top-1 is the share of keys whose own value is the nearest of all that were ever given, old and new. Under "from
    pairs" the original pairs were at hand; the other columns start from the cell alone.
    """
    chosen = [_shape(each) for each in shapes] or SHAPES
    kept, survival = measure_kept(seed, chosen), measure_survival(seed, chosen)
    if as_json:
        for name, rows in (("kept", kept), ("survival", survival)):
            for row in rows:
                click.echo(json.dumps({"table": name, **dataclasses.asdict(row)}))
        return
    text = "\n".join([f"{this_machine()}; seed {seed}", "", *_kept(kept), "", *_survival(survival)])
    click.echo(text)
    if page is not None:
        replace_block(page, BLOCK, text)


def _shape(text: str) -> tuple[int, int]:
    try:
        dim, n_pairs = (int(part) for part in text.split(","))
    except ValueError:
        raise click.BadParameter(f"{text!r} is not two numbers, DIM,PAIRS", param_hint="--shape") from None
    if not (1 <= dim <= 4096 and 1 <= n_pairs <= 1 << 20):
        raise click.BadParameter(f"{text!r} is out of range", param_hint="--shape")
    return dim, n_pairs


def _kept(rows: list[KeptRow]) -> Iterator[str]:
    worst = min(row.cosine_min for row in rows)
    yield f"at the upgrade (least cosine of all keys {worst:.8f}, wanted {COSINE_WANTED}: {_met(worst)})"
    head = ("keys", "dim", "pairs", "least cosine", "length off by", "top-1 v3", "upgraded", "÷ length, 1 pair on")
    yield from table(
        head,
        [
            (
                row.keys,
                row.dim,
                row.n_pairs,
                f"{row.cosine_min:.8f}",
                f"{row.length_error_max:.1e}",
                f"{row.top1_cell:.3f}",
                f"{row.top1_upgraded:.3f}",
                f"{row.length_after:.2f} (cosine {row.cosine_after:.3f})",
            )
            for row in rows
        ],
    )


def _met(worst: float) -> str:
    return "met" if worst >= COSINE_WANTED else "NOT MET"


def _survival(rows: list[SurvivalRow]) -> Iterator[str]:
    yield "top-1 after new pairs: old pairs / new pairs"
    found = {(row.keys, row.dim, row.n_pairs, row.n_written, row.way): row for row in rows}
    cells = dict.fromkeys((row.keys, row.dim, row.n_pairs, row.n_written) for row in rows)
    lines = []
    for cell in sorted(cells, key=lambda each: (list(dict.fromkeys(r.keys for r in rows)).index(each[0]), each[1:])):
        texts = []
        for way in WAYS:
            row = found[(*cell, way)]
            texts.append(f"{row.old:.2f}" + ("" if row.new is None else f" / {row.new:.2f}"))
        lines.append((*cell, *texts))
    yield from table(("keys", "dim", "pairs", "new", *WAYS), lines)
    yield f"(new pairs: {', '.join(map(str, WRITES))})"
