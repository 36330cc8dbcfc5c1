"""`emm check | rebuild`: whether an archive is whole, and everything derived made anew.

Purpose: thin commands over `emm_engine.Archive`. Invariants: `check` and `--dry-run` write nothing; exit 0 means that
nothing was found, 3 that a rebuild mends all of it, 4 that a text is not what was stored.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable

import click

from emm_engine import Archive, Finding, RebuildReport, Scope
from emm_tools.engine_commands import known_scope
from emm_tools.exits import OneSentence, counted, examples, printable

REPAIRABLE, LOST = 3, 4  # exit codes of findings


def told(findings: Iterable[Finding], as_json: bool) -> int:
    """Print findings as they are met; the exit code."""
    code = n_found = 0
    for finding in findings:
        n_found += 1
        code = max(code, LOST if finding.kind == "text" else REPAIRABLE)
        if as_json:
            click.echo(json.dumps(dataclasses.asdict(finding)))
        else:
            click.echo(f"{finding.code}: {printable(finding.where)}: {printable(finding.message)}")
    if not as_json:
        ends = {
            0: "clean",
            REPAIRABLE: "emm rebuild makes it anew",
            LOST: "a text is not what was stored: forget the documents named, then ingest them again",
        }
        click.echo(f"{counted(n_found, 'finding')}; {ends[code]}" if n_found else ends[code])
    return code


@click.command(cls=OneSentence, epilog=examples("emm check labs/archive", "emm check labs/archive --json"))
@click.argument("archive")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a finding.")
def check(archive: str, as_json: bool) -> int:
    """Read the catalog of ARCHIVE against its own hashes, and see whether all that is derived from it is there.

    Writes nothing. The bytes of the memories are `emm verify`'s to check. Ends with 0 when all is well, 3 when `emm
    rebuild` mends what was found, 4 when a text is not what was stored.
    """
    with Archive.open(archive) as opened:
        return told(opened.check(), as_json)


@click.command(
    cls=OneSentence,
    epilog=examples(
        "emm rebuild labs/archive",
        "emm rebuild labs/archive --scope chemistry --refit",
        "emm rebuild labs/archive --dry-run",
    ),
)
@click.argument("archive")
@click.option("--scope", help="[tenant:]domain: only this domain.")
@click.option("--refit", is_flag=True, help="Fit models on all there is now, not on what they were fitted on.")
@click.option("--dry-run", is_flag=True, help="Only say what is missing or damaged, as emm check.")
@click.option("--json", "as_json", is_flag=True, help="The report as one JSON object.")
def rebuild(archive: str, scope: str | None, refit: bool, dry_run: bool, as_json: bool) -> int:
    """Make everything that ARCHIVE derived anew from its catalog: models, vectors, memories, the index of words.

    Whatever else of the archive was lost or damaged, its texts are enough: the answers are the same afterwards.
    Questions are answered all the while, without associations until a run is through. After a kill run it (or emm
    ingest) again.
    """
    with Archive.open(archive) as opened:
        if dry_run:
            return told(opened.check(), as_json)
        place: Scope | None = known_scope(opened, scope) if scope is not None else None

        def tell(what: str) -> None:
            if sys.stderr.isatty():
                click.echo(f"rebuilding {printable(what)}", err=True)

        report = opened.rebuild(place, refit=refit, tell=tell)
    click.echo(report.to_json() if as_json else _told(report))
    return 0


def _told(report: RebuildReport) -> str:
    lines = [f"rebuilt {counted(len(report.runs), 'run')} in {report.seconds:.1f} s"]
    lines.append(f"  words   {counted(report.passages_indexed, 'passage')} indexed")
    for model in report.models:
        same = "the same model" if model.before == model.after else "another model than before"
        lines.append(f"  model   {model.domain}: {same if model.after else 'none, there is no text'}")
    lines += [f"  memory  {run.scope}: {counted(run.pairs, 'pair')}, rank {run.rank}" for run in report.runs]
    return "\n".join(lines)
