"""The embedded store that can be had here: Annoy segments, else exact search.

Purpose: an archive opens with and without the extra "vectors". Invariant: both stores write the same truth log, so
either opens what the other has left.
"""

from __future__ import annotations

from pathlib import Path

from emm_engine.vectors.exact import ExactVectors
from emm_engine.vectors.store import VectorStore


def open_vectors(folder: Path, dim: int, fingerprint: str) -> VectorStore:
    """The vectors of one embedder below `folder`."""
    try:
        from emm_engine.vectors.segmented import SegmentedVectors
    except ImportError:  # annoy or mmap-ninja
        return ExactVectors(folder, dim, fingerprint)
    return SegmentedVectors(folder, dim, fingerprint)
