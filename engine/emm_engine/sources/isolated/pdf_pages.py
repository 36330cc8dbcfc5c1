"""PDF to text, page by page, with pypdf.

Purpose: the text layer of a document and what it says about itself. Invariants: at most `PAGES_MAX` pages; a page that
does not parse is told and the next one read; nothing is rendered, opened or executed.
"""

from __future__ import annotations

import io
from collections.abc import Iterator

PAGES_MAX = 2000
FIELD_CHARS_MAX = 1000


def pdf_pages(data: bytes) -> Iterator[dict[str, object]]:
    """{"title", "date", "author", "pages"} first, then {"page", "text"} or {"page", "problem"} of each page."""
    from pypdf import PasswordType, PdfReader

    reader = PdfReader(io.BytesIO(data), strict=False)
    if reader.is_encrypted and reader.decrypt("") == PasswordType.NOT_DECRYPTED:
        raise ValueError("encrypted: it needs a password")
    count = len(reader.pages)
    yield {**_about(reader), "pages": count, "left_out": max(0, count - PAGES_MAX)}
    for number in range(min(count, PAGES_MAX)):
        try:
            yield {"page": number + 1, "text": reader.pages[number].extract_text()}
        except MemoryError:
            raise
        except Exception as error:  # whatever a parser of foreign bytes may raise
            yield {"page": number + 1, "problem": f"{type(error).__name__}: {error}"[:FIELD_CHARS_MAX]}


def _about(reader: object) -> dict[str, object]:
    found: dict[str, object] = {"title": "", "date": "", "author": ""}
    try:
        about = getattr(reader, "metadata", None)
        if about is not None:
            created = about.creation_date or about.modification_date
            found = {
                "title": str(about.title or "")[:FIELD_CHARS_MAX],
                "date": created.isoformat() if created is not None else "",
                "author": str(about.author or "")[:FIELD_CHARS_MAX],
            }
    except Exception:  # damaged metadata: the pages may be whole
        return found
    return found
