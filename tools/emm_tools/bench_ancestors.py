"""`emm bench ancestors`: whether a run that hears its project and domain recalls the right labels more often.

Purpose: one table on a lab notebook that the user has. Invariants: every figure is computed in this run; the sign test
is printed beside them, whichever side it favours.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import click

from emm.testing.machine import this_machine
from emm_tools.bench_pages import replace_block
from emm_tools.exits import InputProblem, MissingExtra, examples
from emm_tools.inspect_text import table

BLOCK = "emm bench ancestors"
NOTEBOOK = Path("lab-notebook", "entries.jsonl")


@click.command(
    epilog=examples(
        "emm bench ancestors --data corpora/",
        "emm bench ancestors --data corpora/ --json",
        "emm bench ancestors --data corpora/ --write docs/engine/hierarchy.md",
    )
)
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    envvar="EMM_DATA",
    show_envvar=True,
    required=True,
    help="Folder of public corpora with lab-notebook/entries.jsonl.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a table.")
@click.option("--write", "page", type=click.Path(dir_okay=False, path_type=Path), help="Put the text into this page.")
def ancestors(data: Path, as_json: bool, page: Path | None) -> None:
    """A run alone against a run that hears its project and domain: predict the project tags of notebook entries.

    Runs are months or quarters, projects years. "later": learn the older 70 %, ask each later entry at the newest run.
    "prequential": ask each entry at its own run before learning it. z is the sign test of run + project + domain
    against the run alone, over the entries that just one of them got right first; below 2 nobody has won.
    """
    try:
        from emm_engine.matrices.ancestry import DIM, PERIODS, PROTOCOLS, RANK, AncestryReport, measure
        from emm_engine.matrices.holdout import Entry
    except ImportError as error:
        raise MissingExtra("engine", error) from error

    def entries() -> Iterator[Entry]:
        file = data / NOTEBOOK
        if not file.is_file():
            raise InputProblem(f"{data} holds no {NOTEBOOK}.")
        with file.open(encoding="utf-8") as lines:
            for line in lines:
                entry = json.loads(line)
                if entry["tags"]:
                    yield Entry(entry["date"], entry["text"], tuple(sorted(set(entry["tags"]))))

    def told(report: AncestryReport) -> list[str]:
        paired = report.paired
        rows = [(each.who, f"{each.p_at_1:.3f}", f"{each.p_at_3:.3f}") for each in report.heard]
        return [
            "",
            f"{report.protocol}, runs of a {report.period}: {report.n_runs} runs, {report.n_asked} entries asked",
            *table(("asked", "P@1", "P@3"), rows),
            f"right by all three alone {paired.matrix_alone}, by the run alone {paired.neighbours_alone}; "
            f"z = {paired.z:+.1f}",
        ]

    machine, found = this_machine(), list(entries())
    reports = [measure(found, protocol, period) for protocol in PROTOCOLS for period in PERIODS]
    lines = [f"{machine}", f"{len(found)} tagged entries, {DIM} × {RANK}, TF-IDF + SVD"]
    text = "\n".join([*lines, *(line for report in reports for line in told(report))])
    if page is not None:
        replace_block(page, BLOCK, text)
    if as_json:
        for report in reports:
            click.echo(json.dumps({"machine": dataclasses.asdict(machine), **dataclasses.asdict(report)}))
    else:
        click.echo(text)
