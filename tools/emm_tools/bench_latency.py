"""`emm bench latency`: how long an answer takes, and in how much memory, at a size that a laboratory reaches.

Purpose: one command builds an archive of synthetic text, asks it questions in a process that has done nothing else, and
stores and prints what that took. Invariants: the time to embed a question is left out, for it belongs to the embedder;
in both modes what it takes while nothing else runs, for at once words are read meanwhile and each holds up the other;
the questions of a round are all different, so nothing is answered from an earlier answer; figures of the recalls at
once and one after the other come from the same run, and every single time is stored.
"""

from __future__ import annotations

import json
import multiprocessing
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from emm.testing.kernel_bench import about
from emm_tools.bench_pages import replace_block
from emm_tools.exits import InputProblem, MissingExtra, examples
from emm_tools.inspect_text import table

_FILE = click.Path(dir_okay=False, path_type=Path)
SEED_TEXT, SEED_QUESTIONS = 0, 7
P50_MS_MAX, P99_MS_MAX, RSS_MIB_MAX = 15.0, 60.0, 600  # the targets, at 100,000 passages on two cores
STEPS = ("roster", "vector", "matrix", "lexical", "fusion", "quotes", "evidence", "context")
MODES = {"at once": True, "one after the other": False}


def build(path: str, n_passages: int) -> None:
    """Fill a new archive; run in a process of its own, so that the measured one has only asked."""
    from emm_engine import Archive
    from emm_tools.bench_text import SyntheticText

    with Archive.create(path) as archive:
        archive.ingest(SyntheticText(SEED_TEXT).documents(n_passages), _scope())


def measure(path: Path, n_questions: int, rounds: int) -> dict[str, Any]:
    """Ask the same questions in both modes, each round in an archive opened anew."""
    from emm_engine import Archive
    from emm_tools.bench_text import SyntheticText

    questions = SyntheticText(SEED_QUESTIONS).questions(n_questions)
    found: dict[str, Any] = {name: [] for name in MODES}
    for number in range(rounds):
        for name, parallel in MODES.items():
            with Archive.open(path) as archive:
                archive.parallel = parallel
                found[name].append([archive.ask(question, _scope()).timings_ms for question in questions])
                (status,) = archive.tree()
        click.echo(f"measured: round {number + 1} of {rounds}", err=True)
    return {
        "machine": about(),
        "passages": status.passages,
        "matrix": f"{status.dim} × {status.rank}",
        "timings_ms": found,  # by mode, round and question
        "memory_mib": _memory(),
    }


def _scope() -> Any:
    from emm_engine import Scope

    return Scope("local", "general", "bench", "all")


@dataclass(frozen=True, slots=True)
class _Figures:
    """One mode: each question's time in milliseconds over the rounds, by the statistic; the first question apart."""

    totals: list[float]  # ascending, without the first question
    first: float
    steps: dict[str, float]  # medians over the questions
    p50s: list[float]  # of each round
    p99s: list[float]

    @classmethod
    def of(cls, rounds: list[list[dict[str, float]]], alone: list[list[dict[str, float]]], statistic: str) -> _Figures:
        """`alone`: the rounds of the mode in which nothing runs beside the embedder."""
        over: Callable[[Sequence[float]], float] = min if statistic == "minimum" else statistics.median
        totals = [
            [timings["total"] - quiet.get("embed", 0.0) for timings, quiet in zip(*pair, strict=True)]
            for pair in zip(rounds, alone, strict=True)
        ]
        every = [over(question) for question in zip(*totals, strict=True)]
        ordered = [sorted(each[1:]) for each in totals]
        steps = {
            step: statistics.median(over([each[at].get(step, 0.0) for each in rounds]) for at in range(1, len(every)))
            for step in STEPS
        }
        return cls(
            sorted(every[1:]),
            every[0],
            steps,
            [_percentile(each, 0.50) for each in ordered],
            [_percentile(each, 0.99) for each in ordered],
        )


def _percentile(ordered: list[float], share: float) -> float:
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def _memory() -> dict[str, int]:
    """MiB of this process: resident now and at most, of its own and of mapped files."""
    names = {"VmRSS": "resident", "VmHWM": "resident_max", "RssAnon": "own", "RssFile": "mapped"}
    lines = (line.split() for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines())
    return {names[line[0][:-1]]: int(line[1]) // 1024 for line in lines if line[0][:-1] in names}


def text_of(report: dict[str, Any], statistic: str) -> str:
    """The report as tables with its targets."""
    timings = report["timings_ms"]
    figures = {name: _Figures.of(rounds, timings["one after the other"], statistic) for name, rounds in timings.items()}
    n_rounds = len(report["timings_ms"]["at once"])
    n_questions = len(report["timings_ms"]["at once"][0])
    lines = [
        ", ".join(f"{name} {value}" for name, value in report["machine"].items() if value is not None),
        f"{report['passages']} passages of synthetic text in one run, matrix {report['matrix']}",
        f"{n_questions} questions, without embedding; the {statistic} of {n_rounds} rounds for each",
        "",
    ]
    head = ("recalls asked", "p50 ms", "of a round", "p90", "p99", "of a round", "max", "first answer")
    rows = [
        (
            name,
            _number(_percentile(each.totals, 0.50)),
            _spread(each.p50s),
            _number(_percentile(each.totals, 0.90)),
            _number(_percentile(each.totals, 0.99)),
            _spread(each.p99s),
            _number(each.totals[-1]),
            _number(each.first),
        )
        for name, each in figures.items()
    ]
    lines += table(head, rows)
    lines += ["", "steps, ms at the median (at once, matrix and lexical are what had to be waited for after vector):"]
    steps = [(name, *(_number(each.steps[step]) for step in STEPS)) for name, each in figures.items()]
    lines += table(("", *STEPS), steps)
    memory = report["memory_mib"]
    lines += [
        "",
        f"memory: {memory['resident_max']} MiB resident at most; at the end {memory['resident']}, of which "
        f"{memory['mapped']} mapped files",
        "",
    ]
    totals = figures["at once"].totals
    for what, found, target, unit in (
        ("p50", _percentile(totals, 0.50), P50_MS_MAX, "ms"),
        ("p99", _percentile(totals, 0.99), P99_MS_MAX, "ms"),
        ("memory", float(memory["resident_max"]), float(RSS_MIB_MAX), "MiB"),
    ):
        met = "met" if found <= target else "NOT MET"
        lines.append(f"target {what} ≤ {target:g} {unit}: {found:.1f} {unit}, {met}")
    return "\n".join(lines)


def _number(value: float) -> str:
    return f"{value:.1f}"


def _spread(values: list[float]) -> str:
    return f"{min(values):.1f} to {max(values):.1f}"


@contextmanager
def _archive(path: Path | None, n_passages: int) -> Iterator[Path]:
    """The archive at a path, built where there is nothing; without a path one that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="emm-latency-") as folder:
        place = path if path is not None else Path(folder, "archive")
        if not place.exists():
            click.echo(f"building an archive of {n_passages} passages, which takes minutes", err=True)
            worker = multiprocessing.get_context("spawn").Process(target=build, args=(str(place), n_passages))
            worker.start()
            worker.join()
            if worker.exitcode:
                raise InputProblem(f"{place} could not be built.")
        yield place


def load(path: Path) -> dict[str, Any]:
    """A stored run; refused when it does not print."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        text_of(found, "median")
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise InputProblem(f"{path} is not a run that --json has stored: {error}") from error
    return dict(found)


@click.command(
    epilog=examples(
        "emm bench latency --passages 10000 --questions 100",
        "emm bench latency --archive /tmp/hundred-thousand",
        "emm bench latency --json docs/benchmarks/latency.json --write docs/benchmarks/latency.md",
    )
)
@click.option("--passages", type=click.IntRange(100), default=100_000, show_default=True)
@click.option("--questions", type=click.IntRange(2), default=300, show_default=True, help="Asked in each round.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--statistic", type=click.Choice(["median", "minimum"]), default="median", show_default=True,
              help="Of a question over the rounds; on a busy machine the minimum.")  # fmt: skip
@click.option("--archive", type=click.Path(path_type=Path), help="Keep the archive here, and take it from here again.")
@click.option("--json", "store", type=_FILE, help="Store the run here.")
@click.option("--from", "stored", type=_FILE, help="Measure nothing: print a run that --json has stored.")
@click.option("--write", "page", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="Put the text into this page.")  # fmt: skip
def latency(
    passages: int,
    questions: int,
    rounds: int,
    statistic: str,
    archive: Path | None,
    store: Path | None,
    stored: Path | None,
    page: Path | None,
) -> None:
    """Time from question to context block, with words, vectors and matrix asked at once and one after the other.

    Builds an archive of synthetic text whose words are as common as those of real collections: the words of half of the
    questions are found in more than a fifth of all passages.
    """
    try:
        import sklearn  # noqa: F401

        import emm_engine  # noqa: F401
    except ImportError as error:
        raise MissingExtra("engine", error) from error
    if stored is not None:
        report = load(stored)
    else:
        with _archive(archive, passages) as place:
            report = measure(place, questions, rounds)
        if store is not None:
            store.parent.mkdir(parents=True, exist_ok=True)
            store.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    text = text_of(report, statistic)
    click.echo(text)
    if page is not None:
        replace_block(page, "emm bench latency", text)
