"""Ranked passages as citations.

Purpose: from places in a roster to values that quote the stored text. Invariants: a passage that has gone from the
catalog since it was ranked is left out; nothing is quoted that is not the stored text of its span.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from emm_engine.catalog.search import CatalogReader, Quote
from emm_engine.retrieval.answer import Citation

WHERE = ("document_id", "passage_id", "source", "title", "date", "file_date", "start", "end")


def place_of(quote: Quote) -> dict[str, Any]:
    """What a quote says of where it stands."""
    return {name: getattr(quote, name) for name in WHERE}


def cite(reader: CatalogReader, ranked: Sequence[tuple[int, float, float, float]]) -> list[Citation]:
    """Citations of (passage id, score, BM25, cosine), in order, not numbered yet."""
    quotes = reader.quotes([identity for identity, *_ in ranked])
    return [
        Citation(
            **place_of(quotes[identity]),
            quote=quotes[identity].text,
            score=score,
            lexical=lexical,
            vector=vector,
            number=0,
        )
        for identity, score, lexical, vector in ranked
        if identity in quotes
    ]
