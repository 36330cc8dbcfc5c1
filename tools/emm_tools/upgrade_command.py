"""`emm upgrade SRC DST`: a v4 memory from a v3 file, which stays as it is.

Purpose: the options and sentences around `emm.upgrading`. Invariants: what will be done is known, and refused where it
must be, before anything is written; an upgrade that was done before is not an error and changes nothing.
"""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np

import emm
from emm.upgrading import UpgradePlan, plan_upgrade
from emm.upgrading import upgrade as publish
from emm_tools.exits import InputProblem, OneSentence, counted, examples, printable
from emm_tools.memory_commands import NPY
from emm_tools.pairs_input import from_files, from_lines

Pairs = tuple[np.ndarray, np.ndarray]
LINES_AT_ONCE = 4096


@click.command(
    cls=OneSentence,
    epilog=examples(
        "emm upgrade old/chemistry.v3 labs/chemistry --dry-run",
        "emm upgrade old/chemistry.v3 labs/chemistry",
        "emm upgrade old/chemistry.v3 labs/chemistry --pairs pairs.jsonl",
        "emm upgrade old/chemistry.v3 labs/chemistry --keys keys.npy --values values.npy",
    ),
)
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST")
@click.option("--dry-run", is_flag=True, help="Check everything and say what would be done; write nothing.")
@click.option("--pairs", type=NPY, metavar="FILE", help='All original pairs, a line each: {"key": […], "value": […]}.')
@click.option("--keys", type=NPY, help="The same as .npy files: (n, dim) keys …")
@click.option("--values", type=NPY, help="… and (n, dim) values.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def upgrade(
    source: str, target: str, dry_run: bool, pairs: Path | None, keys: Path | None, values: Path | None, as_json: bool
) -> None:
    """Make a v4 memory at DST from the v3 file SRC, which is not changed.

    The memory answers as the v3 cell did until its first write. It runs the preconditioned rule, with P estimated from
    the cell; from the original pairs, where you still have all of them, it is built properly. docs/upgrade.md tells
    what is kept and what is not.
    """
    plan = plan_upgrade(source, target, pairs=_pairs(source, pairs, keys, values))
    shown = plan.to_dict() | {"dry_run": dry_run, "digest": None}
    lines = [_about(plan)]
    if plan.done:
        lines.append(f"nothing to do: {printable(target)} is the upgrade of this file already")
    elif dry_run:
        lines.append(f"would make {_made(plan)}; nothing was written")
    else:
        with publish(plan) as memory:
            shown["digest"] = memory.digest
            lines.append(f"made {_made(plan)}, digest {memory.digest}")
    click.echo(json.dumps(shown) if as_json else "\n".join(lines))


def _about(plan: UpgradePlan) -> str:
    cell = plan.source.cell
    flags = f", {', '.join(plan.flags)}" if plan.flags else ""
    return f"v3 file {printable(plan.source.url)}: dim {cell.dim}, m = {cell.log_scale:g}{flags}, CRC-32 fits"


def _made(plan: UpgradePlan) -> str:
    parameters = plan.parameters
    shape = f"{printable(str(plan.target))}: M {parameters.dim} × {parameters.rank}, rule preconditioned"
    if plan.pairs is None:
        return f"{shape} with P estimated from the cell, its normaliser kept until the first write"
    n = counted(len(plan.pairs.keys), "original pair")
    return f"{shape} solved from {n} (cosine of their products and the cell {plan.related:.4f})"


def _pairs(source: str, lines: Path | None, keys: Path | None, values: Path | None) -> Pairs | None:
    """The pairs that were given in either way; None for none."""
    if (keys is None) != (values is None):
        raise click.UsageError("--keys and --values go together.")
    if lines is not None and keys is not None:
        raise click.UsageError("give --pairs, or --keys and --values.")
    if keys is not None:
        batch = from_files(keys, values)
        assert batch.values is not None
        return batch.keys, batch.values
    if lines is None:
        return None
    with emm.open(source, verify="lazy") as cell:
        dim = cell.dim
    with lines.open("rb") as stream:
        batches = list(from_lines(stream, key_dim=dim, dim=dim, batch=LINES_AT_ONCE))
    if not batches:
        raise InputProblem(f"{lines} holds no pairs.")
    value_rows = [batch.values for batch in batches if batch.values is not None]
    return np.concatenate([batch.keys for batch in batches]), np.concatenate(value_rows)
