"""`emm bench kernel`: the kernel beside what a user would take instead, as tables and as JSON.

Purpose: one command measures, stores and prints; a stored run is printed again by `--from`, so a page and its numbers
cannot drift apart. Invariants: nothing is computed from two runs; a peer that is not installed has a dash.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from emm.testing.kernel_bench import PAIRS, ROUNDS, about, limited, limits, sections
from emm_tools.bench_pages import replace_block
from emm_tools.exits import InputProblem, examples
from emm_tools.inspect_text import table

_FILE = click.Path(dir_okay=False, path_type=Path)
_PEERS = {"NumPy loop": "numpy loop", "SciPy": "scipy sgemv/sger", "torch mv": "torch mv/addr_", "torch WY": "torch WY"}
_DELTA = "emm rule 1"
_CALLS = ["dim × rank", "one write", "NumPy ÷", "two passes ÷", "rule 2", "recall", "NumPy ÷",
          "recall of 256", "NumPy ÷", "torch ÷"]  # fmt: skip


def measure(threads: Iterable[int], rounds: int) -> Iterator[dict[str, Any]]:
    """The report of a run, again after each number of threads: what has been measured is kept."""
    report: dict[str, Any] = {"machine": about(), "rounds": rounds, "runs": []}
    for n in threads:
        with limited(n):
            run: dict[str, Any] = {"threads": n, "limits": limits(rounds), "sections": []}
            for section in sections(n, rounds):
                run["sections"].append(section)
                click.echo(f"measured: {section['title']}", err=True)
        report["runs"].append(run)
        yield report


def text_of(report: dict[str, Any], statistic: str) -> str:
    """The tables of one report; "÷" columns say how many times as long a peer takes as the kernel."""
    lines = [", ".join(f"{name} {value}" for name, value in report["machine"].items())]
    of_rounds = {"median": "medians", "minimum": "the least"}[statistic]
    lines.append(f"µs a write or query, {of_rounds} of {report['rounds']} rounds; ÷ n: n × the kernel's time")
    first = report["runs"][0]
    for run in report["runs"]:
        lines += ["", *_run(run, None if run is first or first["threads"] != 1 else first, statistic)]
    return "\n".join(lines)


def _run(run: dict[str, Any], one: dict[str, Any] | None, statistic: str) -> Iterator[str]:
    peak = run["limits"]["sgemm_gflops"]
    bound = f"sgemm {peak:.0f} GFLOP/s, triad {run['limits']['triad_gb_s']:.0f} GB/s"
    yield f"threads: {run['threads']} ({bound})"
    batches = [each for each in run["sections"] if "alpha" in each]
    alone = [each for each in one["sections"] if "alpha" in each] if one is not None else []
    head = ["dim × rank", "α", f"batch of {PAIRS}", "quartiles", *(f"{name} ÷" for name in _PEERS), "GFLOP/s"]
    head += ["of sgemm", "rule 2 ÷ rule 1"] + (["one thread ÷"] if alone else [])
    rows = []
    for number, section in enumerate(batches):
        figures = section["figures"]
        mine = figures[_DELTA][statistic]
        rate = 4 * section["dim"] * section["rank"] / mine / 1e3
        row: list[object] = [_shape(section), f"{section['alpha']:g}", f"{mine:.2f}", _spread(figures[_DELTA])]
        row += [_ratio(_best(figures, peer, statistic), mine) for peer in _PEERS.values()]
        row += [f"{rate:.0f}", f"{rate / peak:.2f}", _ratio(figures["emm rule 2"][statistic], mine)]
        if alone:
            row.append(_ratio(alone[number]["figures"][_DELTA][statistic], mine))
        rows.append(row)
    yield from table(head, rows)
    yield ""
    calls = [each for each in run["sections"] if "alpha" not in each and "dim" in each]
    yield from table(_CALLS, [_call(each, statistic) for each in calls])
    small = next(each for each in run["sections"] if "dim" not in each)["figures"]
    yield "; ".join(f"{name}: {figure[statistic]:.2f}" for name, figure in small.items())


def _call(section: dict[str, Any], statistic: str) -> list[object]:
    """`two passes`: what a write cannot avoid, made by others: M read once (sgemv), then changed in place once."""
    figures = section["figures"]
    passes = figures["numpy recall"][statistic] + figures["numpy in place"][statistic]
    write, recall, many = (figures[f"emm {what}"][statistic] for what in ("write, rule 1", "recall", "recall, 256"))
    return [
        _shape(section),
        f"{write:.1f}",
        _ratio(_best(figures, "numpy write", statistic), write),
        _ratio(passes, write),
        f"{figures['emm write, rule 2'][statistic]:.1f}",
        f"{recall:.1f}",
        _ratio(figures["numpy recall"][statistic], recall),
        f"{many:.2f}",
        _ratio(figures["numpy recall, 256"][statistic], many),
        _ratio(_best(figures, "torch recall, 256", statistic), many),
    ]


def _shape(section: dict[str, Any]) -> str:
    return f"{section['dim']} × {section['rank']}"


def _spread(figure: dict[str, float]) -> str:
    return f"{figure['q1']:.2f} to {figure['q3']:.2f}"


def _best(figures: dict[str, dict[str, float]], peer: str, statistic: str) -> float | None:
    """The shortest time of a peer that comes in several sizes, such as the WY form's chunks."""
    return min((each[statistic] for name, each in figures.items() if name.startswith(peer)), default=None)


def _ratio(theirs: float | None, mine: float) -> str:
    return "–" if theirs is None else f"{theirs / mine:.2f}"


def _load(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        text_of(found, "median")
    except (OSError, ValueError, KeyError, TypeError, IndexError, StopIteration) as error:
        raise InputProblem(f"{path} is not a run that --json has stored: {error}") from error
    return dict(found)


@click.command(
    epilog=examples(
        "emm bench kernel",
        "emm bench kernel --threads 1 --rounds 3 --statistic minimum",
        "emm bench kernel --json docs/benchmarks/kernel.json --write docs/benchmarks/kernel.md",
    )
)
@click.option("--threads", type=click.IntRange(1, 64), multiple=True, default=(1, 2), help="[default: 1, 2]")
@click.option("--rounds", type=click.IntRange(1), default=ROUNDS, show_default=True)
@click.option("--statistic", type=click.Choice(["median", "minimum"]), default="median", show_default=True,
              help="On a busy machine the minimum: a median then times the neighbours.")  # fmt: skip
@click.option("--json", "store", type=_FILE, help="Store the run here, every figure with its quartiles.")
@click.option("--from", "stored", type=_FILE, help="Measure nothing: print a run that --json has stored.")
@click.option("--write", "page", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="Put the text into this page.")  # fmt: skip
def kernel(
    threads: tuple[int, ...],
    rounds: int,
    statistic: str,
    store: Path | None,
    stored: Path | None,
    page: Path | None,
) -> None:
    """The kernel against NumPy, SciPy and torch, in one run in which all take turns; about ten minutes.

    Peers that are not installed are left out (the extra "bench" has them). The WY form is the chunkwise one of Gated
    DeltaNet, with the better of two chunk sizes.
    """
    if stored is not None:
        report = _load(stored)
    else:
        for report in measure(threads, rounds):
            if store is not None:
                store.parent.mkdir(parents=True, exist_ok=True)
                store.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    text = text_of(report, statistic)
    click.echo(text)
    if page is not None:
        replace_block(page, "emm bench kernel", text)
