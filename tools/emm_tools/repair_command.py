"""`emm-verify --repair`: show how a damaged memory can be repaired, and write the repaired one to a new place.

Purpose: the options and the text of repairs, apart from checking. Invariants: the plan is shown before anything is
written; nothing is written into the damaged memory; a loss needs --allow-loss and never exits 0.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from emm.repair import Plan, Result, execute, plan
from emm_tools.exits import counted, printable
from emm_tools.inspect_text import size
from emm_tools.verify_options import not_empty

Command = TypeVar("Command", bound=Callable[..., Any])
_NEEDS_REPAIR = ("out", "dry_run", "allow_loss", "from_report")
_NEEDS_CHECK = (
    "sample",
    "seed",
    "max_age",
    "max_duration",
    "ledger",
    "accept",
    "expect_sha256",
    "paranoid",
    "jobs",
    "strict",
    "quiet",
    "summary",
)


def repair_options(command: Command) -> Command:
    """Add the options of `--repair` to a command."""
    options = (
        click.option("--repair", is_flag=True, help="Repair one memory into a new directory; see docs/repair.md."),
        click.option(
            "--out",
            callback=not_empty,
            metavar="PATH",
            help="Where the repaired memory goes; must not exist, or be empty.",
        ),
        click.option(
            "--against",
            callback=not_empty,
            metavar="PATH",
            help="A replica: to compare with, or with --repair to take parts from.",
        ),
        click.option("--dry-run", is_flag=True, help="Only show the plan."),
        click.option("--allow-loss", is_flag=True, help="Repair even where something is lost; the plan says what."),
        click.option(
            "--from-report",
            callback=not_empty,
            metavar="FILE",
            help="What emm-verify --json found, instead of another scan.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def was_given(name: str) -> bool:
    """True when a person wrote the option, with whatever value."""
    source = click.get_current_context().get_parameter_source(name)
    return source is not None and source is not ParameterSource.DEFAULT


def run_repair(
    paths: tuple[str, ...],
    given: dict[str, Any],
    *,
    level: str,
    as_json: bool,
    as_jsonl: bool,
    progress: Callable[[str, int], None],
) -> int | None:
    """Plan, show, repair; the exit code. None when no repair was asked for."""
    if not given.pop("repair"):
        asked = [name for name in _NEEDS_REPAIR if given[name]]
        if asked:
            raise click.UsageError(f"--{asked[0].replace('_', '-')} goes with --repair.")
        return None
    unfit = [name for name in _NEEDS_CHECK if was_given(name)]
    if unfit:
        raise click.UsageError(f"--{unfit[0].replace('_', '-')} does not go with --repair.")
    if len(paths) != 1:
        raise click.UsageError("--repair takes one memory.")
    if as_jsonl:
        raise click.UsageError("--repair speaks text or --json, not --jsonl.")
    if not given["out"] and not given["dry_run"]:
        raise click.UsageError("--repair needs --out PATH, or --dry-run to see the plan alone.")
    found = plan(paths[0], against=given["against"], report=given["from_report"], level=level, progress=progress)
    if not as_json:
        _show(found)
    if given["dry_run"] or not found.damaged:
        if as_json:
            click.echo(found.to_json())
        return found.exit_code
    if as_json and found.losses and not given["allow_loss"]:
        click.echo(found.to_json())  # the sentence on stderr says that nothing was written
    done = execute(found, given["out"], allow_loss=given["allow_loss"], progress=progress)
    if as_json:
        click.echo(json.dumps(_as_json(done), indent=2, sort_keys=True))
    else:
        click.echo(_sentence(done, given["out"]))
    return done.exit_code


def _show(found: Plan) -> None:
    for line in found.lines():
        click.echo(_printable_line(line))


def _printable_line(line: str) -> str:
    indent = len(line) - len(line.lstrip(" "))
    return " " * indent + printable(line)


def _as_json(done: Result) -> dict[str, Any]:
    return {
        "plan": done.plan.to_dict(),
        "out": done.path,
        "record": done.record,
        "exit_code": done.exit_code,
        "report": done.report.to_dict(),
    }


def _sentence(done: Result, out: str) -> str:
    covered = done.report.coverage
    counts = [(covered.snapshots, "snapshot"), (covered.segments, "segment"), (covered.commits, "commit")]
    looked_at = ", ".join(counted(count, what) for count, what in counts if count)
    lost = f"; {counted(len(done.plan.losses), 'loss', 'losses')} as named above" if done.plan.losses else ""
    checked = f"{looked_at}, {size(covered.bytes_read)} checked"
    return f"repaired: {printable(out)}: {done.report.verdict} ({checked}), {done.record}{lost}"
