"""`emm ask`: cited answers out of an archive.

Purpose: a thin command over `emm_engine.Archive`. Invariants: `ask` writes nothing; what a document says is never sent
to the terminal raw.
"""

from __future__ import annotations

from collections.abc import Iterator

import click

import emm
from emm_engine import Answer, Archive, Scope
from emm_engine.retrieval.context import shown_date
from emm_engine.retrieval.question import parse_label
from emm_engine.settings import RECALLS
from emm_tools.exits import OneSentence, counted, examples, printable, tell_notices

QUOTE_CHARS = 130  # one line of a terminal
RUNS_NAMED = 20


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
        'emm ask labs/archive "what kept failing with locales in tar?"',
        'emm ask labs/archive "why was the catalyst changed?" --scope chemistry/catalysis --as-of 2023-06',
        'emm ask labs/archive "segfault on arm64" --compare',
        'emm ask labs/archive "what was calibrated?" --since 2021-03 --until 2021 --label tag:spectrometer',
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
    click.echo(answer.context or _nothing(answer))
    if compare:
        click.echo("\n".join(["", "vectors alone would have answered:", *_vector_only(answer)]))
    for note in answer.notes:
        click.echo(f"note: {note}")
    click.echo(f"({counted(answer.n_tokens, 'token')})")


def _nothing(answer: Answer) -> str:
    """That there is no passage, and what to ask instead."""
    asked = answer.filters
    told = {"as-of": asked.as_of, "since": asked.since, "until": asked.until, "label": asked.labels}
    given = [f"--{name}" for name, value in {**told, "source": asked.source}.items() if value]
    if given:
        return f"nothing found; ask without {' or '.join(given)} to see what there is"
    return f"nothing found in {answer.scope}; try other words, or another --scope (emm tree ARCHIVE lists them)"


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
