"""`emm bench vectors`: the vector store under churn, beside exact search and hnswlib.

Purpose: what deletions, replacements and many namespaces do to recall, latency, memory and disk. Invariants: every
contender is measured in processes of its own, one after the other, in one run; ratios are to the segments of this
run; a stored run is printed again by `--from`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click

from emm.testing.machine import this_machine
from emm_tools.bench_pages import replace_block
from emm_tools.exits import InputProblem, MissingExtra, examples
from emm_tools.inspect_text import table
from emm_tools.vectors_churn import DELETED, EF_SEARCH, LARGE_SHARE, REPLACED, Workload

CONTENDERS: Final = ("segments", "exact", "hnswlib", "hnswlib shared")
_FILE: Final = click.Path(dir_okay=False, path_type=Path)


def measure(workload: Workload, folder: Path) -> Iterator[dict[str, Any]]:
    """The report, again after each contender: what has been measured is kept."""
    report: dict[str, Any] = {
        "machine": str(this_machine()),
        "workload": {**dataclasses.asdict(workload), "vectors": Path(workload.vectors).name},
        "contenders": {},
    }
    for name in CONTENDERS:
        place = folder / name.replace(" ", "-")
        given = {"contender": name, "folder": str(place), "workload": dataclasses.asdict(workload)}
        try:
            report["contenders"][name] = {each: _in_child({**given, "phase": each}) for each in ("churn", "ask")}
        finally:
            shutil.rmtree(place, ignore_errors=True)
        click.echo(f"measured: {name}", err=True)
        yield report


def _in_child(given: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "emm_tools.vectors_churn", json.dumps(given)],
        capture_output=True,
        text=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
    )
    if done.returncode:
        raise RuntimeError(f"{given['contender']}, {given['phase']}: {done.stderr.strip()[-300:]}")
    return dict(json.loads(done.stdout))


def text_of(report: dict[str, Any]) -> str:
    """The table of one report."""
    load, found = report["workload"], report["contenders"]
    mine = found["segments"]
    rows = []
    for name, each in found.items():
        asked, lived = each["ask"], each["churn"]
        seconds = lived["seconds"]
        rows.append(
            (
                name,
                f"{asked['recall_large']:.3f}",
                f"{asked['recall_small']:.3f}",
                _beside(asked["p50_ms"], mine["ask"]["p50_ms"], "{:.2f}"),
                _beside(asked["p99_ms"], mine["ask"]["p99_ms"], "{:.2f}"),
                f"{asked['anonymous_bytes'] / 1e6:.0f}",
                f"{asked['mapped_bytes'] / 1e6:.0f}",
                _beside(lived["disk_bytes"] / 1e6, mine["churn"]["disk_bytes"] / 1e6, "{:.0f}"),
                _beside(sum(seconds.values()), sum(mine["churn"]["seconds"].values()), "{:.0f}"),
                f"{asked['open_s']:.2f}",
            )
        )
    measures = "recall@10 large|small|p50 ms (÷)|p99 ms (÷)|MB own|mapped|MB disk (÷)|churn s (÷)|open s"
    head = ("", *measures.split("|"))
    made = load["vectors"] or "made up, in topics"
    guard = mine["ask"]["guard"]
    searched = "every search was exact" if guard["search_k"] is None else f"search_k {guard['search_k']}"
    return "\n".join(
        [
            report["machine"],
            f"{load['n']} vectors of {load['dim']} numbers ({made}) in {load['n_namespaces']} namespaces, "
            f"{LARGE_SHARE:.0%} of them in the large one; {DELETED:.0%} deleted, {REPLACED:.0%} replaced; "
            f"{load['n_queries']} questions, half of them to the large one",
            f"one thread; ÷ n: n × the segments' figure; hnswlib with ef {EF_SEARCH}, in memory until saved as a whole",
            f"guard of the large namespace: recall {guard['recall']:.3f} over {guard['n_checked']} checks, {searched}",
            "",
            *table(head, rows),
        ]
    )


def _beside(value: float, mine: float, form: str) -> str:
    return f"{form.format(value)} ({value / mine:.2f})" if mine > 0 else form.format(value)


def _load(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        text_of(found)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputProblem(f"{path} is not a run that --json has stored: {error}") from error
    return dict(found)


@click.command(
    epilog=examples(
        "emm bench vectors",
        "emm bench vectors --vectors 20000 --dim 64 --namespaces 5 --queries 200",
        "emm bench vectors --json docs/benchmarks/vectors.json --write docs/benchmarks/vectors.md",
    )
)
@click.option("--vectors", "n", type=click.IntRange(1000), default=100_000, show_default=True, help="Before the churn.")
@click.option("--dim", type=click.IntRange(8, 16_000), default=384, show_default=True)
@click.option("--namespaces", type=click.IntRange(2, 1000), default=20, show_default=True)
@click.option("--queries", type=click.IntRange(50), default=1000, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True)
@click.option("--rows", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="Vectors of your own: an .npy file, (at least 1.2 × vectors + queries, dim).")  # fmt: skip
@click.option("--folder", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Where stores are made.")
@click.option("--json", "store", type=_FILE, help="Store the run here.")
@click.option("--from", "stored", type=_FILE, help="Measure nothing: print a run that --json has stored.")
@click.option("--write", "page", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="Put the text into this page.")  # fmt: skip
def vectors(
    n: int,
    dim: int,
    namespaces: int,
    queries: int,
    seed: int,
    rows: Path | None,
    folder: Path | None,
    store: Path | None,
    stored: Path | None,
    page: Path | None,
) -> None:
    """The vector store under churn: half of the vectors deleted, a fifth replaced; about ten minutes.

    Beside it exact search over the log, hnswlib with an index for each namespace, and hnswlib with one index for all
    that is filtered afterwards; each on one thread. hnswlib comes with the extra "bench".
    """
    if stored is not None:
        report = _load(stored)
    else:
        try:
            import hnswlib  # noqa: F401  measured in processes of their own
        except ImportError as error:
            raise MissingExtra("bench", error) from error
        workload = Workload(n, dim, namespaces, queries, seed, str(rows.absolute()) if rows is not None else "")
        with tempfile.TemporaryDirectory(prefix="emm-bench-", dir=folder) as place:
            for report in measure(workload, Path(place)):
                if store is not None:
                    store.parent.mkdir(parents=True, exist_ok=True)
                    store.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    text = text_of(report)
    click.echo(text)
    if page is not None:
        replace_block(page, "emm bench vectors", text)
