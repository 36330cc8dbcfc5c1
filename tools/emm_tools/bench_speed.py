"""`emm bench growth` and `emm bench replay`: what a write costs, and what it costs to read a journal back.

Purpose: print measured tables with the machine above them. Invariants: what is compared takes turns in one run; a
figure is a median and its spread is printed with it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import click

from emm.testing.growth import DIM_FIXED, DIMS, RANK_FIXED, RANKS, GrowthRow, measure_growth
from emm.testing.machine import Machine, this_machine
from emm.testing.replay_rate import COMMIT_PAIRS, RATIO_WANTED, ReplayRow, measure_replay
from emm_tools.bench_pages import replace_block
from emm_tools.exits import MissingExtra, examples
from emm_tools.inspect_text import table

PAGE = click.Path(exists=True, dir_okay=False, path_type=Path)


def _out(
    machine: Machine, rows: Sequence[GrowthRow | ReplayRow], text: str, block: str, as_json: bool, page: Path | None
) -> None:
    if as_json:
        for row in rows:
            click.echo(json.dumps({**dataclasses.asdict(row), "machine": dataclasses.asdict(machine)}))
    else:
        click.echo(text)
    if page is not None:
        replace_block(page, block, text)


@click.command(
    epilog=examples(
        "emm bench growth",
        "emm bench growth --picture growth.png --rounds 101",
        "emm bench growth --picture docs/growth.png --write docs/growth.md",
    )
)
@click.option("--rounds", type=click.IntRange(1), default=41, show_default=True)
@click.option("--picture", type=click.Path(dir_okay=False, path_type=Path), help="Draw it here (.png or .svg).")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line of the table.")
@click.option("--write", "page", type=PAGE, help="Put the text into this page.")
def growth(rounds: int, picture: Path | None, as_json: bool, page: Path | None) -> None:
    """How the cost of a write grows with rank (16 to 1024) and dim (128 to 4096), beside the line O(dim · rank).

    The line goes through the same rule's figure at 768 × 256. Rule 2 keeps P as well, rank × rank numbers, and so
    leaves it where rank is no longer small beside dim.
    """
    if picture is not None and picture.suffix.lower() not in (".png", ".svg"):
        raise click.UsageError("--picture must end in .png or .svg.")
    machine = this_machine()
    rows = measure_growth(RANKS, DIMS, rounds=rounds)
    lines = [f"{machine}", f"µs per write in a batch, medians of {rounds} rounds in which all sizes took turns"]
    for name, fixed in (("rank", ("dim", DIM_FIXED)), ("dim", ("rank", RANK_FIXED))):
        mine = sorted(
            (row for row in rows if getattr(row, fixed[0]) == fixed[1]), key=lambda row: (row.rule, getattr(row, name))
        )
        lines += ["", f"by {name}, {fixed[0]} {fixed[1]}"]
        head = ("rule", name, "µs", "least", "quartiles", "÷ line", "ns per element of M")
        lines += table(
            head,
            [
                (
                    row.rule,
                    getattr(row, name),
                    f"{row.us:.2f}",
                    f"{row.us_min:.2f}",
                    f"{row.us_low:.2f} to {row.us_high:.2f}",
                    f"{row.us / row.line_us:.2f}",
                    f"{row.ns_per_element:.4f}",
                )
                for row in mine
            ],
        )
    if picture is not None:
        try:
            from emm_tools.growth_picture import draw_growth
        except ImportError as error:
            raise MissingExtra("pictures", error) from error
        draw_growth(rows, str(machine), picture)
    _out(machine, rows, "\n".join(lines), "emm bench growth", as_json, page)


@click.command(
    epilog=examples(
        "emm bench replay",
        "emm bench replay --pairs 20000 --commit-pairs 1 --json",
        "emm bench replay --write docs/growth.md",
    )
)
@click.option("--pairs", type=click.IntRange(1), default=100_000, show_default=True, help="Pairs in the journal.")
@click.option("--commit-pairs", "sizes", type=click.IntRange(1, 4096), multiple=True, default=COMMIT_PAIRS,
              help="Pairs of one commit [default: 1, 16, 256].")  # fmt: skip
@click.option("--dim", type=click.IntRange(1), default=768, show_default=True)
@click.option("--rank", type=click.IntRange(16), default=256, show_default=True)
@click.option("--key-dim", type=click.IntRange(16), default=768, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option(
    "--folder", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Where journals are made."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line of the table.")
@click.option("--write", "page", type=PAGE, help="Put the text into this page.")
def replay(
    pairs: int,
    sizes: tuple[int, ...],
    dim: int,
    rank: int,
    key_dim: int,
    rounds: int,
    folder: Path | None,
    as_json: bool,
    page: Path | None,
) -> None:
    """How fast recovery replays a journal (rule 2), beside the kernel on the same pairs in memory.

    Kernel (on all threads, then on one) and recovery take turns. "CPU" is the same ratio of processor time, which other
    programs on the machine disturb less; then µs of it for a pair in the kernel, in reading and checking alone, in all
    of recovery. Memory is what recovery adds to a fresh process at its peak.
    """
    machine = this_machine()
    rows = [measure_replay(dim, key_dim, rank, pairs, size, rounds=rounds, folder=folder) for size in sizes]
    head = (
        "pairs a commit",
        "journal",
        "kernel, pairs/s",
        "one thread",
        "replay, pairs/s",
        "ratio",
        "of all rounds",
        "÷ one thread",
        "CPU",
        "µs: kernel",
        "reading",
        "all",
        "memory",
        "",
    )
    lines = [
        f"{machine}",
        f"{pairs:,} pairs, {dim} × {rank}, keys of {key_dim} numbers, medians of {rounds} rounds",
        f"wanted: a ratio of {RATIO_WANTED:g} or more",
        "",
        *table(
            head,
            [
                (
                    row.commit_pairs,
                    f"{row.journal_mib:.0f} MiB",
                    f"{row.kernel_rate:,.0f}",
                    f"{row.single_rate:,.0f}",
                    f"{row.replay_rate:,.0f}",
                    f"{row.ratio:.2f}",
                    f"{row.ratio_min:.2f}–{row.ratio_max:.2f}",
                    f"{row.single_ratio:.2f}",
                    f"{row.cpu_ratio:.2f}",
                    f"{row.kernel_us:.1f}",
                    f"{row.reading_us:.1f}",
                    f"{row.replay_us:.1f}",
                    f"{row.rss_mib:.0f} MiB",
                    "met" if row.ratio >= RATIO_WANTED else "NOT MET",
                )
                for row in rows
            ],
        ),
    ]
    _out(machine, rows, "\n".join(lines), "emm bench replay", as_json, page)
