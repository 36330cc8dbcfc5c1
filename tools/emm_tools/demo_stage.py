"""The stage of `emm demo`: headings, commands that are shown before they run, and claims that are checked.

Purpose: what a person sees is what ran; every command line can be pasted into a shell in the same folder. Invariants:
output of a command is shown unchanged; a claim that does not hold ends the demo with exit 1.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import click

WIDTH = 100


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

    def __post_init__(self) -> None:
        self.folder = Path(shown_path(self.folder))

    def title(self, text: str) -> None:
        click.echo(f"\n{'=' * WIDTH}\n{text}\n{'=' * WIDTH}")

    def say(self, text: str = "") -> None:
        click.echo(text)

    def claim(self, holds: bool, text: str) -> None:
        """Print a sentence about what was just computed, or end the demo because it is false."""
        if not holds:
            raise ClaimError(f"this does not hold: {text}")
        click.echo(f"-> {text}")

    def conclude(self, text: str) -> None:
        self.summary.append(text)

    def show(self, arguments: Sequence[str | Path]) -> list[str]:
        """Print the command line as a person can paste it; returns the one to run."""
        name, *rest = (str(argument) for argument in arguments)
        command = program(name) + rest
        paste = [shown_path(command[0]), *command[1:]] if os.sep in command[0] else command
        click.echo(f"\n$ {shlex.join(paste)}")
        return command

    def run(self, *arguments: str | Path, expect: Sequence[int] = (0,)) -> Result:
        """Show and run a command, print its stdout; progress and errors go to our stderr. Refuses other exit codes."""
        sys.stdout.flush()
        done = subprocess.run(self.show(arguments), stdout=subprocess.PIPE, text=True, encoding="utf-8")
        click.echo(done.stdout.rstrip("\n"), nl=bool(done.stdout))
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
        return subprocess.Popen(command, stdout=subprocess.PIPE)

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
