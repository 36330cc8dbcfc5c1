"""The options of `emm-verify` that are more than a flag: samples, durations, what goes with what.

Purpose: turn what a person types into an `emm.verify.Request`. Invariants: an option that would have no effect is
refused, never ignored.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

import emm
from emm.verify import Request, default_path, parse_level, parse_sample

Command = TypeVar("Command", bound=Callable[..., Any])
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
JOBS_MAX: Final = 64


def _seconds(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """`90s`, `15m`, `12h`, `30d` or `4w`, as seconds."""
    if value is None:
        return None
    match = _DURATION.fullmatch(value.strip())
    if match is None:
        raise click.BadParameter(f"{value!r} is not a duration; write 90s, 15m, 12h, 30d or 4w.")
    return float(match[1]) * _UNITS[match[2]]


def not_empty(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """An option's value; an empty one, as of a variable that a script did not set, would have no effect."""
    if value is not None and not value.strip():
        raise click.BadParameter("it is empty; leave the option out, or name something.")
    return value


def scrub_options(command: Command) -> Command:
    """Add the options of checking whole archives to a command."""
    options = (
        click.option("--jobs", type=click.IntRange(1, JOBS_MAX), default=1, show_default=True, help="Processes."),
        click.option(
            "--sample",
            callback=not_empty,
            metavar="5%|N/T|SIZE",
            help="Read a share, the n-th of t parts or so many bytes of the blocks.",
        ),
        click.option(
            "--seed", type=click.IntRange(0, 2**32 - 1), help="Of the sample; chosen and printed if not given."
        ),
        click.option("--max-age", callback=_seconds, metavar="30d", help="Pass over what was found clean since then."),
        click.option("--max-duration", callback=_seconds, metavar="15m", help="Begin nothing new after this time."),
        click.option(
            "--ledger",
            callback=not_empty,
            metavar="FILE",
            help="What earlier checks saw. Used with --max-age and --max-duration, or when given; default: "
            "$XDG_STATE_HOME/emm/verify-ledger.sqlite.",
        ),
        click.option(
            "--accept", is_flag=True, help="Let the ledger remember what is there now, whatever it saw before."
        ),
        click.option(
            "--expect-sha256", callback=not_empty, metavar="HEX", help="The SHA-256 that the one file must have."
        ),
        click.option(
            "--paranoid", is_flag=True, help="Numeric, a second CRC-32 by other code, and everything read twice."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def request_of(paths: tuple[str, ...], level: str, strict: bool, given: dict[str, Any]) -> Request:
    """What the options ask for; `UsageError` for what makes no sense together."""
    if given["seed"] is not None and not given["sample"]:
        raise click.UsageError("--seed goes with --sample.")
    wants_ledger = given["max_age"] is not None or given["max_duration"] is not None
    if given["accept"] and not (wants_ledger or given["ledger"]):
        raise click.UsageError("--accept goes with --ledger, --max-age or --max-duration.")
    if given["paranoid"] and level not in ("blocks", "numeric"):
        raise click.UsageError("--paranoid is numeric and more; leave --level out.")
    ledger = Path(given["ledger"]) if given["ledger"] else default_path() if wants_ledger else None
    try:
        sample = parse_sample(given["sample"]) if given["sample"] else None
    except emm.InputError as error:
        raise click.UsageError(f"--sample {error}.") from None
    return Request(
        paths,
        parse_level(level),
        strict,
        given["jobs"],
        sample,
        given["seed"],
        ledger,
        given["max_age"],
        given["max_duration"],
        given["accept"],
        given["against"],
        given["expect_sha256"],
        given["paranoid"],
    )
