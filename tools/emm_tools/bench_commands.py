"""`emm bench`: the group, and `emm bench heldout`; each table has the parameters that it depends on above it.

Purpose: let a person see on their own machine what a memory holds, and what it is worth on their own text. Invariant:
every figure is computed in this run.
"""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from emm_tools.bench_ancestors import ancestors
from emm_tools.bench_capacity import capacity
from emm_tools.bench_dream import dream
from emm_tools.bench_engine import engine
from emm_tools.bench_ingest import ingest
from emm_tools.bench_kernel import kernel
from emm_tools.bench_latency import latency
from emm_tools.bench_pairs import pairs
from emm_tools.bench_scale import scale
from emm_tools.bench_speed import growth, replay
from emm_tools.bench_upgrade import upgrade
from emm_tools.bench_vectors import vectors
from emm_tools.exits import InputProblem, MissingExtra, OneSentenceGroup, examples, printable
from emm_tools.inspect_text import table

if TYPE_CHECKING:
    from emm_engine import Document
    from emm_engine.matrices.holdout import HoldoutReport

KINDS = ("package", "tag", "project", "folder", "module")  # labels worth predicting, most telling first
LABELS_MIN = 2


@click.group(cls=OneSentenceGroup, epilog=examples("emm bench capacity", "emm bench heldout --machine"))
def bench() -> None:
    """Measure what a memory holds, what it costs, and what it is worth on real text."""


for _each in (
    ancestors,
    capacity,
    dream,
    engine,
    growth,
    ingest,
    kernel,
    latency,
    pairs,
    replay,
    scale,
    upgrade,
    vectors,
):
    bench.add_command(_each)


def predictable_kind(documents: Iterable[Document]) -> tuple[str, int] | None:
    """(kind, dated documents with it) of the most telling kind of label that takes at least two values."""
    names: dict[str, set[str]] = defaultdict(set)
    counts: dict[str, int] = defaultdict(int)
    for document in documents:
        if document.date:
            for kind, labels in itertools.groupby(sorted(document.labels), key=lambda label: label.kind):
                names[kind] |= {label.name for label in labels}
                counts[kind] += 1
    return next(((kind, counts[kind]) for kind in KINDS if len(names[kind]) >= LABELS_MIN), None)


@bench.command(
    epilog=examples(
        "emm bench heldout --machine",
        "emm bench heldout notes/ --label tag",
        "emm bench heldout --table runs.csv --label yield",
        "emm bench heldout --machine --json",
    )
)
@click.argument("folders", nargs=-1, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--machine", is_flag=True, help="What this machine already holds: changelogs, or Python's own docs.")
@click.option("--table", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Outcomes from conditions.")
@click.option("--window", help="Of a table that is a series: rows (1000) or a time (10min).")
@click.option("--label", "kind", help="Kind of label, or outcome column, to predict [default: the most telling].")
@click.option("--json", "as_json", is_flag=True, help="The report as one JSON object.")
def heldout(
    folders: tuple[Path, ...], machine: bool, table: Path | None, window: str | None, kind: str | None, as_json: bool
) -> None:
    """Learn the older 70 % of the entries, predict a label of the newer ones.

    Of a table, the outcomes of rows from their conditions alone: of the later rows where all are dated, else of rows
    drawn by a hash of their place.

    The matrix against nearest neighbours (the best of several k, chosen in their favour) against always guessing the
    commonest labels. The embedder sees the older part only. Nobody wins a tie, nor where |z| < 2 in the sign test
    over the entries that just one of matrix and neighbours got right.
    """
    try:
        from emm_engine import documents_below, machine_documents
        from emm_engine.matrices.holdout import entries_of, holdout
    except ImportError as error:
        raise MissingExtra("engine", error) from error
    if bool(folders) + machine + (table is not None) != 1:
        raise click.UsageError("give folders, --machine or --table.")
    if table is not None:
        _table_heldout(table, window, kind, as_json)
        return
    source = machine_documents()[1] if machine else itertools.chain.from_iterable(map(documents_below, folders))
    documents = list(source)
    if kind is None:
        found = predictable_kind(documents)
        kind = found[0] if found is not None else KINDS[0]
    report = holdout(entries_of(documents, kind))
    if as_json:
        click.echo(json.dumps(report.to_dict()))
        return
    click.echo(
        f"learnt {report.n_learnt} entries older than {report.split_date[:10]}, then predicted the {kind} of "
        f"{report.n_predicted} newer ones among {report.n_labels}"
    )
    click.echo(
        f"({report.n_unseen} newer entries have a {kind} that no older one had; {report.n_named} name it in their text)"
    )
    _tell_scores(report)


def _table_heldout(path: Path, window: str | None, column: str | None, as_json: bool) -> None:
    """Outcomes from conditions, of rows that were not learnt."""
    from emm_engine import Intake, Settings
    from emm_engine.matrices.holdout import entries_of_pairs, holdout
    from emm_engine.sources import Window

    settings = Settings(
        format="table",
        window=Window.parse(window) if window is not None else None,
        outcomes=frozenset({column.lower()} if column is not None and window is None else ()),
    )
    problems: list[str] = []
    intake = Intake([path], settings, lambda source, why: problems.append(f"{source}: {why}"))
    entries = entries_of_pairs(intake.documents(), column.lower() if column is not None else None)
    if not entries:
        raise InputProblem(problems[0] if problems else f"{path} holds no outcomes; name their column with --label.")
    report = holdout(entries)
    if as_json:
        click.echo(json.dumps(report.to_dict()))
        return
    click.echo(
        f"learnt {report.n_learnt} rows, then predicted the outcome ({printable(entries[0].labels[0])} and so on) "
        f"of {report.n_predicted} others among {report.n_labels} from their conditions alone"
    )
    _tell_scores(report)


def _tell_scores(report: HoldoutReport) -> None:
    rows = [
        (score.name, f"{score.p_at_1:.3f}", f"{score.p_at_3:.3f}", f"{score.seconds:.1f} s", score.parameters)
        for score in report.scores
    ]
    click.echo(f"(the held-out matrix is {report.dim} × {report.rank}, whatever the shape of an archive's)")
    click.echo("\n".join(table(("predictor", "P@1", "P@3", "time", ""), rows)))
    paired = report.paired
    click.echo(
        f"first guesses: {paired.matrix_alone} right by the matrix alone, {paired.neighbours_alone} by neighbours "
        f"alone; sign test z = {paired.z:+.1f}, {'' if paired.distinguishable else 'not '}distinguishable"
    )
    click.echo(f"winner: {report.winner}")
