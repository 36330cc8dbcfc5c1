"""`emm create | write | recall | unlearn`, and `emm forget` for keys: the memory itself, from .npy files or JSON lines.

Purpose: one shell command for each thing `emm.Memory` does with pairs. Invariants: whatever a command acknowledges on
stdout is durable; stdin is taken batch by batch, each batch one atomic commit, so a stream of any length fits.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

import click
import numpy as np

import emm
from emm_tools.exits import InputProblem, OneSentence, counted, examples, printable, tell_notices
from emm_tools.pairs_input import GATES, Batch, from_files, from_lines, json_number
from emm_tools.whole_file import whole_file

BATCH_PAIRS = 1024
F = TypeVar("F", bound=Callable[..., Any])

NPY = click.Path(exists=True, dir_okay=False, path_type=Path)
keys_option = click.option(
    "--keys", type=NPY, help="(n, key_dim) floats in a .npy file; without it, JSON lines on stdin."
)
values_option = click.option("--values", type=NPY, help="(n, dim) floats in a .npy file, one row for each key.")
batch_option = click.option(
    "--batch", type=click.IntRange(1), default=BATCH_PAIRS, show_default=True, help="Lines in one atomic commit."
)


def opened(path: str, mode: str = "r") -> emm.Memory:
    """The memory at `path`; its notices are told."""
    memory = emm.open(path, mode=mode)
    tell_notices(memory.notices)
    return memory


def batches(
    memory: emm.Memory, keys: Path | None, values: Path | None, batch: int, *, pairs: bool, gates: tuple[str, ...] = ()
) -> Iterator[Batch]:
    """What a command was given: one batch from files, or batches of lines from stdin."""
    if keys is not None:
        if pairs and values is None:
            raise click.UsageError("--keys needs --values beside it.")
        yield from_files(keys, values if pairs else None)
    elif values is not None:
        raise click.UsageError("--values needs --keys beside it.")
    else:
        if sys.stdin.isatty():
            click.echo("reading JSON lines from the terminal; end with Ctrl-D", err=True)
        dim = memory.dim if pairs else None
        yield from from_lines(sys.stdin.buffer, key_dim=memory.key_dim, dim=dim, batch=batch, gates=gates)


@contextmanager
def to_change(
    path: str, given: Callable[[emm.Memory], Iterator[Batch]]
) -> Iterator[tuple[emm.Memory, Iterator[Batch]]]:
    """The memory at `path`, open for append, and what is to be done with it.

    Beside a v3 file a memory is published when it is opened so: only once there is something to do, and it fits.
    """
    if not Path(path).is_file():
        with opened(path, "a") as memory:
            yield memory, given(memory)
        return
    with emm.open(path, verify="lazy") as cell:
        source = given(cell)
        first = [item for item in islice(source, 1) if len(item.keys)]
        if not first:
            yield cell, source
            return
        for name, rows, width in (("keys", first[0].keys, cell.key_dim), ("values", first[0].values, cell.dim)):
            if rows is not None and rows.shape[1] != width:
                raise emm.InputError(f"{name} has the wrong shape", expected=f"(n, {width})", found=rows.shape)
    with opened(path, "a") as memory:
        yield memory, chain(first, source)


def acknowledge(source: Iterator[Batch], act: Callable[[Batch], int]) -> None:
    """Do `act` for each batch and print its LSN once it is durable; a refused batch says what went in before it."""
    done, lsn, where = 0, 0, ""
    try:
        for item in source:
            where = f" in {item.where}" if item.from_lines else ""
            lsn = act(item)
            done += len(item.keys)
            click.echo(json.dumps({"lsn": lsn, "pairs": len(item.keys)}))
            sys.stdout.flush()
    except (InputProblem, emm.InputError) as problem:
        stands = f"{counted(done, 'pair')} before it {'is' if done == 1 else 'are'} durable"
        before = f" ({stands}, up to LSN {lsn})" if done else ""
        if isinstance(problem, InputProblem):
            raise InputProblem(problem.message.rstrip(".") + (before or ".")) from problem
        problem.message += f"{where}{before}"
        raise


@click.command(
    cls=OneSentence,
    epilog=examples(
        "emm create labs/chemistry --dim 768 --rank 64 --key-dim 384",
        "emm create labs/noisy --dim 64 --rank 64 --key-dim 384 --ridge 1",
        "emm create labs/cell --dim 64 --rank 64 --key-dim 64 --rule gated-delta --projection none",
    ),
)
@click.argument("path")
@click.option("--dim", type=click.IntRange(1), required=True, help="Numbers in a value; rows of M.")
@click.option("--rank", type=click.IntRange(16), required=True, help="Columns of M: a multiple of 16, at most key_dim.")
@click.option("--key-dim", type=click.IntRange(1), required=True, help="Numbers in a key.")
@click.option(
    "--rule",
    type=click.Choice(["preconditioned", "gated-delta", "outer-product"]),
    default="preconditioned",
    show_default=True,
    help="How a pair is written.",
)
@click.option(
    "--projection",
    type=click.Choice(["hadamard", "none"]),
    default="hadamard",
    show_default=True,
    help="How a key becomes `rank` numbers; none: keys are used as they are.",
)
@click.option("--seed", type=click.IntRange(0), help="Of the projection; memories with different seeds do not merge.")
@click.option("--ridge", type=click.FloatRange(min=0, min_open=True), help="λ, the prior's weight [default: 2^-6].")
@click.option("--expand-at", type=click.FloatRange(0, 1), default=0.85, show_default=True, help="0: never expand.")
@click.option("--metadata", metavar="JSON", help="A JSON object kept with the memory; no floats, no paths.")
def create(path: str, metadata: str | None, **options: Any) -> None:
    """Make a new, empty memory in the directory PATH.

    An existing memory is never touched: the command refuses it.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if metadata is not None:
        try:
            given["metadata"] = json.loads(metadata)
        except RecursionError:
            raise InputProblem("--metadata is not JSON: nested too deeply.") from None
        except ValueError as error:
            raise InputProblem(f"--metadata is not JSON: {error}.") from error
    with emm.create(path, **given) as memory:
        click.echo(
            f"created {printable(path)}: M {memory.dim} × {memory.rank}, keys of {memory.key_dim} numbers, "
            f"{memory.rule}, uuid {memory.uuid}"
        )


@click.command(
    cls=OneSentence,
    epilog=examples(
        "emm write labs/chemistry --keys keys.npy --values values.npy",
        "producer | emm write labs/chemistry --batch 64",
        """echo '{"key": [0.1, …], "value": [0.5, …], "write_gate": 2}' | emm write labs/chemistry""",
    ),
)
@click.argument("path")
@keys_option
@values_option
@click.option("--write-gate", type=float, default=1.0, show_default=True, help="β of every pair: how much it counts.")
@click.option(
    "--decay-gate", type=float, default=1.0, show_default=True, help="α of every pair; below 1 old pairs fade."
)
@batch_option
def write(path: str, keys: Path | None, values: Path | None, write_gate: float, decay_gate: float, batch: int) -> None:
    """Write (key, value) pairs into the memory at PATH.

    JSON lines on stdin: {"key": […], "value": […]} and optionally "write_gate", "decay_gate". Prints one JSON line
    for each commit, after it is durable.
    """

    def given(memory: emm.Memory) -> Iterator[Batch]:
        return batches(memory, keys, values, batch, pairs=True, gates=GATES)

    with to_change(path, given) as (memory, source):

        def act(item: Batch) -> int:
            assert item.values is not None
            decay, weight = item.gates.get("decay_gate", decay_gate), item.gates.get("write_gate", write_gate)
            return memory.write(item.keys, item.values, decay_gate=decay, write_gate=weight)

        acknowledge(source, act)


@click.command(
    cls=OneSentence,
    epilog=examples(
        "emm recall labs/chemistry --keys queries.npy -o recalled.npy",
        """echo '{"key": [0.1, …]}' | emm recall labs/chemistry""",
    ),
)
@click.argument("path")
@keys_option
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write a (n, dim) .npy file here."
)
def recall(path: str, keys: Path | None, output: Path | None) -> None:
    """Recall the value for each key: JSON lines {"value": […]} in the order asked, or one .npy file with -o."""
    kept: list[Any] = []
    with opened(path) as memory:
        for item in batches(memory, keys, None, BATCH_PAIRS, pairs=False):
            recalled = memory.recall(item.keys)
            if output is not None:
                kept.append(recalled)
                continue
            for row in recalled:
                click.echo(json.dumps({"value": [json_number(number) for number in row]}))
        if output is not None:
            shape = (0, memory.dim)
            with whole_file(output) as file:
                np.save(file, np.concatenate(kept) if kept else np.zeros(shape, np.float32))


@click.command(
    cls=OneSentence,
    epilog=examples(
        "emm unlearn labs/chemistry --keys keys.npy --values values.npy",
        "emm unlearn labs/chemistry --rank 64 < superseded.jsonl",
    ),
)
@click.argument("path")
@keys_option
@values_option
@click.option("--write-gate", type=float, default=1.0, show_default=True, help="β that the pairs were written with.")
@click.option("--rank", type=click.IntRange(16), help="Rank at which they were written, when history cannot tell.")
@batch_option
def unlearn(path: str, keys: Path | None, values: Path | None, write_gate: float, rank: int | None, batch: int) -> None:
    """Take pairs out again, as if they had never been written (preconditioned rule, no decay since).

    Needs the pairs exactly as they were written. Input as for `emm write`.
    """

    def given(memory: emm.Memory) -> Iterator[Batch]:
        return batches(memory, keys, values, batch, pairs=True, gates=("write_gate",))

    with to_change(path, given) as (memory, source):

        def act(item: Batch) -> int:
            assert item.values is not None
            gate = item.gates.get("write_gate", write_gate)
            return memory.unlearn(item.keys, item.values, write_gate=gate, rank=rank)

        acknowledge(source, act)


def forget_keys(path: str, keys: Path | None, batch: int) -> None:
    """Make the memory at `path` answer zero for keys, from a file or from stdin."""
    with to_change(path, lambda memory: batches(memory, keys, None, batch, pairs=False)) as (memory, source):
        acknowledge(source, lambda item: memory.forget(item.keys))
