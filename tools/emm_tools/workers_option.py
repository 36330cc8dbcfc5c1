"""`--workers`: who does the work of a command.

Purpose: one option, so that it means the same everywhere. Invariants: workers are started when the command is, and
ended with it, however it ends; nothing is started before the other options are known to be right.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from emm_engine.scale.workers import open_workers
from emm_tools.exits import MissingExtra

WORKERS_HELP = "N processes, dask:N, or a Dask scheduler's tcp:// or tls:// address. Only connect to one you trust."


def workers_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command `workers`: an open `Workers`, or None where nobody asked for any."""
    return _with_workers(command, None)


def workers_or_two(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command `workers`: an open `Workers`, two processes where nobody asked for others."""
    return _with_workers(command, "2")


def _with_workers(command: Callable[..., Any], default: str | None) -> Callable[..., Any]:
    @click.option("--workers", "workers_text", metavar="N|URL", default=default, show_default=True, help=WORKERS_HELP)
    @functools.wraps(command)
    def wrapped(*arguments: Any, workers_text: str | None, **options: Any) -> Any:
        if workers_text is None:
            return command(*arguments, workers=None, **options)
        try:
            workers = open_workers(workers_text)
        except ImportError as error:
            raise MissingExtra("scale", error) from error
        with workers:
            return command(*arguments, workers=workers, **options)

    return wrapped
