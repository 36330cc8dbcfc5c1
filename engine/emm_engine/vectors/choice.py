"""Which vector store an archive has: Annoy segments, else exact search; a server where one is named.

Purpose: an archive opens with and without the extra "vectors", and a team points it to a PostgreSQL with pgvector by
one variable. Invariants: both embedded stores write the same truth log, so either opens what the other has left;
archives on one server have schemas of their own.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from emm import InputError
from emm_engine.vectors.exact import ExactVectors
from emm_engine.vectors.store import VectorStore

SERVER: Final = "EMM_VECTORS"  # environment: postgresql://…


def open_vectors(
    folder: Path, dim: int, fingerprint: str, server: str | None = None, *, background: bool = True
) -> VectorStore:
    """The vectors of one embedder of the archive whose vectors belong below `folder`.

    `background`: whether what has become ripe is merged in a child process, which may outlive this one.
    """
    if server:
        try:
            from emm_engine.vectors.pgvectors import PgVectors
        except ImportError as error:
            raise InputError(f"{SERVER} names a server", expected="psycopg and pgvector: the extra postgres") from error
        return PgVectors(server, schema_of(folder), dim, fingerprint)
    try:
        from emm_engine.vectors.segmented import SegmentedVectors
    except ImportError:  # annoy or mmap-ninja
        return ExactVectors(folder, dim, fingerprint)
    return SegmentedVectors(folder, dim, fingerprint, background=background)


def schema_of(folder: Path) -> str:
    """Where an archive's vectors are on a server; an archive that moves is embedded again."""
    return "emm_" + hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:24]
