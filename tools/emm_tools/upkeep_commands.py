"""`emm expand | merge | checkpoint | prune`: what a memory needs over its life.

Purpose: thin commands over `emm.Memory` and `emm.merge`. Invariant: none of them touches a source of a merge or a
generation that is still needed; they print what is there afterwards.
"""

from __future__ import annotations

from pathlib import Path

import click

import emm
from emm_tools.exits import OneSentence, counted, examples, printable, tell_notices
from emm_tools.memory_commands import keys_option, opened, values_option
from emm_tools.pairs_input import from_files


def _state(memory: emm.Memory) -> str:
    return (
        f"generation {memory.generation}, LSN {memory.lsn}, rank {memory.rank}, "
        f"saturation {memory.saturation:.3f}, digest {memory.digest}"
    )


@click.command(
    cls=OneSentence,
    epilog=examples(
        "emm expand labs/chemistry --rank 128",
        "emm expand labs/chemistry --rank 128 --keys all_keys.npy --values all_values.npy",
    ),
)
@click.argument("path")
@click.option("--rank", type=click.IntRange(16), required=True, help="The new rank: larger, a multiple of 16.")
@keys_option
@values_option
@click.option("--bare", is_flag=True, help="Without the pairs: later writes will damage what was there before.")
def expand(path: str, rank: int, keys: Path | None, values: Path | None, bare: bool) -> None:
    """Raise the rank by solving again over the kept pairs (or over those given).

    The pairs come from the journal where it still holds all of them.
    """
    if (keys is None) != (values is None):
        raise click.UsageError("--keys and --values go together.")
    if bare and keys is not None:
        raise click.UsageError("--bare takes no pairs.")
    pairs = None
    if keys is not None:
        batch = from_files(keys, values)
        assert batch.values is not None
        pairs = (batch.keys, batch.values)
    with opened(path, "a") as memory:
        try:
            memory.expand(rank, pairs=pairs, bare=bare)
        except emm.HistoryError as error:
            error.message = error.message.replace("pairs=", "--keys and --values")
            raise
        click.echo(f"expanded {printable(path)}: {_state(memory)}")


@click.command(
    cls=OneSentence,
    epilog=examples(
        "emm merge labs/run1 labs/run2 labs/run3 --into labs/project",
    ),
)
@click.argument("sources", nargs=-1, required=True)
@click.option("--into", required=True, metavar="PATH", help="The new memory; must not exist.")
def merge(sources: tuple[str, ...], into: str) -> None:
    """Make one memory of all the pairs of all SOURCES, as if they had been written into one.

    Sources need the same shape, seed and λ, and must never have been decayed or expanded bare. They stay as they are.
    """
    with emm.merge(list(sources), into=into) as memory:
        tell_notices(memory.notices)
        click.echo(f"merged {counted(len(sources), 'memory', 'memories')} into {printable(into)}: {_state(memory)}")


@click.command(cls=OneSentence, epilog=examples("emm checkpoint labs/chemistry"))
@click.argument("path")
def checkpoint(path: str) -> None:
    """Publish a snapshot of the memory as it is now, a new generation."""
    with opened(path, "a") as memory:
        memory.checkpoint()
        click.echo(f"checkpointed {printable(path)}: {_state(memory)}")


@click.command(
    cls=OneSentence,
    epilog=examples(
        "emm prune labs/chemistry --keep 3",
        "emm prune labs/chemistry --keep 1 --journal",
    ),
)
@click.argument("path")
@click.option("--keep", type=click.IntRange(1), default=3, show_default=True, help="Newest generations to keep.")
@click.option("--journal", is_flag=True, help="Also segments no kept generation needs: no re-solve or history after.")
def prune(path: str, keep: int, journal: bool) -> None:
    """Remove old generations; with --journal also journal segments that none of the kept ones needs.

    Without --journal the pairs stay, so that the memory can expand by solving again.
    """
    with opened(path, "a") as memory:
        pruned = memory.prune(keep=keep, journal=journal)
        removed = f"{counted(len(pruned.names), 'file')}, {pruned.freed_bytes} bytes"
        click.echo(f"pruned {printable(path)}: removed {removed}")
        for name in pruned.names:
            click.echo(f"  {printable(name)}")
