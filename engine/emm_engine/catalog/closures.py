"""Which scopes take no more documents.

Purpose: the marks that `emm close` sets and `emm reopen` lifts, kept in the settings table under a key of their own,
so that they move and are exported with the rest of what a scope was told. Invariants: a run is closed when it or
anything above it carries a mark, also a run that does not exist yet; lifting a mark leaves the marks below standing.
"""

from __future__ import annotations

from typing import Final

from emm_engine.catalog.store import Catalog
from emm_engine.errors import ScopeError
from emm_engine.hierarchy import Place, chain_of

KEY: Final = "scope.closed"


class Closures:
    """The marks of an archive."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def marks(self, tenant: str) -> set[str]:
        """The places of a tenant that carry a mark, as text."""
        rows = self._catalog.query(
            "SELECT scope FROM settings JOIN tenants USING(tenant_id) WHERE name = ? AND key = ?", (tenant, KEY)
        )
        return {row[0] for row in rows}

    def closed_by(self, place: Place) -> str | None:
        """The nearest marked place at or above this one; None when it is open."""
        marks = self.marks(place.tenant)
        return next((level for level in map(str, chain_of(place)) if level in marks), None)

    def require_open(self, scope: Place) -> None:
        """`ScopeError` when the scope takes no more documents."""
        mark = self.closed_by(scope)
        if mark is not None:
            raise ScopeError("the scope is closed", expected=f"an open one (emm reopen ARCHIVE {mark})", found=mark)

    def mark(self, place: Place) -> None:
        """Close a place; durable when it returns."""
        with self._catalog.transaction():
            self._catalog.executemany(
                "INSERT INTO settings(tenant_id, scope, key, value) VALUES (?, ?, ?, 'on') ON CONFLICT DO NOTHING",
                [(self._catalog.tenant_id(place.tenant), str(place), KEY)],
            )

    def lift(self, place: Place) -> None:
        """Take the place's own mark away; durable when it returns."""
        with self._catalog.transaction():
            self._catalog.executemany(
                "DELETE FROM settings WHERE tenant_id = ? AND scope = ? AND key = ?",
                [(self._catalog.tenant_id(place.tenant), str(place), KEY)],
            )
