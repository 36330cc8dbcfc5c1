"""`emm ingest | ask`: documents in, cited answers out.

Purpose: thin commands over `emm_engine.Archive`. Invariants: `ask` writes nothing; progress is on stderr and
only on a terminal; what a document says is never sent to the terminal raw.
"""

from __future__ import annotations

import itertools
import sys
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

import emm
from emm_engine import Answer, Archive, Document, IngestReport, Progress, Scope, documents_below, machine_documents
from emm_engine.retrieval.context import shown_date
from emm_engine.retrieval.question import parse_label
from emm_engine.settings import RECALLS
from emm_tools.exits import InputProblem, OneSentence, counted, examples, printable, tell_notices

QUOTE_CHARS = 130  # one line of a terminal
RUNS_NAMED = 20


class ProgressLine:
    """One line on stderr that is overwritten; silent where stderr is no terminal."""

    def __init__(self) -> None:
        self.shown = sys.stderr.isatty()

    def __call__(self, progress: Progress) -> None:
        if self.shown:
            of = f" of {progress.total}" if progress.total is not None else ""
            text = f"{progress.phase} {progress.done}{of}, {progress.rate:.0f}/s"
            click.echo(f"\r{text:60}", err=True, nl=False)

    def end(self) -> None:
        if self.shown:
            click.echo(f"\r{'':60}\r", err=True, nl=False)


def open_or_create(path: str) -> Archive:
    """The archive at `path`, a new one where there is nothing."""
    try:
        return Archive.open(path)
    except emm.MissingError:
        return Archive.create(path)


def only_scope(archive: Archive) -> Scope:
    """The one domain that the archive holds; a usage error where there are several."""
    domains = sorted({(scope.tenant, scope.domain) for scope in archive.scopes()})
    if len(domains) > 1:
        names = ", ".join(f"{tenant}:{domain}" for tenant, domain in domains)
        raise click.UsageError(f"the archive holds several domains; choose one with --scope: {names}")
    return Scope(*domains[0]) if domains else Scope()


def known_scope(archive: Archive, text: str) -> Scope:
    """The scope a person named, at or below which there is a run; `MissingError` with the runs there are."""
    wanted, scopes = Scope.parse(text), archive.scopes()
    if not any(wanted.contains(scope) for scope in scopes):
        names = [str(scope) for scope in scopes[:RUNS_NAMED]]
        if len(scopes) > RUNS_NAMED:
            names.append(f"and {len(scopes) - RUNS_NAMED} more")
        raise emm.MissingError(f"there is no run at or below {wanted}; runs: {', '.join(names) or 'none yet'}")
    return wanted


@click.command(
    cls=OneSentence,
    epilog=examples(
        "emm ingest labs/archive notes/ --scope chemistry/catalysis/2024",
        "emm ingest labs/archive --machine --scope general/debian/changelogs",
        "emm ingest labs/archive notes/ --json",
    ),
)
@click.argument("archive")
@click.argument("folders", nargs=-1, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--machine", is_flag=True, help="Read what this machine already holds: changelogs, or Python's own docs.")
@click.option("--scope", default="general/notes/default", show_default=True, help="[tenant:]domain/project/run.")
@click.option("--limit", type=click.IntRange(1), help="Stop after this many documents.")
@click.option("--json", "as_json", is_flag=True, help="The report as one JSON object.")
def ingest(
    archive: str, folders: tuple[Path, ...], machine: bool, scope: str, limit: int | None, as_json: bool
) -> None:
    """Store the text and Markdown files (and Debian changelogs) below FOLDERS in a run of ARCHIVE.

    Makes the archive where there is none. Text is durable first; running it again adds only what is new. What a note
    may say about itself (title, date, tags) is in docs/commands.md.
    """
    if bool(folders) == machine:
        raise click.UsageError("give folders, or --machine.")
    place = Scope.parse(scope).require_run()
    skipped: list[tuple[str, str]] = []

    def problem(source: str, why: str) -> None:
        skipped.append((source, why))

    documents: Iterable[Document] = itertools.chain.from_iterable(documents_below(f, problem) for f in folders)
    name = ", ".join(str(folder) for folder in folders)
    if machine:
        name, documents = machine_documents(problem=problem)
    source = _some(documents, limit)
    first = next(source, None)
    if first is None:
        _say_skipped(skipped)
        raise InputProblem(f"{printable(name)} holds no text or Markdown file with text in it.")
    progress = ProgressLine()
    with open_or_create(archive) as opened, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the report's notices repeat them
        report = opened.ingest(itertools.chain([first], source), place, progress)
        progress.end()
        memory = opened.memory_path(place)
    _say_skipped(skipped)
    tell_notices(report.notices)
    click.echo(report.to_json() if as_json else _told(report, name, memory, len(skipped)))


def _say_skipped(skipped: Iterable[tuple[str, str]]) -> None:
    for source, why in skipped:
        click.echo(f"skipped {printable(source)}: {printable(why)}", err=True)


def _some(documents: Iterable[Document], limit: int | None) -> Iterator[Document]:
    return iter(documents) if limit is None else itertools.islice(documents, limit)


def _told(report: IngestReport, name: str, memory: Path, n_skipped: int) -> str:
    phases = ", ".join(f"{phase} {seconds:.1f} s" for phase, seconds in report.phase_seconds.items())
    lines = [
        f"{report.scope}: {counted(report.entries_read, 'entry', 'entries')} of {printable(name)} in "
        f"{report.seconds:.1f} s ({phases})",
        f"  rate        {report.documents_per_second:.0f} new documents/s, {report.entries_per_second:.0f} entries/s "
        "read, copies included",
        f"  new         {counted(report.documents, 'document')} ({_copies(report.duplicates)}), "
        f"{counted(report.passages, 'passage')}; {report.superseded} superseded, {counted(n_skipped, 'file')} skipped",
        f"  matrix      {counted(report.pairs, 'pair')} absorbed, {report.unlearned} unlearned, "
        f"{report.pending} pending; rank {report.rank}, saturation {report.saturation:.2f}, LSN {report.lsn}",
        f"  memory      {printable(str(memory))}",
    ]
    return "\n".join(lines)


def _copies(count: int) -> str:
    if count == 1:
        return "1 entry was a copy of one already there"
    return f"{count or 'no'} entries were copies of ones already there"


@click.command(
    cls=OneSentence,
    epilog=examples(
        'emm ask labs/archive "what kept failing with locales in tar?"',
        'emm ask labs/archive "why was the catalyst changed?" --scope chemistry/catalysis --as-of 2023-06',
        'emm ask labs/archive "segfault on arm64" --compare',
        'emm ask labs/archive "what was calibrated?" --since 2021-03 --until 2021 --label device:spectrometer',
        'emm ask labs/archive "yield" --source "2023/*.md" --without matrix --without vector',
    ),
)
@click.argument("archive")
@click.argument("question")
@click.option("--scope", help="[tenant:]domain[/project[/run]]; not needed where the archive has one domain.")
@click.option("-k", type=click.IntRange(1, 100), default=5, show_default=True, help="Passages to cite, at most.")
@click.option("--budget", type=click.IntRange(1), default=1500, show_default=True, help="Tokens of the context block.")
@click.option("--as-of", help="Answer from what was known at YYYY[-MM[-DD]], UTC: later versions do not exist.")
@click.option("--since", help="Only documents dated from YYYY[-MM[-DD]] on, UTC.")
@click.option("--until", help="Only documents dated up to YYYY[-MM[-DD]], UTC.")
@click.option("--label", "labels", multiple=True, metavar="KIND:NAME", help="Only passages that carry it; repeatable.")
@click.option("--source", metavar="GLOB", help="Only documents whose source matches, as a shell would.")
@click.option("--without", type=click.Choice(RECALLS), multiple=True,
              help="Leave a recall out, to see what it adds; repeatable.")  # fmt: skip
@click.option("--compare", is_flag=True, help="Also what vectors alone would have answered.")
@click.option("--json", "as_json", is_flag=True, help="The answer as one JSON object.")
def ask(
    archive: str,
    question: str,
    scope: str | None,
    k: int,
    budget: int,
    as_of: str | None,
    since: str | None,
    until: str | None,
    labels: tuple[str, ...],
    source: str | None,
    without: tuple[str, ...],
    compare: bool,
    as_json: bool,
) -> None:
    """Answer QUESTION with exact passages, each with its citation, and associations from the matrix.

    A line [n] is a passage (source, title, date, span, score), a line ~ is what the matrix associates, with its
    strength and the strongest documents behind it. A score is relative to the other passages of the same answer.
    Words, vectors and matrix are asked at the same time (docs/engine/recall.md).
    """
    with Archive.open(archive) as opened:
        place = known_scope(opened, scope) if scope is not None else only_scope(opened)
        answer = opened.ask(
            question,
            place,
            k=k,
            token_budget=budget,
            as_of=as_of,
            since=since,
            until=until,
            labels=map(parse_label, labels),
            source=source,
            without=without,
        )
        tell_notices(opened.notices)
    if as_json:
        click.echo(answer.to_json())
        return
    click.echo(answer.context or "nothing found")
    if compare:
        click.echo("\n".join(["", "vectors alone would have answered:", *_vector_only(answer)]))
    for note in answer.notes:
        click.echo(f"note: {note}")
    click.echo(f"({counted(answer.n_tokens, 'token')})")


def _vector_only(answer: Answer) -> Iterator[str]:
    cited = {citation.passage_id: citation.number for citation in answer.citations}
    for place, citation in enumerate(answer.vector_only, 1):
        also = f", also [{cited[citation.passage_id]}] above" if citation.passage_id in cited else ""
        first = " ".join(citation.quote.split())
        quote = first if len(first) <= QUOTE_CHARS else first[:QUOTE_CHARS] + " …"
        where = f"{citation.source}: {citation.title}, {shown_date(citation)}"
        yield f"  {place}. {printable(where)}, cosine {citation.vector:.2f}{also}"
        if not also:
            yield f"     {printable(quote)}"
    if not answer.vector_only:
        yield "  nothing"
