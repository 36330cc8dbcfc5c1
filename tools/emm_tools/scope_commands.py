"""`emm tree | rollup | close | reopen | domain | settings`: what a keeper does to scopes as a whole.

Purpose: thin commands over `emm_engine.Archive`. Invariants: `tree` writes nothing, nor do `domain` and `settings`
where they only show; a scope is written `[tenant:]domain[/project[/run]]`, a whole tenant `tenant:`.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterable, Iterator

import click

from emm_engine import Archive, LevelStatus, RunStatus, Scope
from emm_engine.hierarchy import DOMAINS, Shape, parse_place
from emm_engine.scale.merging import merge_groups
from emm_engine.scale.workers import Workers
from emm_engine.settings import KEYS, key_named
from emm_tools.exits import OneSentence, counted, examples, printable, tell_notices
from emm_tools.inspect_text import bar, table
from emm_tools.workers_option import workers_option

NOTHING = "the archive holds no run yet"


@click.command(cls=OneSentence, epilog=examples("emm tree labs/archive", "emm tree labs/archive --tenant lab --json"))
@click.argument("archive")
@click.option("--tenant", help="Only this tenant's runs.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line: each scope before what is below it.")
def tree(archive: str, tenant: str | None, as_json: bool) -> None:
    """Show the tenants, domains, projects and runs of ARCHIVE.

    How full each matrix is, documents, passages, pairs in the matrix and waiting, what is closed, and whether a
    project's or domain's roll-up holds what its runs hold.
    """
    with Archive.open(archive) as opened:
        lines = opened.levels(tenant)
        tell_notices((*opened.notices, *_lagging(lines)))
    if as_json:
        for line in lines:
            level = {} if isinstance(line, LevelStatus) else {"level": "run"}
            click.echo(json.dumps({**level, **dataclasses.asdict(line)}))
        return
    if not lines:
        click.echo(NOTHING)
        return
    head = ("", "saturation", "", "M", "documents", "passages", "pairs", "waiting", "")
    click.echo("\n".join(table(head, [_row(line) for line in lines])))


def _lagging(lines: Iterable[LevelStatus | RunStatus]) -> Iterator[str]:
    """What waits for an embedder, and why."""
    for line in lines:
        if isinstance(line, RunStatus) and line.waiting:
            yield f"{line.scope}: waits for {line.embedder}: {line.waiting}"
        if isinstance(line, RunStatus) and line.refused:
            yield f"{line.scope}: {counted(line.refused, 'passage')} refused by {line.embedder}, found by words alone"


def _row(line: LevelStatus | RunStatus) -> tuple[object, ...]:
    depth = line.scope.count("/") + (0 if line.scope.endswith(":") else 1)
    name = line.scope if depth == 0 else line.scope.rpartition("/" if "/" in line.scope else ":")[2]
    remarks = ["closed"] if line.closed else []
    if isinstance(line, LevelStatus) and line.rollup in ("fresh", "behind"):
        remarks.append(f"roll-up {line.rollup}")
    if line.pending or line.stale:
        remarks.append(f"{line.pending + line.stale} for the next ingest")
    if line.hint:
        remarks.append(line.hint)
    full, percent, shape = "", "", ""
    if line.rank:
        full, percent, shape = bar(line.saturation), f"{line.saturation:.2f}", f"{line.dim} × {line.rank}"
    counts = (line.documents, line.passages, line.absorbed, line.pending)
    return ("  " * depth + name, full, percent, shape, *counts, "; ".join(remarks))


@click.command(
    cls=OneSentence,
    epilog=examples(
        "emm rollup labs/archive",
        "emm rollup labs/archive chemistry/catalysis --json",
        "emm rollup labs/archive --workers 4",
    ),
)
@click.argument("archive")
@click.argument("scope", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a project or domain.")
@workers_option
def rollup(archive: str, scope: str | None, as_json: bool, workers: Workers | None) -> None:
    """Bring the roll-ups of a project or domain (without SCOPE: of all) up to date.

    A roll-up is one memory of all the pairs below, made by exact merge; recall asks it where it is up to date. Runs of
    different rank are first solved again at the largest. What is being written to stays behind, and is named.
    """
    with Archive.open(archive) as opened:
        group_merge = functools.partial(merge_groups, workers) if workers is not None else None
        reports = opened.rollup(Scope.parse(scope) if scope is not None else None, group_merge)
        tell_notices(opened.notices)
    if as_json:
        for report in reports:
            click.echo(json.dumps(dataclasses.asdict(report)))
        return
    for report in reports:
        held = f"{counted(report.n_pairs, 'pair')} of {counted(report.n_runs, 'run')}"
        full = f", rank {report.rank}, saturation {report.saturation:.2f}" if report.rank else ""
        why = f": {report.why}" if report.why else ""
        click.echo(printable(f"{report.scope}: {report.outcome}, {held}{full}{why}"))
    if not reports:
        click.echo(NOTHING)


@click.command(cls=OneSentence, epilog=examples("emm close labs/archive chemistry/catalysis/2019"))
@click.argument("archive")
@click.argument("scope")
def close(archive: str, scope: str) -> None:
    """Take no more documents at or below SCOPE.

    What an interrupted ingest left there is finished first. Asking, forgetting and rolling up go on; `emm reopen`
    takes it back.
    """
    with Archive.open(archive) as opened:
        done = opened.close_scope(parse_place(scope))
    click.echo(f"{printable(scope)} {'is closed' if done else 'was closed already'}")


@click.command(cls=OneSentence, epilog=examples("emm reopen labs/archive chemistry/catalysis/2019"))
@click.argument("archive")
@click.argument("scope")
def reopen(archive: str, scope: str) -> None:
    """Take documents at or below SCOPE again; what was closed further down stays so."""
    with Archive.open(archive) as opened:
        done = opened.reopen_scope(parse_place(scope))
    click.echo(f"{printable(scope)} {'is open' if done else 'was open already'}")


@click.command(
    cls=OneSentence,
    epilog=examples(
        "emm domain labs/archive",
        "emm domain labs/archive add proteomics --rank 256 --dim 1024",
        "emm domain labs/archive remove proteomics",
    ),
)
@click.argument("archive")
@click.argument("action", type=click.Choice(["add", "remove"]), required=False)
@click.argument("name", required=False)
@click.option("--rank", type=int, help="Columns of M at first: a multiple of 16; it grows when M is full.")
@click.option("--dim", type=int, help="Rows of M: more tell more labels apart.")
def domain(archive: str, action: str | None, name: str | None, rank: int | None, dim: int | None) -> None:
    """List the domains of ARCHIVE and the shapes their memories start with; add one, or remove one that has no run."""
    if (action is None) != (name is None) or (action == "add") != (rank is not None) or (rank is None) != (dim is None):
        raise click.UsageError("`add NAME --rank R --dim D`, `remove NAME`, or nothing.")
    with Archive.open(archive) as opened:
        if name is not None and rank is not None and dim is not None:
            opened.domains.add(name, Shape(rank, dim))
        elif name is not None:
            opened.domains.remove(name)
        shapes = opened.domains.all()
    rows = [
        (each, shape.rank, shape.dim, shape.key_dim, "" if each in DOMAINS else "added")
        for each, shape in shapes.items()
    ]
    click.echo("\n".join(table(("domain", "rank", "dim", "key_dim", ""), rows)))


@click.command(
    cls=OneSentence,
    epilog=examples(
        "emm settings labs/archive chemistry/catalysis",
        "emm settings labs/archive chemistry sharing.dream on",
        "emm settings labs/archive lab: retrieval.data.local lexical,vector",
        "emm settings labs/archive chemistry sharing.dream --unset",
    ),
)
@click.argument("archive")
@click.argument("scope")
@click.argument("key", required=False)
@click.argument("value", required=False)
@click.option("--unset", is_flag=True, help="Take back what was said at SCOPE: what is above it holds again.")
def settings(archive: str, scope: str, key: str | None, value: str | None, unset: bool) -> None:
    """Show what holds at SCOPE, or say it: run, project, domain and tenant (`lab:`), the nearest word wins.

    \b
    sharing.dream         on or off (off): whether dreams may consolidate it
    retrieval.data.local  all, or some of lexical,vector,matrix: what recall asks
    """
    if unset and (key is None or value is not None):
        raise click.UsageError("--unset takes a KEY and no VALUE.")
    place = parse_place(scope)
    known = key_named(key) if key is not None else None
    with Archive.open(archive) as opened:
        if known is not None and unset:
            opened.settings.unset(place, known)
        elif known is not None and value is not None:
            opened.settings.set(place, known, known.parse(value))
        held = [each for each in opened.settings.held(place) if known in (None, KEYS[each.key])]
    rows = [(each.key, each.value, each.said_at or "the default") for each in held]
    click.echo("\n".join(table(("setting", "value", "said at"), rows)))
