"""`emm bench latency`: how long an answer takes, and in how much memory, at a size that a laboratory reaches.

Purpose: one command builds an archive of synthetic text, asks it questions in a process that has done nothing else, and
stores and prints what that took. Invariants: the time to embed a question is left out, for it belongs to the embedder;
the questions of a round are all different, so nothing is answered from an earlier answer; figures of the recalls at
once and one after the other come from the same run.
"""

from __future__ import annotations

import json
import multiprocessing
import statistics
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
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
STEPS = ("roster", "lexical", "vector", "matrix", "waiting", "fusion", "quotes", "evidence", "context")
MODES = {"at once": True, "one after the other": False}


def build(path: str, n_passages: int) -> None:
    """Fill a new archive; run in a process of its own, so that the measured one has only asked."""
    from emm_engine import Archive
    from emm_tools.bench_text import SyntheticText

    with Archive.create(path) as archive:
        archive.ingest(SyntheticText(SEED_TEXT).documents(n_passages), _scope())


def measure(path: Path, n_questions: int, rounds: int) -> dict[str, Any]:
    """Ask in both modes, each round in an archive opened anew with questions of its own."""
    from emm_engine import Archive
    from emm_tools.bench_text import SyntheticText

    text = SyntheticText(SEED_QUESTIONS)
    found: dict[str, Any] = {name: [] for name in MODES}
    for _ in range(rounds):
        questions = text.questions(n_questions)
        for name, parallel in MODES.items():
            with Archive.open(path) as archive:
                archive.parallel = parallel
                timings = [archive.ask(question, _scope()).timings_ms for question in questions]
                (status,) = archive.tree()
            found[name].append(_round(timings))
    return {
        "machine": about(),
        "passages": status.passages,
        "matrix": f"{status.dim} × {status.rank}",
        "questions": n_questions,
        "rounds": rounds,
        "modes": found,
        "memory_mib": _memory(),
    }


def _scope() -> Any:
    from emm_engine import Scope

    return Scope("local", "general", "bench", "all")


def _round(timings: list[dict[str, float]]) -> dict[str, Any]:
    """Percentiles of a round; its first answer, which opens and reads everything, stands apart."""
    first, *others = [t["total"] - t["embed"] for t in timings]
    others.sort()
    return {
        "first_ms": first,
        "p50_ms": _percentile(others, 0.50),
        "p90_ms": _percentile(others, 0.90),
        "p99_ms": _percentile(others, 0.99),
        "max_ms": others[-1],
        "embed_p50_ms": statistics.median(t["embed"] for t in timings[1:]),
        "steps_p50_ms": {step: statistics.median(t.get(step, 0.0) for t in timings[1:]) for step in STEPS},
    }


def _percentile(ordered: list[float], share: float) -> float:
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def _memory() -> dict[str, int]:
    """MiB of this process: resident now and at most, of its own and of mapped files."""
    names = {"VmRSS": "resident", "VmHWM": "resident_max", "RssAnon": "own", "RssFile": "mapped"}
    lines = (line.split() for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines())
    return {names[line[0][:-1]]: int(line[1]) // 1024 for line in lines if line[0][:-1] in names}


def text_of(report: dict[str, Any]) -> str:
    """The report as a table with its targets."""
    lines = [
        ", ".join(f"{name} {value}" for name, value in report["machine"].items() if value is not None),
        f"{report['passages']} passages of synthetic text in one run, matrix {report['matrix']}; {report['rounds']} "
        f"rounds of {report['questions']} different questions, without embedding",
        "",
    ]
    head = ("recalls asked", "p50 ms", "spread", "p90", "p99", "spread", "max", "first answer")
    rows = []
    for name, rounds in report["modes"].items():
        p50, p99 = (_of(rounds, key) for key in ("p50_ms", "p99_ms"))
        rows.append(
            (
                name,
                _number(statistics.median(p50)),
                _spread(p50),
                _number(statistics.median(_of(rounds, "p90_ms"))),
                _number(statistics.median(p99)),
                _spread(p99),
                _number(max(_of(rounds, "max_ms"))),
                _number(statistics.median(_of(rounds, "first_ms"))),
            )
        )
    lines += table(head, rows)
    steps = [(name, *(_step(rounds, step) for step in STEPS)) for name, rounds in report["modes"].items()]
    lines += ["", "medians of the steps, ms (lexical and matrix run beside vector):", *table(("", *STEPS), steps)]
    memory = report["memory_mib"]
    lines += [
        "",
        f"memory: {memory['resident_max']} MiB resident at most; at the end {memory['resident']}, of which "
        f"{memory['mapped']} mapped files",
        "",
        *_verdicts(report),
    ]
    return "\n".join(lines)


def _verdicts(report: dict[str, Any]) -> Iterator[str]:
    rounds = report["modes"]["at once"]
    for what, found, target, unit in (
        ("p50", statistics.median(_of(rounds, "p50_ms")), P50_MS_MAX, "ms"),
        ("p99", statistics.median(_of(rounds, "p99_ms")), P99_MS_MAX, "ms"),
        ("memory", float(report["memory_mib"]["resident_max"]), float(RSS_MIB_MAX), "MiB"),
    ):
        yield f"target {what} ≤ {target:g} {unit}: {found:.1f} {unit}, {'met' if found <= target else 'NOT MET'}"


def _of(rounds: Iterable[dict[str, Any]], key: str) -> list[float]:
    return [float(each[key]) for each in rounds]


def _step(rounds: Iterable[dict[str, Any]], step: str) -> str:
    return _number(statistics.median(each["steps_p50_ms"][step] for each in rounds))


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
        text_of(found)
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
@click.option("--questions", type=click.IntRange(2), default=300, show_default=True, help="Of each round.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--archive", type=click.Path(path_type=Path), help="Keep the archive here, and take it from here again.")
@click.option("--json", "store", type=_FILE, help="Store the run here.")
@click.option("--from", "stored", type=_FILE, help="Measure nothing: print a run that --json has stored.")
@click.option("--write", "page", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="Put the text into this page.")  # fmt: skip
def latency(
    passages: int,
    questions: int,
    rounds: int,
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
    text = text_of(report)
    click.echo(text)
    if page is not None:
        replace_block(page, "emm bench latency", text)
