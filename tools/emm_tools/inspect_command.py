"""`emm-inspect PATH`: what is in a memory, as text a person likes to read, as JSON, and as a picture.

Purpose: show what `emm.inspect` finds. Invariants: never writes into the memory; when its state cannot be opened the
structure is still shown, and the exit code is that of the error.
"""

from __future__ import annotations

import json
from pathlib import Path

import click

import emm
from emm_tools.exits import MissingExtra, OneSentence, examples, printable
from emm_tools.inspect_text import describe
from emm_tools.version import version


@click.command(
    "inspect",
    cls=OneSentence,
    epilog=examples(
        "emm-inspect labs/chemistry",
        "emm-inspect labs/chemistry --json",
        "emm-inspect labs/chemistry --picture chemistry.png",
        "emm-inspect labs/chemistry/0000000000000008.emm",
    ),
)
@click.argument("path")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.option("--blocks", is_flag=True, help="List every block and compare it with its checksums.")
@click.option(
    "--picture",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write block map, spectrum and history to FILE (.png or .svg).",
    metavar="FILE",
)
@click.version_option(version(), prog_name="emm-inspect")
def inspect_command(path: str, as_json: bool, blocks: bool, picture: Path | None) -> int:
    """Tell what is in a memory directory, one snapshot (.emm), one journal segment (.wal) or a v3 file.

    Reads only, and takes no lock: a writer may be at work.
    """
    if picture is not None and picture.suffix.lower() not in (".png", ".svg"):
        raise click.BadParameter("the name must end in .png or .svg", param_hint="--picture")
    found = emm.inspect(path, blocks=blocks or picture is not None, state=True)
    if picture is not None:
        try:
            from emm_tools.pictures import draw
        except ImportError as error:
            raise MissingExtra("pictures", error) from error
        draw(found, picture)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
    else:
        click.echo(describe(found, blocks=blocks))
    if picture is not None:
        click.echo(f"picture: {printable(str(picture))}", err=as_json)
    if found.state_problem is not None:
        click.echo(f"the state cannot be opened: {printable(found.state_problem)}", err=True)
    return found.exit_code
