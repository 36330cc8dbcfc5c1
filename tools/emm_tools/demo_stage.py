"""The stage of `emm demo`: headings, commands that are shown before they run, and claims that are checked.

Purpose: what a person sees is what ran; every command line can be pasted into a shell in the same folder. Invariants:
output of a command is shown as it is, but for digests, of which the first digits are shown, and where it says that
lines were left out; a claim that does not hold ends the demo with exit 1.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import click

WIDTH = 100
LINE_CHARS_MAX = 140  # of what the demo itself says

_DIGEST = re.compile(r"\b([0-9a-f]{16})[0-9a-f]{48}\b")


class ClaimError(click.ClickException):
    """Something the demo says about the format turned out not to hold."""

    exit_code = 1


def shown_path(path: str | Path) -> str:
    """A path as a person would type it: relative to the working directory where it lies below it."""
    absolute = Path(os.path.abspath(path))
    here = Path.cwd()
    return str(absolute.relative_to(here)) if absolute.is_relative_to(here) else str(absolute)


def program(name: str) -> list[str]:
    """How to run one of our console scripts, or `python`, from this very installation."""
    if name == "python":
        return [sys.executable]
    script = Path(sys.executable).parent / name
    return [str(script)] if script.exists() else [sys.executable, "-m", "emm_tools", name]


def fitted(text: str) -> str:
    """Lines that a terminal of 140 columns shows whole; continued ones are indented below their text."""
    lines = [
        textwrap.wrap(line, LINE_CHARS_MAX, subsequent_indent=" " * 8, break_long_words=False, break_on_hyphens=False)
        for line in text.split("\n")
    ]
    return "\n".join("\n".join(parts) for parts in lines)


def without_kernel_note() -> dict[str, str]:
    """Our environment, in which a command does not say again that the compiled kernel is missing."""
    filters = [os.environ.get("PYTHONWARNINGS"), "ignore:the compiled EMM kernel:RuntimeWarning"]
    return {**os.environ, "PYTHONWARNINGS": ",".join(filter(None, filters))}


@dataclass(slots=True)
class Result:
    """A command that ended: its exit code and what it printed on stdout."""

    exit_code: int
    text: str


@dataclass(slots=True)
class Stage:
    """Prints and runs. `summary` collects the lines of the end."""

    folder: Path
    summary: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    environment: dict[str, str] = field(default_factory=without_kernel_note)

    def __post_init__(self) -> None:
        self.folder = Path(shown_path(self.folder))

    def title(self, text: str) -> None:
        click.echo(f"\n{'=' * WIDTH}\n{text}\n{'=' * WIDTH}")

    def say(self, text: str = "") -> None:
        click.echo(fitted(text))

    def claim(self, holds: bool, text: str) -> None:
        """Print a sentence about what was just computed, or end the demo because it is false."""
        if not holds:
            raise ClaimError(f"this does not hold: {text}")
        click.echo(fitted(f"-> {text}"))

    def conclude(self, text: str) -> None:
        self.summary.append(text)

    def show(self, arguments: Sequence[str | Path]) -> list[str]:
        """Print the command line as a person can paste it; returns the one to run."""
        name, *rest = (str(argument) for argument in arguments)
        command = program(name) + rest
        paste = [shown_path(command[0]), *command[1:]] if os.sep in command[0] else command
        click.echo(f"\n$ {shlex.join(paste)}")
        return command

    def run(self, *arguments: str | Path, expect: Sequence[int] = (0,), lines_max: int | None = None) -> Result:
        """Show and run a command, print its stdout; progress and errors go to our stderr. Refuses other exit codes."""
        sys.stdout.flush()
        command = self.show(arguments)
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, encoding="utf-8", env=self.environment)
        lines = _DIGEST.sub(r"\1…", done.stdout.rstrip("\n")).split("\n")
        if lines_max is not None and len(lines) > lines_max:
            lines = [*lines[: lines_max - 1], f"  … and {len(lines) - lines_max + 1} lines more"]
        click.echo("\n".join(lines), nl=bool(done.stdout))
        if done.returncode not in expect:
            raise ClaimError(f"`{arguments[0]}` ended with exit code {done.returncode}, not {expect[0]}")
        if done.returncode or len(expect) > 1:
            click.echo(f"exit code {done.returncode}")
        return Result(done.returncode, done.stdout)

    def run_plain(self, *arguments: str | Path) -> None:
        """Show and run a command of the system, such as cp."""
        command = [str(argument) for argument in arguments]
        click.echo(f"\n$ {shlex.join(command)}")
        subprocess.run(command, check=True)

    def start(self, *arguments: str | Path) -> subprocess.Popen[bytes]:
        """Show and start a command whose stdout we read from a pipe."""
        command = self.show(arguments)
        return subprocess.Popen(command, stdout=subprocess.PIPE, env=self.environment)

    def write_file(self, name: str, text: str) -> Path:
        """Write a program into the demo's folder and show it."""
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        click.echo(f"\n{path}:\n")
        for line in text.rstrip("\n").split("\n"):
            click.echo(f"    {line}".rstrip())
        return path

    def elapsed_s(self) -> float:
        return time.monotonic() - self.started


def pipe_of(process: subprocess.Popen[bytes]) -> IO[bytes]:
    assert process.stdout is not None
    return process.stdout
