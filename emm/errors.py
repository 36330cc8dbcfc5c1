"""Every error this library raises on purpose.

Purpose: one tree of exceptions that carry evidence: the spec rule that was broken, where, what
was expected and what was found. Invariants: every error survives pickling (a worker in another
process may raise it) and its text is one sentence a person can act on.
"""

from __future__ import annotations

from typing import Any


class EmmError(Exception):
    """Base class. `exit_code` is what a command exits with when this error ends it, see docs/exit-codes.md."""

    exit_code = 1

    def __init__(
        self,
        message: str,
        *,
        rule: str | None = None,
        file: str | None = None,
        offset: int | None = None,
        expected: Any = None,
        found: Any = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.rule = rule
        self.file = file
        self.offset = offset
        self.expected = expected
        self.found = found

    def __str__(self) -> str:
        parts = [self.message]
        evidence = [
            f"{word} {value}"
            for word, value in (("expected", self.expected), ("found", self.found))
            if value is not None
        ]
        if evidence:
            parts.append(", ".join(evidence))
        where = []
        if self.file is not None:
            where.append(self.file)
        if self.offset is not None:
            where.append(f"byte {self.offset}")
        if self.rule is not None:
            where.append(f"rule {self.rule}")
        text = ": ".join(parts)
        return f"{text} ({', '.join(where)})" if where else text

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.message, dict(self.__dict__)))

    def located(self, file: str) -> EmmError:
        """The same error, with the file it happened in filled in when it was not known yet."""
        if self.file is None:
            self.file = file
        return self


def _rebuild(kind: type[EmmError], message: str, fields: dict[str, Any]) -> EmmError:
    error = kind.__new__(kind)
    Exception.__init__(error, message)
    error.__dict__.update(fields)
    return error


# --- the caller asked for something that cannot be done --------------------------------------


class InputError(EmmError):
    """An argument has the wrong shape, type or value (names the offending row where there is one)."""

    exit_code = 2


class GateError(InputError):
    """A write or unlearn that the gain rule refuses (spec A-rules); nothing was changed or logged."""


class ExistsError(InputError):
    """The name to create is taken; nothing is ever overwritten."""


class HistoryError(InputError):
    """The operation needs pairs (or proof about them) that this memory no longer keeps."""


# --- bytes that are not what they should be --------------------------------------------------


class FormatError(EmmError):
    """Bytes that break a rule of the specification."""

    exit_code = 4


class NotEmmError(FormatError):
    """The file is not an EMM file at all (wrong magic)."""

    exit_code = 5


class UnsupportedError(FormatError):
    """A valid EMM file of a version, flag or feature that this library does not know."""

    exit_code = 5


class LimitError(FormatError):
    """A size within the format's rules but over a limit this process was given."""

    exit_code = 5


class ChecksumError(FormatError):
    """A CRC or SHA-256 does not match the bytes it covers."""


class TruncatedError(FormatError):
    """The file ends before the bytes its header promises."""


class CorruptionError(FormatError):
    """The journal or the directory contradicts what was proven durable; data may be lost."""


# --- the world outside ------------------------------------------------------------------------


class StorageError(EmmError):
    """The medium failed (I/O, permissions, changed while reading): nothing is known about the data."""

    exit_code = 6


class MissingError(StorageError):
    """There is no memory, file or object under that name."""

    exit_code = 10


class FencedError(StorageError):
    """Another writer holds the memory, or has taken it over since."""

    exit_code = 11


class ClosedError(EmmError):
    """The handle was closed, belongs to another process (fork), or was poisoned by a failed sync."""

    exit_code = 1
