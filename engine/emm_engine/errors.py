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


class WorkError(EmmError):
    """Work that was handed to other processes did not come back: no workers, or a unit that ends each one it meets."""

    exit_code = 6
