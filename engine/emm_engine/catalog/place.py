"""Where an archive keeps its catalog: a file in its own folder, or a PostgreSQL server.

Purpose: make, find and recognise a catalog. Invariants: `catalog.sqlite` or `catalog.json` is the mark of an archive,
and appears whole or not at all; `catalog.json` holds the server's URL without a password, and the archive's id, which
names its schema on the server, so no two archives share a table; `EMM_CATALOG` chooses where a new archive keeps its
catalog, and by which URL (with a password, say) one on a server is reached.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Final

from emm import ExistsError, InputError, MissingError
from emm_engine.catalog.schema import LEFTOVER_PREFIX, create_catalog
from emm_engine.catalog.store import Catalog
from emm_engine.errors import CatalogError
from emm_engine.files import replace_durably, sync_folder

if TYPE_CHECKING:
    from emm_engine.catalog.postgres import PostgresDatabase

EMBEDDED_NAME: Final = "catalog.sqlite"
LINK_NAME: Final = "catalog.json"
LINK_BYTES_MAX: Final = 1 << 16
LINK_FORMAT: Final = 1
VARIABLE: Final = "EMM_CATALOG"
IN_THE_FOLDER: Final = ""  # in place of a URL

_ID = re.compile(r"[0-9a-f]{32}")


def is_archive(root: Path) -> bool:
    """Whether a folder is an archive."""
    return is_embedded(root) or (root / LINK_NAME).is_file()


def is_embedded(root: Path) -> bool:
    """Whether a folder is an archive that is whole without a server."""
    return (root / EMBEDDED_NAME).is_file()


def require_whole(root: Path) -> None:
    """`InputError` for an archive that leads to a server: who imports it would talk to whomever it names."""
    if is_archive(root) and not is_embedded(root):
        raise InputError("an archive with its catalog on a server is not an exported one", file=str(root))


def create(root: Path, url: str | None = None) -> None:
    """A new catalog for the archive in a folder that exists: where the URL says, else where `EMM_CATALOG` does."""
    if is_archive(root):
        raise ExistsError("there is an archive already", file=str(root))
    url = os.environ.get(VARIABLE, IN_THE_FOLDER) if url is None else url
    try:
        if url == IN_THE_FOLDER:
            create_catalog(root / EMBEDDED_NAME)
        else:
            _create_on_server(root, url)
    except FileExistsError:
        raise ExistsError("another process has just made an archive here", file=str(root)) from None


def open_catalog(root: Path, url: str | None = None) -> Catalog:
    """An archive's catalog; `MissingError` where there is no archive."""
    if is_embedded(root):
        return Catalog(root / EMBEDDED_NAME)
    if not is_archive(root):
        raise MissingError(
            "there is no archive here", file=str(root), expected=f"{EMBEDDED_NAME} or {LINK_NAME} (emm ingest makes it)"
        )
    remembered, archive_id = _read_link(root / LINK_NAME)
    database = _connect(url or os.environ.get(VARIABLE) or remembered, archive_id)
    try:
        database.migrate()
    except BaseException:
        database.close()
        raise
    return Catalog(database)


def _connect(url: str, archive_id: str) -> PostgresDatabase:
    """Imported here: only who uses a server needs its driver."""
    try:
        from emm_engine.catalog.postgres import PostgresDatabase
        from emm_engine.catalog.server_url import parsed
    except ImportError as error:
        raise InputError("the catalog is on a server", expected="psycopg: the extra postgres") from error
    return PostgresDatabase(parsed(url), archive_id)


def _create_on_server(root: Path, url: str) -> None:
    """Say what the tables will be called, make them, then say where they are: killed in between, the next goes on."""
    begun = [path.stem.removeprefix(LEFTOVER_PREFIX) for path in sorted(root.glob(f"{LEFTOVER_PREFIX}*.json"))]
    archive_id = next((each for each in begun if _ID.fullmatch(each)), None) or secrets.token_hex(16)
    database = _connect(url, archive_id)
    try:
        pending = root / f"{LEFTOVER_PREFIX}{archive_id}.json"
        link = {"format": LINK_FORMAT, "catalog": database.name, "archive": archive_id}
        replace_durably(pending, (json.dumps(link, indent=2) + "\n").encode())
        database.create()
        try:
            os.link(pending, root / LINK_NAME)
        finally:
            pending.unlink(missing_ok=True)
        sync_folder(root)
    finally:
        database.close()


def _read_link(path: Path) -> tuple[str, str]:
    """(URL, archive id) that an archive remembers."""
    with path.open("rb") as stream:
        data = stream.read(LINK_BYTES_MAX)
    try:
        link = json.loads(data)
        if link["format"] == LINK_FORMAT and isinstance(link["catalog"], str) and _ID.fullmatch(link["archive"]):
            return link["catalog"], link["archive"]
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise CatalogError("cannot read where the catalog is", file=str(path), expected=f"a link of format {LINK_FORMAT}")
