"""Where an archive keeps its catalog: in its own folder, or on a server.

Purpose: make, find and recognise a catalog. Invariants: `catalog.sqlite` or `catalog.json` is the mark of an archive,
and appears whole or not at all; `catalog.json` holds a server's URL without a password, and the archive's identity,
which the server's catalog holds too, so no folder is ever joined to the catalog of another archive; `EMM_CATALOG`
chooses where a new archive keeps its catalog, and by which URL (with a password, say) one on a server is reached.
"""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Final

from emm import ExistsError, MissingError
from emm_engine.catalog.schema import LEFTOVER_PREFIX, create_catalog
from emm_engine.catalog.store import Catalog
from emm_engine.errors import CatalogError
from emm_engine.files import replace_durably

if TYPE_CHECKING:
    from emm_engine.catalog.postgres import PostgresDatabase

EMBEDDED_NAME: Final = "catalog.sqlite"
LINK_NAME: Final = "catalog.json"
VARIABLE: Final = "EMM_CATALOG"
LINK_BYTES_MAX: Final = 1 << 16


def is_archive(root: Path) -> bool:
    """Whether a folder is an archive."""
    return (root / EMBEDDED_NAME).is_file() or (root / LINK_NAME).is_file()


def create(root: Path, url: str | None) -> None:
    """A new catalog for the archive in a folder that exists: on a server where a URL (or `EMM_CATALOG`) says so."""
    url = url or os.environ.get(VARIABLE)
    if is_archive(root):
        raise ExistsError("there is an archive already", file=str(root))
    if not url:
        try:
            create_catalog(root / EMBEDDED_NAME)
        except FileExistsError:
            raise ExistsError("another process has just made an archive here", file=str(root)) from None
        return
    _create_on_server(root, url)


def open_catalog(root: Path, url: str | None = None) -> Catalog:
    """An archive's catalog; `MissingError` where there is no archive."""
    if (root / EMBEDDED_NAME).is_file():
        return Catalog(root / EMBEDDED_NAME)
    if not (root / LINK_NAME).is_file():
        raise MissingError("there is no archive here", file=str(root), expected=f"{EMBEDDED_NAME} or {LINK_NAME}")
    remembered, archive_id = _read_link(root / LINK_NAME)
    database = _connect(url or os.environ.get(VARIABLE) or remembered)
    try:
        found = database.archive_id()
        if found != archive_id:
            raise CatalogError(
                "the server's catalog is another archive's", file=database.name, expected=archive_id, found=found
            )
        database.migrate()
    except BaseException:
        database.close()
        raise
    return Catalog(database)


def _connect(url: str) -> PostgresDatabase:
    """Imported here: only who uses a server needs its driver."""
    from emm_engine.catalog.postgres import PostgresDatabase, parsed

    return PostgresDatabase(parsed(url))


def _create_on_server(root: Path, url: str) -> None:
    """Say who will own the tables, make them, then say where they are: killed in between, the next call goes on."""
    begun = sorted(root.glob(f"{LEFTOVER_PREFIX}*.json"))
    archive_id = begun[0].stem.removeprefix(LEFTOVER_PREFIX) if begun else secrets.token_hex(16)
    database = _connect(url)
    try:
        pending = root / f"{LEFTOVER_PREFIX}{archive_id}.json"
        link = {"format": 1, "catalog": database.name, "archive": archive_id}
        replace_durably(pending, (json.dumps(link, indent=2) + "\n").encode())
        try:
            database.create(archive_id)
        except ExistsError:
            pending.unlink()
            raise
        replace_durably(root / LINK_NAME, pending.read_bytes())
        pending.unlink()
    finally:
        database.close()


def _read_link(path: Path) -> tuple[str, str]:
    """(URL, archive id) that an archive remembers."""
    with path.open("rb") as stream:
        data = stream.read(LINK_BYTES_MAX)
    try:
        link = json.loads(data)
        if link["format"] == 1 and isinstance(link["catalog"], str) and isinstance(link["archive"], str):
            return link["catalog"], link["archive"]
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise CatalogError("cannot read where the catalog is", file=path.name, expected="a link of format 1")
