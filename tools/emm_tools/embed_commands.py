"""`emm embed | reembed`: work off what waits for an embedder, and change the embedder of a domain.

Purpose: thin commands over `emm_engine.Archive`. Invariants: both go on where they were stopped; progress is on stderr
and only on a terminal; an embedder that does not answer never ends `--follow`.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import click

from emm import EmmError
from emm_engine import Archive, EmbedderError, EmbedderUnavailable, IngestReport, ReembedReport
from emm_engine.embeddings.backoff import Backoff, Clock, SystemClock
from emm_tools.engine_commands import known_scope, only_scope
from emm_tools.exits import OneSentence, counted, examples, printable, tell_notices
from emm_tools.ingest_command import ProgressLine

POLL_S = 5.0  # between looks at the queue
AFTER_FAILURE = Backoff(base_s=10.0, cap_s=600.0)


@click.command(cls=OneSentence, epilog=examples("emm embed labs/archive --once", "emm embed labs/archive --follow"))
@click.argument("archive")
@click.option("--once", is_flag=True, help="Try everything once, also what failed a moment ago or was refused.")
@click.option("--follow", is_flag=True, help="Go on until interrupted, each run when its next try is due.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each run worked on.")
def embed(archive: str, once: bool, follow: bool, as_json: bool) -> None:
    """Give the passages of ARCHIVE that wait for an embedder their vectors, and the matrix their pairs.

    Text is stored first: where the embedder was not to be had, `emm tree` and every answer say what waits. This works
    it off from wherever it was, and goes on with a change of embedder that was stopped.
    """
    if once == follow:
        raise click.UsageError("give --once or --follow.")

    def told(report: IngestReport) -> None:
        tell_notices(report.notices)
        click.echo(report.to_json() if as_json else _worked_off(report))

    with Archive.open(archive) as opened:
        if follow:
            follow_queue(opened, SystemClock(), told)
        progress = ProgressLine()
        reports = opened.embed(progress=progress)
        progress.end()
        for report in reports:
            told(report)
        if not reports:
            click.echo("nothing waits for an embedder", err=True)
        if any(run.waiting for run in opened.tree()):
            raise EmbedderUnavailable("not everything could be embedded; what is left waits, `emm tree` says for what")


def follow_queue(archive: Archive, clock: Clock, told: Callable[[IngestReport], None]) -> None:
    """Look at the queue for ever: often while all is well, ever less while the embedder is not to be had."""
    chance, n_failed = random.Random(), 0
    while True:
        try:
            for report in archive.embed(due_only=True):
                told(report)
            n_failed = 0
        except EmbedderError as error:
            n_failed += 1
            tell_notices([str(error)])
        clock.sleep(max(POLL_S, AFTER_FAILURE.wait_s(n_failed, chance)) if n_failed else POLL_S)


def _worked_off(report: IngestReport) -> str:
    refused = f", {report.refused} refused" if report.refused else ""
    return (
        f"{report.scope}: {counted(report.pairs, 'pair')} absorbed, {report.pending} pending{refused}, "
        f"in {report.seconds:.1f} s"
    )


@click.command(
    cls=OneSentence,
    epilog=examples(
        "emm reembed labs/archive --embedder minilm",
        "emm reembed labs/archive --scope chemistry --embedder ollama:nomic-embed-text@http://gpu-box:11434",
        "emm reembed labs/archive --scope chemistry --abandon",
    ),
)
@click.argument("archive")
@click.option("--scope", help="[tenant:]domain; not needed where the archive has one domain.")
@click.option("--embedder", help="lsa (fitted on what is there now), minilm, ollama:MODEL[@URL] or openai:MODEL[@URL].")
@click.option("--abandon", is_flag=True, help="Drop a change that is under way; the old embedder stays.")
@click.option("--json", "as_json", is_flag=True, help="The report as one JSON object.")
def reembed(archive: str, scope: str | None, embedder: str | None, abandon: bool, as_json: bool) -> None:
    """Embed a whole domain of ARCHIVE anew, with another embedder or with the same one fitted again.

    The old vectors answer until the new ones are complete; then both vectors and matrices change in one step. Stopped
    or killed anywhere, the same command goes on where it was.
    """
    if abandon == (embedder is not None):
        raise click.UsageError("give --embedder, or --abandon.")
    with Archive.open(archive) as opened:
        place = known_scope(opened, scope) if scope is not None else only_scope(opened)
        if embedder is None:
            there_was = opened.abandon_reembed(place)
            click.echo("the change was dropped" if there_was else "no change of embedder is under way")
            return
        progress = ProgressLine()
        try:
            report = opened.reembed(place, embedder, progress)
        except EmmError:
            progress.end()
            raise
        progress.end()
    click.echo(report.to_json() if as_json else _changed(report))


def _changed(report: ReembedReport) -> str:
    if not report.changed:
        return f"{report.domain}: the new {printable(report.after)} is the one there is; nothing was changed"
    return (
        f"{report.domain}: {printable(report.before or 'nothing')} → {printable(report.after)}, "
        f"{counted(report.embedded, 'passage')} embedded, {report.refused} refused, "
        f"{counted(report.pairs, 'pair')} learnt anew, in {report.seconds:.1f} s"
        f"{' (resumed)' if report.resumed else ''}"
    )
