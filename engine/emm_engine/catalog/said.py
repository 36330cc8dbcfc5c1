"""What was said of places, as rows: under a place, under another name, into another catalog.

Purpose: settings and marks follow a scope that is moved, exported or imported. Invariants: only one tenant's rows are
read or written; what is said above a place is not below it.
"""

from __future__ import annotations

from collections.abc import Sequence

from emm_engine.catalog.store import Catalog
from emm_engine.hierarchy import Place, Scope

Said = tuple[str, str, str]  # place, key, value


def said_below(catalog: Catalog, tenant_id: int, place: Place) -> list[Said]:
    """What was said of a place and of what is below it, in order."""
    rows = catalog.query("SELECT scope, key, value FROM settings WHERE tenant_id = ?", (tenant_id,))
    begins = f"{place}/" if isinstance(place, Scope) else str(place)
    return sorted((row[0], row[1], row[2]) for row in rows if row[0] == str(place) or row[0].startswith(begins))


def said_of(said: Sequence[Said], source: Place, target: Place) -> list[Said]:
    """The same, said of another place of the same level."""
    return [(str(target) + scope[len(str(source)) :], key, value) for scope, key, value in said]


def move_said(catalog: Catalog, tenant_id: int, source: Scope, target: Scope) -> None:
    """All of it under another name, inside a transaction; what was said of the target before was said of nothing."""
    said = said_below(catalog, tenant_id, source)
    catalog.executemany(
        "DELETE FROM settings WHERE tenant_id = ? AND scope = ? AND key = ?",
        [(tenant_id, scope, key) for scope, key, _ in (*said, *said_below(catalog, tenant_id, target))],
    )
    say_where_silent(catalog, tenant_id, said_of(said, source, target))


def say_where_silent(catalog: Catalog, tenant_id: int, said: Sequence[Said]) -> None:
    """Each where nothing was said, inside a transaction."""
    catalog.executemany(
        "INSERT INTO settings(tenant_id, scope, key, value) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        [(tenant_id, *each) for each in said],
    )
