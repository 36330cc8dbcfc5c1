"""`emm bench capacity`: what a memory holds, under which rule, and which targets that meets.

Purpose: print the tables of `emm.testing.targets`, or put them into a page. Invariants: every figure is computed in
this run; targets are printed whether they are met or not; a family with too few keys says so.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import click
import numpy as np

from emm.testing.capacity import CapacityRow
from emm.testing.keys import KeyFamily, given_keys
from emm.testing.machine import this_machine
from emm.testing.targets import LOADS, CapacityReport, measure_capacity
from emm_tools.bench_pages import replace_block
from emm_tools.exits import InputProblem, MissingExtra, examples
from emm_tools.inspect_text import table

GIVEN = "given"
BLOCK = "emm bench capacity"


@click.command(
    epilog=examples(
        "emm bench capacity",
        "emm bench capacity --rank 64 --rank 256 --load 1 --load 8",
        "emm bench capacity --keys embeddings.npy --json",
        "emm bench capacity --writes 1000000 --write docs/capacity.md",
    )
)
@click.option("--rank", "ranks", type=click.IntRange(16), multiple=True, default=(64,), show_default=True)
@click.option(
    "--load",
    "loads",
    type=click.FloatRange(0, 64, min_open=True),
    multiple=True,
    default=LOADS,
    help="Pairs ÷ rank [default: 0.25, 0.5, 1, 2, 4, 8, 16].",
)
@click.option("--dim", type=click.IntRange(1), default=768, show_default=True, help="Numbers in a value.")
@click.option("--key-dim", type=click.IntRange(16), help="Numbers in a synthetic key [default: 2 · rank].")
@click.option(
    "--keys", "keys_file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Your own: .npy."
)
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    envvar="EMM_DATA",
    show_envvar=True,
    help="Folder of public corpora, whose embeddings are keys as well.",
)
@click.option(
    "--writes", type=click.IntRange(0), default=100_000, show_default=True, help="For P's endurance; 0: none."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, its table named in it.")
@click.option(
    "--write", "page", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Put the text into this page."
)
def capacity(
    ranks: tuple[int, ...],
    loads: tuple[float, ...],
    dim: int,
    key_dim: int | None,
    keys_file: Path | None,
    data: Path | None,
    writes: int,
    seed: int,
    as_json: bool,
    page: Path | None,
) -> None:
    """What the three rules hold, with the least-squares limit and v3's cell beside them.

    Keys are isotropic, text-like (shared mean, spectrum 1/i, mean cosine 0.3), clustered, and your own. Top-1 is among
    all stored values, asked with the key and with a paraphrase of it (cosine 0.9). "functional" is Σ cos² ÷ rank, 1 at
    the limit of N = rank exact pairs; "structural" is M's effective rank ÷ rank and says nothing about recall.
    """
    given = _given(keys_file, data)
    printed: list[str] = [] if as_json else [str(this_machine()), _command(ranks, loads, dim, key_dim, writes, seed)]
    for rank in ranks:
        reports = [measure_capacity(rank, loads, seed, dim=dim, key_dim=key_dim, n_writes=writes, progress=_progress)]
        for name, rows in given.items():
            if rank > rows.shape[1]:
                raise InputProblem(f"rank {rank} is above the {rows.shape[1]} numbers of a key of {name}.")
            family: Mapping[str, KeyFamily] = {name: given_keys(rows)}
            most = {name: len(rows)}
            reports.append(
                measure_capacity(
                    rank, loads, seed, dim=dim, key_dim=rows.shape[1], families=family, n_keys_max=most, n_writes=0,
                    ridges=(), progress=_progress,
                )
            )  # fmt: skip
        for report in reports:
            if as_json:
                for line in _json_lines(report):
                    click.echo(line)
            else:
                printed += ["", *_text(report)]
    if not as_json:
        text = "\n".join(printed)
        click.echo(text)
        if page is not None:
            replace_block(page, BLOCK, text)


def _given(keys_file: Path | None, data: Path | None) -> dict[str, np.ndarray]:
    found = {}
    if keys_file is not None:
        try:
            rows = np.load(keys_file, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise InputProblem(f"{keys_file} is not a .npy file of numbers ({error}).") from error
        given_keys(rows)  # refuses what cannot be keys
        found[GIVEN] = rows
    if data is not None:
        try:
            from emm_tools.bench_corpora import embeddings_below

            found["real text"] = embeddings_below(data)
        except ImportError as error:
            raise MissingExtra("engine", error) from error
    return found


def _progress(what: str) -> None:
    if sys.stderr.isatty():
        click.echo(f"{what} …", err=True)


def _command(
    ranks: Sequence[int], loads: Sequence[float], dim: int, key_dim: int | None, writes: int, seed: int
) -> str:
    keys = "2 · rank" if key_dim is None else f"{key_dim}"
    return (
        f"rank {', '.join(map(str, ranks))}; loads {', '.join(f'{load:g}' for load in loads)}; "
        f"values of {dim} numbers; synthetic keys of {keys} numbers; {writes:,} writes for P; seed {seed}"
    )


def _json_lines(report: CapacityReport) -> Iterator[str]:
    for row in report.rows:
        yield json.dumps({"table": "capacity", **dataclasses.asdict(row)})
    for ridge, row in report.ridges:
        yield json.dumps({"table": "ridge", "ridge": ridge, **dataclasses.asdict(row)})
    for name in ("rewrites", "exact", "endurance", "targets"):
        for each in getattr(report, name):
            yield json.dumps({"table": name, **dataclasses.asdict(each)})


def _text(report: CapacityReport) -> Iterator[str]:
    for name in dict.fromkeys(row.keys for row in report.rows):
        mine = [row for row in report.rows if row.keys == name]
        yield f"{name} keys, rank {mine[0].rank} (in brackets: asked with a paraphrase)"
        yield from _capacity_table(mine)
        yield ""
    if report.ridges:
        yield "what λ does: rule 2, text-like keys, load 1"
        rows = [
            (f"2^{int(np.log2(ridge))}", f"{row.top1:.2f}", f"{row.of_limit:.3f}", f"{row.distance:.1e}")
            for ridge, row in report.ridges
        ]
        yield from table(("λ", "top-1", "functional ÷ that of λ → 0", "distance from float64"), rows)
        yield ""
    yield "five versions of every key, one after another; the answer is …"
    yield from table(
        ("keys", "load", "way", "the latest", "a stale one", "another key's", "refused"),
        [
            (
                row.keys,
                f"{row.load:g}",
                row.way,
                f"{row.latest:.2f}",
                f"{row.stale:.2f}",
                f"{row.other:.2f}",
                row.refused,
            )
            for row in report.rewrites
        ],
    )
    yield ""
    yield "rule 2 beside the straight way, relative Frobenius distance"
    yield from table(
        ("keys", "load", "operation", "of M", "of P", "refused"),
        [
            (row.keys, f"{row.load:g}", row.what, f"{row.distance:.1e}", f"{row.gain_distance:.1e}", row.refused)
            for row in report.exact
        ],
    )
    if report.endurance:
        yield ""
        yield "P over many writes, β log-uniform in 2^-10 … 32; eigenvalue and diagonal times λ"
        yield from table(
            ("scenario", "writes", "looks", "findings of verify", "smallest eigenvalue", "largest diagonal"),
            [
                (
                    row.scenario,
                    f"{row.n_writes:,}",
                    row.looks,
                    row.findings,
                    f"{row.smallest:.1e}",
                    f"{row.largest:.2g}",
                )
                for row in report.endurance
            ],
        )
    yield ""
    yield "targets of rule 2"
    yield from table(
        ("", "target", "wanted", "found", "worst at"),
        [
            ("met" if each.met else "NOT MET", each.name, each.wanted, f"{each.found:.3g}", each.where)
            for each in report.targets
        ],
    )


def _capacity_table(rows: Sequence[CapacityRow]) -> list[str]:
    """One line a load and rule; values without and with mean cosine 0.3 side by side."""
    alike = {(row.load, row.rule): row for row in rows if row.value_cosine}
    cells = []
    for row in rows:
        if row.value_cosine:
            continue
        other = alike.get((row.load, row.rule))
        cells.append(
            (
                f"{row.load:g}",
                row.n_pairs,
                row.rule,
                f"{row.top1:.2f} ({row.top1_paraphrase:.2f})",
                "" if other is None else f"{other.top1:.2f} ({other.top1_paraphrase:.2f})",
                f"{row.mean_cosine:.2f}",
                f"{row.error:.2f}",
                f"{row.functional:.2f}",
                f"{row.of_limit:.2f}",
                f"{row.structural:.2f}",
                f"{row.saturation:.2f}",
            )
        )
    head = (
        "load",
        "pairs",
        "rule",
        "top-1",
        "values alike",
        "cosine",
        "error",
        "functional",
        "÷ λ→0",
        "struct.",
        "sat.",
    )
    return table(head, cells)
