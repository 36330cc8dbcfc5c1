"""Where an archive keeps its catalog: a file in its own folder.

Purpose: make, find and recognise a catalog. Invariants: `catalog.sqlite` is the mark of an archive, and appears whole
or not at all; a catalog on a server, by `EMM_CATALOG` or a link in the folder, is refused and not passed over.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from emm import ExistsError, InputError, MissingError
from emm_engine.catalog.schema import create_catalog
from emm_engine.catalog.store import Catalog

EMBEDDED_NAME: Final = "catalog.sqlite"
LINK_NAME: Final = "catalog.json"
VARIABLE: Final = "EMM_CATALOG"


def is_archive(root: Path) -> bool:
    """Whether a folder is an archive."""
    return (root / EMBEDDED_NAME).is_file()


def create(root: Path) -> None:
    """A new catalog for the archive in a folder that exists."""
    if os.environ.get(VARIABLE):
        raise InputError("a catalog is a file of its archive, not on a server", expected=f"no {VARIABLE}")
    try:
        create_catalog(root / EMBEDDED_NAME)
    except FileExistsError:
        raise ExistsError("another process has just made an archive here", file=str(root)) from None


def open_catalog(root: Path) -> Catalog:
    """An archive's catalog; `MissingError` where there is no archive."""
    if is_archive(root):
        return Catalog(root / EMBEDDED_NAME)
    if (root / LINK_NAME).is_file():
        raise InputError("this archive's catalog is on a server, which is not supported", file=str(root / LINK_NAME))
    raise MissingError("there is no archive here", file=str(root), expected=f"{EMBEDDED_NAME} (emm ingest makes it)")
