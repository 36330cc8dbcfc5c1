"""`emm forget`: keys of a memory, or texts of an archive with all that came of them.

Purpose: one word for both; what PATH is decides, and an option that does not fit it is refused. Invariants: the plan is
shown before anything goes; on a terminal it is asked first; what is printed afterwards has no content of what went.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from emm_tools.exits import InputProblem, OneSentence, counted, examples, printable
from emm_tools.memory_commands import batch_option, forget_keys, keys_option

ARCHIVE_OPTIONS = ("document", "pair", "source", "query", "tenant", "resume")
SHOWN = 20
TRACED = 4  # exit code where a purge found a piece of what it had forgotten


@click.command(
    cls=OneSentence,
    epilog=examples(
        "emm forget labs/chemistry --keys keys.npy",
        """echo '{"key": [0.1, …]}' | emm forget labs/chemistry""",
        "emm forget labs/archive --document 4711 --dry-run",
        "emm forget labs/archive --source 'letters/*' --purge --block",
        'emm forget labs/archive --query "patient 17" --scope clinic --purge --json > certificate.json',
        "emm forget labs/archive --tenant guest --purge",
    ),
)
@click.argument("path")
@keys_option
@batch_option
@click.option("--document", type=int, multiple=True, help="Archive: a document by its id, as answers in JSON cite it.")
@click.option("--pair", type=int, multiple=True, help="Archive: one passage by its id, with what was learnt from it.")
@click.option("--source", multiple=True, metavar="GLOB", help="Archive: documents whose source matches.")
@click.option("--query", multiple=True, metavar="WORDS", help="Archive: every passage that holds all of these words.")
@click.option("--tenant", help="Archive: everything of a tenant, its name included.")
@click.option("--scope", help="Archive: only at or below [tenant:]domain[/project[/run]].")
@click.option("--versions", is_flag=True, help="Archive: with every older and newer version of what is selected.")
@click.option("--purge", is_flag=True, help="Archive: rewrite memories, models and catalog: no file holds any of it.")
@click.option("--block", is_flag=True, help="Archive: refuse the same content from now on.")
@click.option("--dry-run", is_flag=True, help="Archive: only show what would go.")
@click.option("--resume", is_flag=True, help="Archive: finish what was interrupted.")
@click.option("--yes", is_flag=True, help="Archive: do not ask on a terminal.")
@click.option("--json", "as_json", is_flag=True, help="Archive: the plan, or the certificate, as one JSON object.")
def forget(path: str, keys: Path | None, batch: int, **options: object) -> int:
    """Forget keys of a memory, or texts of an archive with everything that came of them.

    PATH of a memory: it answers zero for these keys, whatever their values were. All keys of a commit are forgotten
    jointly; the pairs stay in journal and older generations until pruned.

    PATH of an archive: text, words, vectors, labels and links go, and the matrices unlearn the pairs exactly. With
    --purge memories, models and catalog are made anew from what remains, and every file is searched. An older version
    of what goes is current again. Prints a certificate: counts and hashes, no content.
    """
    if not _is_archive(Path(path)):
        named = [name for name, given in options.items() if given]
        if named:
            raise click.UsageError(f"--{named[0].replace('_', '-')} is for archives, and {path} is none.")
        forget_keys(path, keys, batch)
        return 0
    if keys is not None:
        raise click.UsageError("--keys is for memories; an archive forgets documents, pairs, sources or queries.")
    return _forget_in_archive(path, **options)  # type: ignore[arg-type]


def _is_archive(path: Path) -> bool:
    """Whether a folder is an archive. Memories are forgotten from without the engine's packages."""
    if not any(path.glob("catalog.*")):
        return False
    from emm_engine.catalog.place import is_archive

    return is_archive(path)


def _forget_in_archive(
    path: str,
    *,
    document: tuple[int, ...],
    pair: tuple[int, ...],
    source: tuple[str, ...],
    query: tuple[str, ...],
    tenant: str | None,
    scope: str | None,
    versions: bool,
    purge: bool,
    block: bool,
    dry_run: bool,
    resume: bool,
    yes: bool,
    as_json: bool,
) -> int:
    from emm_engine import Archive, Plan, Scope, Selection
    from emm_tools.engine_commands import known_scope, only_scope

    chosen = bool(document or pair or source or query)
    if chosen + (tenant is not None) + resume != 1:
        raise click.UsageError("choose what: --document, --pair, --source or --query; or --tenant; or --resume.")
    if tenant is not None and (scope or versions or block):
        raise click.UsageError("--tenant takes neither --scope nor --versions nor --block.")
    with Archive.open(path) as archive:
        if resume:
            click.echo(f"finished {counted(archive.finish_forgetting(), 'interrupted forgetting')}")
            return 0
        if tenant is not None:
            runs = archive.tree(tenant)
            plan = f"all of tenant {printable(tenant)}: {counted(len(runs), 'run')}, " + counted(
                sum(run.documents for run in runs), "document"
            )
            if dry_run:
                click.echo(plan)
                return 0
            if not _confirmed(plan, yes, as_json):
                return 0
            certificate = archive.forget_tenant(tenant, purge=purge)
        else:
            place: Scope | None = known_scope(archive, scope) if scope is not None else None
            if place is None and (source or query):
                place = only_scope(archive)
            selection = Selection(document, pair, source, query, place, versions)
            found: Plan = archive.plan_forgetting(selection)
            if not found.passages:
                raise InputProblem("nothing of that is here.")
            if dry_run:
                click.echo(found.to_json() if as_json else _shown(found))
                return 0
            if not _confirmed(_shown(found), yes, as_json):
                return 0
            certificate = archive.forget(selection, purge=purge, block=block)
    click.echo(certificate.to_json() if as_json else _told(certificate))
    return TRACED if certificate.trace is not None and not certificate.trace.clean else 0


def _confirmed(plan: str, yes: bool, as_json: bool) -> bool:
    """Show a plan; on a terminal, ask."""
    click.echo(plan, err=as_json)
    return yes or not sys.stdin.isatty() or click.confirm("forget it?", err=as_json)


def _shown(plan: object) -> str:
    from emm_engine import Plan

    assert isinstance(plan, Plan)
    whole = sum(document.whole for document in plan.documents)
    lines = [
        f"{counted(plan.passages, 'passage')} of {counted(len(plan.documents), 'document')}, {whole} of them whole; "
        f"{counted(plan.absorbed, 'pair')} in {counted(len(plan.scopes), 'memory', 'memories')}"
    ]
    for document in plan.documents[:SHOWN]:
        part = "all" if document.whole else f"{document.n_passages}"
        title = f"{document.source}: {document.title}, {document.date[:10] or 'undated'}"
        lines.append(f"  {document.document_id}  {document.scope}  {printable(title)} ({part})")
    if len(plan.documents) > SHOWN:
        lines.append(f"  and {len(plan.documents) - SHOWN} more")
    return "\n".join(lines)


def _told(certificate: object) -> str:
    from emm_engine import Certificate

    assert isinstance(certificate, Certificate)
    lines = [
        f"forgotten: {counted(certificate.passages, 'passage')}, {counted(certificate.documents, 'whole document')}, "
        f"{counted(certificate.pairs, 'pair')}, {counted(certificate.labels, 'label')}"
    ]
    lines += [f"  memory  {matrix.scope}: {matrix.how}, digest {matrix.digest}" for matrix in certificate.matrices]
    lines += [f"  model   {domain}: fitted anew" for domain in certificate.models]
    if certificate.revived:
        lines.append(f"  {counted(certificate.revived, 'older version')} current again")
    if certificate.trace is not None:
        trace = certificate.trace
        seen = f"{counted(trace.files, 'file')} ({trace.bytes} bytes) searched for {counted(trace.pieces, 'piece')}"
        found = "no trace" if trace.clean else "found in " + ", ".join(trace.found)
        remains = "nothing to search for: texts that remain in the archive hold all of it too"
        lines.append(f"  search  {f'{seen}: {found}' if trace.pieces else remains}")
    return "\n".join(lines)
