"""The mark of an exported archive: of which scope it is.

Purpose: written once by export, read by import before anything else. Invariant: a catalog with views, triggers or
virtual tables of its own is refused before one of its tables is read, for they could compute whatever they like.
"""

from __future__ import annotations

from typing import Final

from emm import InputError
from emm_engine.catalog.store import Catalog
from emm_engine.hierarchy import Place, parse_place

KEY: Final = "export.scope"


def exported_scope(catalog: Catalog, file: str) -> Place:
    """What an archive is an export of; `InputError` where it is none."""
    strange = catalog.query(
        "SELECT name FROM sqlite_master WHERE type IN ('view', 'trigger') "
        "OR (sql LIKE 'CREATE VIRTUAL%' AND name NOT LIKE 'fulltext_%') LIMIT 1"
    )
    if strange:
        raise InputError("not a catalog that emm export has written", file=file, found=repr(strange[0][0]))
    rows = catalog.query("SELECT value FROM meta WHERE key = ?", (KEY,))
    if not rows:
        raise InputError("not an exported archive", file=file, expected="what emm export has written")
    return parse_place(str(rows[0][0]))


def say_exported(catalog: Catalog, place: Place) -> None:
    """Mark an archive as the export of a scope."""
    with catalog.transaction():
        catalog.executemany("INSERT INTO meta(key, value) VALUES (?, ?)", [(KEY, str(place))])
