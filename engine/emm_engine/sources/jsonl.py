"""JSON lines as documents: one object, one document.

Purpose: exports of other systems. Which fields are text, title, date, tags and id is configurable. Invariants: a line
is read alone and is bounded, so memory does not grow with the file; a line that is no such object is reported with its
number and the rest is read; the id makes later exports supersede earlier ones.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from emm import InputError
from emm_engine.documents import LABELS_MAX, Document
from emm_engine.sources.changelog import Problem
from emm_engine.sources.files import SourceFile
from emm_engine.sources.settings import DEFAULT, Settings
from emm_engine.sources.text import TITLE_CHARS_SHOWN
from emm_engine.sources.values import clean, date_of_value, named, reason, version_key

SUFFIXES = frozenset({".jsonl", ".ndjson"})
LINE_BYTES_MAX = 32 << 20
PROBLEMS_MAX = 5  # lines of a file that are named


def read_jsonl(file: SourceFile, problem: Problem, settings: Settings = DEFAULT) -> Iterator[Document]:
    """The document of each line that has a text."""
    file.text_head()
    n_refused = 0
    for number, line in enumerate(_lines(file), 1):
        if not line.strip():
            continue
        try:
            yield _document(file, line, settings)
        except (ValueError, RecursionError, InputError) as error:
            n_refused += 1
            if n_refused <= PROBLEMS_MAX:
                problem(f"{file.source} line {number}", reason(error))
    if n_refused > PROBLEMS_MAX:
        problem(file.source, f"and {n_refused - PROBLEMS_MAX} more lines")


def _lines(file: SourceFile) -> Iterator[bytes]:
    """Lines, of a long one the first bytes: more than may be, so that it is refused."""
    file.stream.seek(0)
    while line := file.stream.readline(LINE_BYTES_MAX + 1):
        yield line
        while len(line) > LINE_BYTES_MAX and not line.endswith(b"\n"):
            line = file.stream.readline(LINE_BYTES_MAX + 1)


def _document(file: SourceFile, line: bytes, settings: Settings) -> Document:
    if len(line) > LINE_BYTES_MAX:
        raise ValueError(f"longer than {LINE_BYTES_MAX} bytes")
    record = json.loads(line.decode("utf-8-sig"))
    if not isinstance(record, dict):
        raise ValueError(f"not an object but {type(record).__name__}")
    text = _field(record, "text", settings)
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"no text in {' or '.join(settings.fields['text'])}")
    title = _field(record, "title", settings)
    tags = _field(record, "tags", settings)
    identity = _field(record, "id", settings)
    listed = tags.split(",") if isinstance(tags, str) else tags if isinstance(tags, list) else []
    labels = named("tag", listed)
    if file.folder:
        labels += named("folder", [file.folder])
    return Document(
        file.source,
        (clean(title) if isinstance(title, str) and title.strip() else file.stem)[:TITLE_CHARS_SHOWN],
        clean(text),
        date_of_value(_field(record, "date", settings)),
        tuple(labels[:LABELS_MAX]),
        version_key(file.key, identity) if isinstance(identity, str | int) else None,
    )


def _field(record: dict[str, Any], name: str, settings: Settings) -> Any:
    return next((record[field] for field in settings.fields[name] if record.get(field) not in (None, "")), None)
