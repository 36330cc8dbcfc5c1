"""HTML pages as documents.

Purpose: saved pages and exports of other notebooks. The text is what a reader sees, as Markdown, so that headings and
tables count as in a note. Title from `<title>`, date from the page's own meta elements. Invariants: the page is parsed
under limits, in another process; the encoding is what the page says of itself, where that can be read.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator

from emm_engine.documents import Document, Label
from emm_engine.sources.changelog import decode_text
from emm_engine.sources.files import SourceFile
from emm_engine.sources.isolation import parse
from emm_engine.sources.settings import DEFAULT, Settings
from emm_engine.sources.text import date_in, note
from emm_engine.sources.values import clean

SUFFIXES = frozenset({".html", ".htm", ".xhtml"})
FILE_BYTES_MAX = 16 << 20
CPU_SECONDS = 10.0

_CHARSET = re.compile(rb"""<meta[^>]{0,200}?charset\s{0,9}=\s{0,9}["']?\s{0,9}([A-Za-z0-9_.:-]{1,40})""", re.IGNORECASE)


def read_html(file: SourceFile, settings: Settings = DEFAULT) -> Iterator[Document]:
    """The document of one page, if there is text in it."""
    file.text_head()
    (found,) = parse("html", decoded(file.read_all(FILE_BYTES_MAX)).encode(), CPU_SECONDS)
    text = clean(found["text"])
    if not text.strip():
        return
    title = clean(found["title"]) or file.stem
    date = next(filter(None, map(date_in, [*found["dates"], title, file.name])), "")
    labels = [Label("tag", clean(tag)) for tag in found["tags"]]
    if found["author"]:
        labels.append(Label("author", clean(found["author"])))
    yield note(file, title, text, date, labels, settings)


def decoded(data: bytes) -> str:
    """A page's text: by the encoding that it names, else as any text is decoded."""
    match = _CHARSET.search(data, 0, 4096)
    if match is not None and not data.startswith(codecs.BOM_UTF8):
        try:
            return data.decode(match.group(1).decode("ascii"), "strict")
        except (LookupError, ValueError):  # no such encoding, or not in it
            pass
    if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return data.decode("utf-16", "replace")
    return decode_text(data)
