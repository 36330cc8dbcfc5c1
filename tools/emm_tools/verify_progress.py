"""A progress bar on a terminal: share, bytes, bytes a second, time left, and the file at hand.

Purpose: what a person watches while an archive is checked. Invariants: silent where stderr is no terminal; drawn at
most ten times a second; cleared before anything else is printed; how much there is to read is found out beside the
checking, so that nothing waits for it.
"""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Callable
from typing import Final

import click

from emm_tools.inspect_text import size
from emm_tools.verify_text import escaped

_REDRAW_SECONDS: Final = 0.1
_BAR_WIDTH: Final = 20
_SETTLED_SECONDS: Final = 1.0  # before that a rate says little


def clock(seconds: float) -> str:
    """`0:07`, `12:34`, `1:02:03`."""
    minutes, second = divmod(int(seconds + 0.5), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def bar_line(n_bytes: int, total: int | None, seconds: float, seen: int, file: str, width: int) -> str:
    """One line of exactly as many characters as fit."""
    rate = n_bytes / seconds if seconds > 0 else 0.0
    parts = []
    if total:
        share = min(1.0, n_bytes / total)
        filled = int(share * _BAR_WIDTH)
        parts.append(f"[{'#' * filled}{'.' * (_BAR_WIDTH - filled)}] {share:4.0%}")
        parts.append(f"{size(n_bytes)} of {size(total)}")
    else:
        parts.append(size(n_bytes))
    parts.append(f"{size(int(rate))}/s")
    if total and seconds >= _SETTLED_SECONDS and rate > 0:
        parts.append(f"{clock(max(0, total - n_bytes) / rate)} left")
    if seen:
        parts.append(f"{seen} seen")
    line = "  ".join(parts)
    room = width - len(line) - 3
    return f"{line}  {escaped(file)[-room:]}" if room > 8 else line[: width - 1]


class ProgressBar:
    """Called with a file and the bytes just checked in it."""

    def __init__(self, measure: Callable[[], int] | None = None) -> None:
        self.shown = sys.stderr.isatty()
        self.n_bytes = 0
        self.seen = 0  # findings met on the way
        self._total: int | None = None
        self._measure = measure
        self._begun = time.monotonic()
        self._drawn = 0.0
        self._on_screen = False

    def __call__(self, file: str, n_bytes: int) -> None:
        self.n_bytes += n_bytes
        now = time.monotonic()
        if not self.shown or now - self._drawn < _REDRAW_SECONDS:
            return
        if self._measure is not None:  # not before the workers are there: they are forked from a single thread
            threading.Thread(target=self._find_total, args=(self._measure,), daemon=True).start()
            self._measure = None
        width = shutil.get_terminal_size().columns
        line = bar_line(self.n_bytes, self._total, now - self._begun, self.seen, file, width)
        click.echo(f"\r{line.ljust(width - 1)}", err=True, nl=False)
        self._drawn, self._on_screen = now, True

    def _find_total(self, measure: Callable[[], int]) -> None:
        self._total = measure()

    def clear(self) -> None:
        """Take the bar away, before a line is printed and at the end."""
        if self._on_screen:
            click.echo(f"\r{'':{shutil.get_terminal_size().columns - 1}}\r", err=True, nl=False)
            self._on_screen = False

    end = clear
