"""How a command ends: every failure is one sentence on stderr and an exit code of docs/exit-codes.md.

Purpose: `OneSentence` is the click command (and `OneSentenceGroup` the group) under every tool; its `main` is the
only place where exceptions become exit codes. Invariants: no traceback reaches a person unless EMM_DEBUG=1; a closed
pipe is quiet; a stream that was closed before we started is empty and takes everything; warnings of the library are
one line on stderr.
"""

from __future__ import annotations

import enum
import os
import sys
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn, TextIO

import click

import emm


class Exit(enum.IntEnum):
    """Exit codes that the tools themselves decide; the rest come from `EmmError.exit_code` and verify's report."""

    CLEAN = 0
    INTERNAL = 1
    USAGE = 2
    UNKNOWN = 6
    INTERRUPTED = 130
    PIPE_CLOSED = 141


NEW_LINE = "\n"  # after the ^C that a terminal shows


class InputProblem(click.ClickException):
    """Input from a file or stdin that a command refuses; the sentence names the file and the line or row."""

    exit_code = Exit.USAGE


class MissingExtra(click.ClickException):
    """A command needs packages of an extra that is not installed."""

    exit_code = Exit.INTERNAL

    def __init__(self, extra: str, error: ImportError) -> None:
        super().__init__(f"this command needs `pip install emm-format[{extra}]` ({error}).")


def printable(text: str) -> str:
    """Text that is safe on a terminal: white space becomes spaces, other control characters a mark."""
    flat = " ".join(text.split())
    return "".join(mark if mark.isprintable() else "\N{REPLACEMENT CHARACTER}" for mark in flat)


def counted(count: int, one: str, many: str = "") -> str:
    """`1 file`, `2 files`, `0 entries`."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def tell_notices(notices: Iterable[str]) -> None:
    """What a memory has to say about itself, on stderr."""
    for notice in notices:
        click.echo(f"note: {printable(notice)}", err=True)


def examples(*lines: str) -> str:
    """The epilog of a command: examples a person can paste, kept line by line."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    click.echo(f"note: {printable(str(message))}", err=True)


def _open_standard_streams() -> None:
    """Give /dev/null to what our starter closed (`emm … <&- >&-`).

    Python has None there, and the next file to be opened, a journal perhaps, would get the number that everything else
    in the process takes for stderr.
    """
    for name, number, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        if getattr(sys, name) is None:
            try:
                os.fstat(number)
            except OSError:
                null = os.open(os.devnull, os.O_RDWR)
                if null != number:
                    os.dup2(null, number)
                    os.close(null)
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - for as long as we run


def _close_quietly() -> None:
    """After the reader of our output went away: nothing more to say, and nothing may fail at shutdown."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        return


def _os_sentence(error: OSError) -> str:
    reason = error.strerror or str(error) or type(error).__name__
    return f"{reason}: {error.filename}" if error.filename else reason


class _PipeClosed(Exception):
    """The reader of our stdout went away. (click would turn the OSError into exit code 1.)"""


class _Interrupted(Exception):
    """Ctrl-C. (click would print an empty line and abort.)"""


class OneSentence(click.Command):
    """A click command whose failures are one sentence and a documented exit code."""

    def make_context(self, *arguments: Any, **extra: Any) -> click.Context:
        try:  # --help and --version print here
            return super().make_context(*arguments, **extra)
        except BrokenPipeError as error:
            raise _PipeClosed from error

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise _PipeClosed from error
        except KeyboardInterrupt as error:
            raise _Interrupted from error

    def main(  # type: ignore[override]
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> NoReturn:
        extra.pop("standalone_mode", None)
        name = prog_name or self.name or "emm"
        _open_standard_streams()
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            sys.exit(self._ended(name, args, extra))

    def _ended(self, name: str, args: Sequence[str] | None, extra: dict[str, Any]) -> int:
        try:
            code = super().main(args=args, prog_name=name, standalone_mode=False, **extra)
            sys.stdout.flush()
            return code if isinstance(code, int) else Exit.CLEAN
        except click.UsageError as error:
            error.show()
            return Exit.USAGE
        except click.ClickException as error:
            click.echo(f"{name}: {printable(error.format_message())}", err=True)
            return error.exit_code
        except (_Interrupted, KeyboardInterrupt, click.Abort):
            click.echo(f"{NEW_LINE if sys.stderr.isatty() else ''}{name}: interrupted.", err=True)
            return Exit.INTERRUPTED
        except (_PipeClosed, BrokenPipeError):
            _close_quietly()
            return Exit.PIPE_CLOSED
        except Exception as error:
            if os.environ.get("EMM_DEBUG") == "1":
                raise
            return _told(name, error)


def _told(name: str, error: Exception) -> int:
    """One sentence for an exception; its exit code."""
    if isinstance(error, emm.EmmError):
        sentence, code = str(error), error.exit_code
    elif isinstance(error, OSError):
        sentence, code = _os_sentence(error), Exit.UNKNOWN
    elif isinstance(error, ImportError):
        sentence, code = MissingExtra("demo", error).format_message(), Exit.INTERNAL
    elif isinstance(error, MemoryError):
        sentence, code = "not enough memory for this request", Exit.UNKNOWN
    else:
        sentence = f"internal error: {type(error).__name__}: {error} (EMM_DEBUG=1 shows where)"
        code = Exit.INTERNAL
    click.echo(f"{name}: {printable(sentence)}", err=True)
    return code


class OneSentenceGroup(OneSentence, click.Group):
    """A group of such commands."""

    command_class = OneSentence
    group_class = type
