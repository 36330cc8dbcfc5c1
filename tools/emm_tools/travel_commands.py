"""`emm move | export | import`: scopes under another name, out of an archive and into another.

Purpose: thin commands over `emm_engine.Archive`. Invariants: progress is on stderr and only on a terminal; a scope is
written `[tenant:]domain[/project[/run]]`.
"""

from __future__ import annotations

import dataclasses

import click

from emm_engine import Archive, Scope
from emm_engine.matrices.rollup import RollupReport
from emm_engine.reports import to_json
from emm_tools.exits import OneSentence, counted, examples, printable, tell_notices


@click.command(
    cls=OneSentence,
    epilog=examples(
        "emm move labs/archive chemistry/catalysis/2019 chemistry/catalysis/2019-pilot",
        "emm move labs/archive chemistry/catalysis/2019 chemistry/zeolites/2019",
        "emm move labs/archive chemistry/catalysis chemistry/heterogeneous --json",
    ),
)
@click.argument("archive")
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option("--json", "as_json", is_flag=True, help="The report as one JSON object.")
def move(archive: str, source: str, target: str, as_json: bool) -> None:
    """Give a run or a project of ARCHIVE another name in its domain.

    Memory, vectors, settings and marks go with it; roll-ups above both names are brought up to date where that takes a
    moment. Refused with 11 while an ingest is at work there. Killed, the next writer there ends it, and questions are
    answered meanwhile.
    """
    with Archive.open(archive) as opened:
        report = opened.move(Scope.parse(source), Scope.parse(target))
        tell_notices((*opened.notices, *_behind(report.rollups)))
    if as_json:
        click.echo(to_json(dataclasses.asdict(report)))
        return
    click.echo(printable(f"{report.source} is now {report.target} ({counted(report.runs, 'run')})"))


def _behind(rollups: tuple[RollupReport, ...]) -> list[str]:
    return [f"the roll-up of {each.scope} is behind: {each.why}" for each in rollups if each.outcome == "behind"]
