"""`emm move | export | import`: scopes under another name, out of an archive and into another.

Purpose: thin commands over `emm_engine.Archive`. Invariants: progress is on stderr and only on a terminal; a scope is
written `[tenant:]domain[/project[/run]]`.
"""

from __future__ import annotations

import dataclasses

import click

from emm_engine import Archive, Scope
from emm_engine.hierarchy import parse_place
from emm_engine.matrices.rollup import RollupReport
from emm_engine.reports import to_json
from emm_engine.upkeep.travelling import TravelReport
from emm_tools.engine_commands import open_or_create
from emm_tools.exits import OneSentence, counted, examples, printable, tell_notices
from emm_tools.ingest_command import ProgressLine


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


@click.command(
    cls=OneSentence,
    epilog=examples(
        "emm export labs/archive chemistry/catalysis --out catalysis.archive",
        "emm export labs/archive lab:chemistry --out chemistry.archive --json",
        "emm ask catalysis.archive 'why was the catalyst changed?'",
    ),
)
@click.argument("archive")
@click.argument("scope")
@click.option("--out", required=True, help="A new folder: it appears whole, or not at all.")
@click.option("--json", "as_json", is_flag=True, help="The report as one JSON object.")
def export(archive: str, scope: str, out: str, as_json: bool) -> None:
    """Write SCOPE of ARCHIVE (run, project, domain, or a tenant `lab:`) as an archive of its own.

    Documents with labels and versions, pairs, memories bit by bit and verified, vectors, the domain's embedding model,
    settings; nothing of another tenant, and of other scopes only the words that the domain's model knows. Refused with
    11 while an ingest is at work there.
    """
    progress = ProgressLine()
    with Archive.open(archive) as opened:
        report = opened.export(parse_place(scope), out, progress)
        progress.end()
    _tell(report, as_json, f"{report.source} is now also in {report.path}")


@click.command(
    name="import",
    cls=OneSentence,
    epilog=examples(
        "emm import labs/archive catalysis.archive",
        "emm import labs/archive catalysis.archive --as guests:chemistry/catalysis",
    ),
)
@click.argument("archive")
@click.argument("path")
@click.option("--as", "into", metavar="SCOPE", help="Another name of the same level, also of another domain or tenant.")
@click.option("--json", "as_json", is_flag=True, help="The report as one JSON object.")
def import_(archive: str, path: str, into: str | None, as_json: bool) -> None:
    """Bring what `emm export` wrote to PATH into ARCHIVE, which is made where there is none.

    Every run is whole in the archive or not in it; doing it again brings what is missing and changes nothing. A name
    that another run has is refused with 2, a domain with another embedding model with 4. PATH is checked as if a
    stranger had written it.
    """
    progress = ProgressLine()
    place = parse_place(into) if into is not None else None
    with open_or_create(archive) as opened:
        report = opened.import_from(path, place, progress)
        progress.end()
    _tell(report, as_json, f"{report.source} of {report.path} is now {report.target}")


def _tell(report: TravelReport, as_json: bool, done: str) -> None:
    tell_notices(_behind(report.rollups))
    if as_json:
        click.echo(to_json(dataclasses.asdict(report)))
        return
    click.echo(printable(f"{done}, in {report.seconds:.1f} s"))
    for run in report.runs:
        held = f"{counted(run.documents, 'document')}, {counted(run.passages, 'passage')}, {counted(run.pairs, 'pair')}"
        memory = f"memory of {run.memory_bytes} bytes, digest {run.digest[:16]}" if run.digest else "no memory yet"
        click.echo("  " + printable(f"{run.target} {run.outcome}: {held}; {memory}"))


def _behind(rollups: tuple[RollupReport, ...]) -> list[str]:
    return [f"the roll-up of {each.scope} is behind: {each.why}" for each in rollups if each.outcome == "behind"]
