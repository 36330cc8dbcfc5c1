"""`emm bench capacity | heldout`: measured tables, each with the parameters that it depends on above it.

Purpose: let a person see on their own machine what a memory holds, and what it is worth on their own text. Invariant:
every figure is computed in this run.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from emm.testing.capacity import CapacityRow, capacity_table
from emm_tools.exits import MissingExtra, OneSentenceGroup, examples
from emm_tools.inspect_text import table

if TYPE_CHECKING:
    from emm_engine import Document

KINDS = ("package", "tag", "project", "folder", "module")  # labels worth predicting, most telling first
LABELS_MIN = 2


@click.group(cls=OneSentenceGroup, epilog=examples("emm bench capacity", "emm bench heldout --machine"))
def bench() -> None:
    """Measure what a memory holds, and what it is worth on real text."""


@bench.command(
    epilog=examples(
        "emm bench capacity",
        "emm bench capacity --rank 64 --rank 256 --load 1 --load 8",
        "emm bench capacity --key-dim 384 --value-cosine 0.3 --json",
    )
)
@click.option("--rank", "ranks", type=click.IntRange(16), multiple=True, default=(64,), show_default=True)
@click.option(
    "--load",
    "loads",
    type=click.FloatRange(0, 64, min_open=True),
    multiple=True,
    default=(0.5, 1.0, 2.0, 4.0, 8.0),
    help="Pairs ÷ rank [default: 0.5, 1, 2, 4, 8].",
)
@click.option("--dim", type=click.IntRange(1), default=768, show_default=True, help="Numbers in a value.")
@click.option("--key-dim", type=click.IntRange(16), help="Numbers in a key [default: 2 · rank].")
@click.option("--value-cosine", type=click.FloatRange(0, 1, max_open=True), default=0.0, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line of the table.")
def capacity(
    ranks: tuple[int, ...],
    loads: tuple[float, ...],
    dim: int,
    key_dim: int | None,
    value_cosine: float,
    seed: int,
    as_json: bool,
) -> None:
    """How well the three rules recall, with the least-squares limit beside them.

    Keys are synthetic with the crosstalk of sentence embeddings (shared mean, 1/i spectrum, mean cosine 0.3). Top-1
    is among all stored values. "functional" is Σ cos² ÷ rank, 1 at the limit of N = rank exact pairs; "structural" is
    M's effective rank ÷ rank and says nothing about recall.
    """
    rows: list[CapacityRow] = []
    for rank in ranks:
        if sys.stderr.isatty():
            click.echo(f"rank {rank} …", err=True)
        rows += capacity_table(rank, loads, seed=seed, dim=dim, key_dim=key_dim, value_cosine=value_cosine)
    if as_json:
        for row in rows:
            click.echo(json.dumps(dataclasses.asdict(row)))
        return
    keys = f"keys of {key_dim}" if key_dim is not None else "keys of 2 · rank"
    click.echo(f"values of {dim} numbers with mean cosine {value_cosine:g}, {keys} with mean cosine 0.3, seed {seed}")
    head = ("rank", "pairs", "rule", "top-1", "mean cosine", "functional", "structural", "saturation")
    cells = [
        (
            row.rank,
            row.n_pairs,
            row.rule,
            f"{row.top1:.2f}",
            f"{row.mean_cosine:.2f}",
            f"{row.functional:.2f}",
            f"{row.structural:.2f}",
            f"{row.saturation:.2f}",
        )
        for row in rows
    ]
    click.echo("\n".join(table(head, cells)))


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
        "emm bench heldout --machine --json",
    )
)
@click.argument("folders", nargs=-1, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--machine", is_flag=True, help="What this machine already holds: changelogs, or Python's own docs.")
@click.option("--label", "kind", help="Kind of label to predict [default: package, tag, project or folder].")
@click.option("--json", "as_json", is_flag=True, help="The report as one JSON object.")
def heldout(folders: tuple[Path, ...], machine: bool, kind: str | None, as_json: bool) -> None:
    """Learn the older 70 % of the entries, predict a label of the newer ones.

    The matrix against nearest neighbours (the best of several k, chosen in their favour) against always guessing the
    commonest labels. The embedder sees the older part only. Nobody wins a tie, nor where |z| < 2 in the sign test
    over the entries that just one of matrix and neighbours got right.
    """
    try:
        from emm_engine import documents_below, machine_documents
        from emm_engine.holdout import entries_of, holdout
    except ImportError as error:
        raise MissingExtra("engine", error) from error
    if bool(folders) == machine:
        raise click.UsageError("give folders, or --machine.")
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
