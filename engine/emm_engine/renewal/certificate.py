"""What a forgetting did, told without what was forgotten.

Purpose: something to keep. Invariants: counts, places and SHA-256 hashes; no text, no title, no source, no label.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from emm_engine.renewal.trace import Trace
from emm_engine.reports import to_json


@dataclass(frozen=True, slots=True)
class Matrix:
    """A memory that was changed."""

    scope: str
    how: str  # unlearned: taken out exactly; rewritten: made anew from what remains
    write_count: int  # pairs it holds now
    digest: str


@dataclass(frozen=True, slots=True)
class Certificate:
    """A forgetting that is through."""

    forgetting: int  # 0 for a tenant, of which not even this is left
    when: str
    purged: bool
    documents: int  # gone as a whole
    passages: int
    pairs: int  # that were in matrices
    labels: int  # that nothing carries any more
    revived: int  # older versions that are current again
    content_sha256: tuple[str, ...] = ()  # of the documents that lost anything, as they were
    passage_sha256: tuple[str, ...] = ()  # first 8 bytes of each passage's, as the catalog had them
    blocked: bool = False  # the same content is refused from now on
    matrices: tuple[Matrix, ...] = ()
    models: tuple[str, ...] = ()  # domains whose embedder was fitted anew, without it
    trace: Trace | None = field(default=None)  # None where nothing was purged, or the search was interrupted

    def to_json(self) -> str:
        return to_json(asdict(self))
