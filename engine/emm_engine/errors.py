"""What the engine refuses on purpose, in the same tree as the library's errors.

Purpose: callers catch `emm.EmmError` once, for library and engine alike. Invariants: every error
carries what was expected and what was found, and an exit code of docs/exit-codes.md.
"""

from __future__ import annotations

from emm import EmmError, InputError


class ScopeError(InputError):
    """A tenant, domain, project or run whose name is not allowed, or a scope too wide or narrow for the call."""


class CatalogError(EmmError):
    """The catalog and what it describes (a memory, a schema version) contradict each other."""

    exit_code = 4


class EmbedderError(EmmError):
    """The embedding model of a domain is missing, damaged or not the one its vectors were made with."""

    exit_code = 4


class EmbedderUnavailable(EmbedderError):
    """The model cannot embed now: the service is down, slow, refuses, or answers with something else.

    Nothing is lost: text stays stored and waits. `transient` says whether trying again soon may help, `retry_after_s`
    what the service asked for.
    """

    exit_code = 6
    transient: bool = True
    retry_after_s: float = 0.0

    def permanent(self) -> EmbedderUnavailable:
        """This error, marked as one that only a person can mend."""
        self.transient = False
        return self

    def after(self, seconds: float) -> EmbedderUnavailable:
        """This error, with how long the service asked to be left alone."""
        self.retry_after_s = seconds
        return self


class TextRefused(EmbedderError):
    """The service refuses a request for what is in it: a text too long, or one that it will not take."""

    exit_code = 2


class WorkError(EmmError):
    """Work that was handed to other processes did not come back: no workers, or a unit that ends each one it meets."""

    exit_code = 6
