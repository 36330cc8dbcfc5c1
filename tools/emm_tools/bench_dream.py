"""`emm bench dream`: recall before and after a replay, stale answers before and after a dream, as tables and as JSON.

Purpose: one command measures, stores and prints, so the page and its numbers cannot drift apart. Invariants: the
first two tables come from the code that dreams run, on made-up pairs; the third from real dreams over archives of
made-up notes, through the reports that `emm dreams` shows; nothing needs the user's data.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from emm.testing.machine import Machine, this_machine
from emm_tools.bench_pages import replace_block
from emm_tools.exits import MissingExtra, examples
from emm_tools.inspect_text import table

BLOCK = "emm bench dream"


@click.command(
    epilog=examples(
        "emm bench dream",
        "emm bench dream --json docs/benchmarks/dream.json --write docs/benchmarks/dream.md",
    )
)
@click.option("--json", "store", type=click.Path(dir_okay=False, path_type=Path), help="Store the figures here.")
@click.option(
    "--write", "page", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Put the text into this page."
)
def dream(store: Path | None, page: Path | None) -> None:
    """What a dream does for recall under rule 1, and to stale answers under both rules.

    Top-1 is the share of keys whose own value is the nearest of all that were ever given; held-out queries lie at
    cosine 0.9 to the keys. A stale answer is a label that only superseded notes carried.
    """
    try:
        from emm_engine.dream.worth import SEEDS, VERSIONS, measure_replay, measure_stale
        from emm_tools.bench_dream_archives import N_NOTES, N_VERSIONS, archive_row
    except ImportError as error:
        raise MissingExtra("engine", error) from error
    report = {
        "machine": dataclasses.asdict(this_machine()),
        "seeds": list(SEEDS),
        "versions": VERSIONS,
        "notes": [N_NOTES, N_VERSIONS],
        "replay": [dataclasses.asdict(row) for row in measure_replay()],
        "stale": [dataclasses.asdict(row) for row in measure_stale()],
        "archives": [archive_row(rule) for rule in ("preconditioned", "gated-delta")],
    }
    text = "\n".join(text_of(report))
    click.echo(text)
    if store is not None:
        store.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if page is not None:
        replace_block(page, BLOCK, text)


def text_of(report: dict[str, Any]) -> Iterator[str]:
    """The tables."""
    replay, stale, archives = report["replay"], report["stale"], report["archives"]
    yield str(Machine(**report["machine"]))
    yield f"means over {len(report['seeds'])} seeds, values of 768 random numbers"
    yield ""
    yield f"rule 1, {replay[0]['n_pairs']} pairs at rank {replay[0]['rank']}, before and after extra writes"
    yield from _rows(
        ("keys", "way", "extra ÷ pairs", "top-1", "least of seeds", "held-out queries", "cosine"),
        (
            (r["keys"], r["way"], r["budget"], *_three(r["top1"], r["top1_least"], r["top1_held_out"], r["cosine"]))
            for r in replay
        ),
    )
    yield ""
    changes = report["versions"] - 1
    yield f"{stale[0]['n_keys']} text-like keys whose value changed {changes} times, rank {replay[0]['rank']}"
    yield from _rows(
        ("rule", "", "latest", "stale", "other"),
        ((r["rule"], r["way"], *_three(r["latest"], r["stale"], r["other"])) for r in stale),
    )
    yield ""
    n_notes, n_versions = report["notes"]
    yield f"a dream over {n_notes} notes of which every other has {n_versions} versions"
    yield from _rows(
        ("rule", "superseded", "replayed", "stale answers", "top-1", "cosine", "held-out cosine", "writes", "s"),
        (
            (
                r["rule"],
                r["superseded"],
                r["replayed"],
                f"{r['stale_before'][0]} of {r['stale_before'][1]} → {r['stale_after'][0]} of {r['stale_after'][1]}",
                *(
                    f"{r['recall_before'][name]:.3f} → {r['recall_after'][name]:.3f}"
                    for name in ("top1", "cosine", "held_out_cosine")
                ),
                r["writes"],
                f"{r['seconds']:.1f}",
            )
            for r in archives
        ),
    )


def _rows(head: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> list[str]:
    return list(table(head, list(rows)))


def _three(*figures: float) -> Iterator[str]:
    return (f"{figure:.3f}" for figure in figures)
