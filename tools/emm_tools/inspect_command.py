"""`emm-inspect PATH [VIEW]`: what is in a memory, as text a person likes to read, as JSON, as pictures, as a page.

Purpose: show what `emm.inspect` and the views of `emm.inspection` find. Invariants: never writes into the memory; where
a view has to stop it shows what it has, says on stderr what stopped it, and exits with that error's code.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

import emm
import emm.inspection as inspection
from emm_tools import inspect_views
from emm_tools.exits import MissingExtra, OneSentence, examples, printable
from emm_tools.inspect_text import describe
from emm_tools.version import version
from emm_tools.whole_file import whole_file

VIEWS = ("header", "blocks", "journal", "generations", "spectrum", "rows", "diff")
PICTURED = ("blocks", "journal", "generations", "spectrum", "rows")
ONE_GENERATION = ("header", "blocks", "rows")


@click.command(
    "inspect",
    cls=OneSentence,
    epilog=examples(
        "emm-inspect labs/chemistry",
        "emm-inspect labs/chemistry blocks --picture blocks.png",
        "emm-inspect labs/chemistry rows 0:9 --json",
        "emm-inspect labs/chemistry/0000000000000001.emm diff labs/chemistry",
        "emm-inspect labs/chemistry --html chemistry.html",
    ),
)
@click.argument("path")
@click.argument("view", required=False, metavar="[VIEW]")
@click.argument("detail", required=False, metavar="[A:B | PATH2]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.option("--all", "everything", is_flag=True, help="Every block or commit, where the text shows only some.")
@click.option("--generation", type=click.IntRange(min=1), metavar="N", help="This generation, not the newest.")
@click.option(
    "--picture",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the picture of the view, or one sheet of all, to FILE (.png or .svg).",
    metavar="FILE",
)
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write one page with everything to FILE; it needs no network and no scripts.",
    metavar="FILE",
)
@click.version_option(version(), prog_name="emm-inspect")
def inspect_command(
    path: str,
    view: str | None,
    detail: str | None,
    as_json: bool,
    everything: bool,
    generation: int | None,
    picture: Path | None,
    html: Path | None,
) -> int:
    """Tell what is in a memory directory, one snapshot (.emm), one journal segment (.wal) or a v3 file.

    \b
    Without VIEW: what it is and whether it is healthy, in ten lines. Views:
      header        every field of header and lineage, as stored
      blocks        what each 64 KiB block holds, and whether it is whole
      journal       segments and commits
      generations   the snapshots
      spectrum      singular values of M, effective rank, functional utilisation
      rows A:B      rows of M, both ends included
      diff PATH2    what changed from PATH to PATH2

    Reads only, and takes no lock: a writer may be at work.
    """
    _check(view, detail, generation, picture, html)
    found, lines, problem = _look(
        path, view, detail, generation, everything, picture is not None or html is not None, as_json
    )
    if picture is not None:
        _draw(path, view, found, picture)
    if html is not None:
        _write_page(path, found, html)
    if as_json:
        click.echo(json.dumps(inspection.plain(found), indent=2, allow_nan=False))
    else:
        for line in lines:
            click.echo(line)
    for name, written in (("picture", picture), ("page", html)):
        if written is not None:
            click.echo(f"{name}: {printable(str(written))}", err=as_json)
    if problem is not None:
        click.echo(f"stopped: {printable(problem)}", err=True)
    code: int = found.exit_code
    return code


def _check(
    view: str | None, detail: str | None, generation: int | None, picture: Path | None, html: Path | None
) -> None:
    """Refuse what does not go together, before anything is read."""
    if view is not None and view not in VIEWS:
        raise click.BadParameter(f"there is no view {printable(view)!r}; choose one of {', '.join(VIEWS)}.")
    needs = {"rows": "rows of M, as 0:9", "diff": "another path"}.get(view or "")
    if needs and detail is None:
        raise click.UsageError(f"{view} needs {needs}.")
    if detail is not None and not needs:
        raise click.UsageError(f"{view} takes nothing after it, but there is {printable(detail)!r}.")
    if generation is not None and view not in ONE_GENERATION:
        raise click.UsageError(f"--generation goes with {', '.join(ONE_GENERATION)}.")
    if picture is not None and picture.suffix.lower() not in (".png", ".svg"):
        raise click.BadParameter("the name must end in .png or .svg", param_hint="--picture")
    if picture is not None and view is not None and view not in PICTURED:
        raise click.UsageError(f"there is no picture of {view}; there is one of {', '.join(PICTURED)}.")
    if html is not None and (view is not None or html.suffix.lower() not in (".html", ".htm")):
        raise click.BadParameter(
            "the page shows everything: no view, and a name that ends in .html", param_hint="--html"
        )


def parse_rows(text: str) -> tuple[int, int]:
    """`A:B` or `A`, both ends included."""
    first, colon, last = text.partition(":")
    if not (first.isascii() and first.isdigit() and (not colon or (last.isascii() and last.isdigit()))):
        raise click.BadParameter(f"rows are named A:B, as 0:9, not {printable(text)!r}.")
    if max(len(first), len(last)) > 9:
        raise click.BadParameter("no matrix has so many rows.")
    return int(first), int(last) if colon else int(first)


def _look(
    path: str,
    view: str | None,
    detail: str | None,
    generation: int | None,
    everything: bool,
    pictured: bool,
    as_json: bool,
) -> tuple[Any, Iterable[str], str | None]:
    """(what was found, its text, what stopped it)."""
    if view == "header":
        header = inspection.header(path, generation=generation)
        wrong = next((each.problem for each in header.records if each.problem), None) if header.exit_code else None
        return header, inspect_views.header_lines(header), wrong
    if view == "blocks":
        blocks = inspection.blocks(path, generation=generation)
        return blocks, inspect_views.blocks_lines(blocks, everything=everything), None
    if view == "spectrum":
        spectrum = inspection.spectrum(path)
        return spectrum, inspect_views.spectrum_lines(spectrum), spectrum.problem
    if view == "rows":
        rows = inspection.rows(path, *parse_rows(detail or ""), generation=generation)
        return rows, inspect_views.rows_lines(rows), next((each.problem for each in rows.rows if each.problem), None)
    if view == "diff":
        found = inspection.diff(path, detail or "")
        wrong = found.before.problem or found.after.problem
        return found, inspect_views.diff_lines(found, everything=everything), wrong
    if view in ("generations", "journal"):
        with inspection.opened(path):
            pass  # a v3 file is refused: it has neither
    if view == "generations":
        overview = emm.inspect(path, history=pictured)
        return overview, inspect_views.generations_lines(overview), None
    if view == "journal":
        overview = emm.inspect(path, history=True)
        return overview, inspect_views.journal_lines(overview, everything=everything), None
    overview = emm.inspect(path, state=True, history=pictured or as_json, health=True, blocks=pictured)
    return overview, [describe(overview)], overview.state_problem


def _draw(path: str, view: str | None, found: Any, picture: Path) -> None:
    try:
        from emm_tools import pictures
    except ImportError as error:
        raise MissingExtra("pictures", error) from error
    pictures.draw(path, view, found, picture)


def _write_page(path: str, found: emm.Inspection, html: Path) -> None:
    try:
        from emm_tools.inspect_page import page
    except ImportError as error:
        raise MissingExtra("pictures", error) from error
    text = page(path, found)
    with whole_file(html) as file:
        file.write(text.encode("utf-8"))
