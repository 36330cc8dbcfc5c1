"""`emm vectors`: check, mend and put in order what an archive searches its vectors with.

Purpose: what a keeper runs now and then, and after a disk has lied. Invariants: the text, the log of vectors and every
answer stay as they are; it may run beside an ingest.
"""

from __future__ import annotations

import json

import click

from emm_engine import Archive
from emm_tools.exits import OneSentence, examples, printable, tell_notices
from emm_tools.inspect_text import table


@click.command(cls=OneSentence, epilog=examples("emm vectors labs/archive", "emm vectors labs/archive --json"))
@click.argument("archive")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a run.")
def vectors(archive: str, as_json: bool) -> None:
    """Check every file that vectors are searched with, rebuild what is damaged, merge what has become small.

    Damage costs speed and never an answer, so nothing here is urgent. "recall" is the share of exact search's first ten
    that the index finds, measured when it was built; 1 where every search is exact.
    """
    with Archive.open(archive) as opened:
        done = {str(scope): words for scope, words in opened.maintain_vectors()}
        runs = [run for run in opened.tree() if run.scope in done]
        tell_notices(opened.notices)
    if as_json:
        for run in runs:
            told = {"scope": run.scope, "vectors": run.vectors, "recall": run.vector_recall}
            click.echo(json.dumps({**told, "search_k": run.vector_search_k, "done": done[run.scope]}))
        return
    rows = [
        (
            run.scope,
            run.vectors,
            "exact" if run.vector_search_k is None else f"Annoy, search_k {run.vector_search_k}",
            "unknown" if run.vector_recall is None else f"{run.vector_recall:.3f}",
            printable("; ".join(done[run.scope])) or "all is well",
        )
        for run in runs
    ]
    click.echo("\n".join(table(("run", "vectors", "search", "recall", ""), rows)) if rows else "no vectors yet")
