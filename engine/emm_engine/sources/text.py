"""A folder of text and Markdown as documents.

Purpose: `make demo DOCS=path` and every lab that keeps notes as files. Title from the front matter, else the first
heading, else the file name; date from the front matter, else an ISO date in the title, heading or file name, else
the file's modification time (labelled `FILE_DATE`); labels from tags and the folder. Invariants: only regular
files below the folder are read (no symbolic links), in path order, however deep; what cannot be read is reported
and skipped; each file is a version of the thing its whole path names (`key`), so an edited file supersedes its
older text, and a file of the same name in another folder does not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from emm import InputError
from emm_engine.documents import FILE_DATE, LABELS_MAX, Document, Label, utc_text
from emm_engine.extraction.note_tables import table_passages
from emm_engine.sources.changelog import Problem, decode_text
from emm_engine.sources.files import SourceFile, opened, walk
from emm_engine.sources.settings import DEFAULT, Settings
from emm_engine.sources.values import reason

SUFFIXES = frozenset({".txt", ".md", ".markdown", ".rst"})
FILE_BYTES_MAX = 16 << 20
TAG_FIELDS = ("tags", "tag", "categories")
TITLE_CHARS_SHOWN = 200

_FRONT = re.compile(r"---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_FIELD = re.compile(r"([A-Za-z][\w-]*)[ \t]*:[ \t]*(.*)")
_ITEM = re.compile(r"[ \t]*-[ \t]+(.+)")
_HEADING = re.compile(r"^#{1,6}[ \t]+(\S.*)$", re.MULTILINE)
_DAY = re.compile(r"(?<!\d)(\d{4})-(\d{2})-(\d{2})(?:[T ](\d{2}):(\d{2})(?::(\d{2}))?)?(?!\d)")


def text_folder(folder: str | Path, problem: Problem | None = None) -> Iterator[Document]:
    """Every text and Markdown file below a folder."""
    for found in walk(Path(folder), problem):
        if found.path.suffix.lower() in SUFFIXES:
            try:
                with opened(found) as file:
                    yield from read_text(file)
            except (OSError, ValueError, InputError) as error:
                if problem is not None:
                    problem(found.source, reason(error))


def read_text(file: SourceFile, settings: Settings = DEFAULT) -> Iterator[Document]:
    """The document of one file, if there is text in it."""
    data = file.read_all(FILE_BYTES_MAX)
    if b"\0" in data:
        raise ValueError("holds NUL bytes, so it is not text")
    text = decode_text(data)
    if text.strip():
        yield _document(file, text, settings)


def _document(file: SourceFile, text: str, settings: Settings) -> Document:
    front = _FRONT.match(text)
    fields = _fields(front.group(1)) if front is not None else {}
    body_start = front.end() if front is not None else 0
    heading = _HEADING.search(text, body_start)
    title = _first(fields, "title") or (heading.group(1).rstrip(" \t#") if heading is not None else file.stem)
    told = (_first(fields, "date"), title, heading.group(1) if heading is not None else "", file.name)
    date = next(filter(None, map(date_in, told)), "")
    labels = [Label("tag", name) for field in TAG_FIELDS for name in fields.get(field, [])]
    labels += [Label("project", name) for name in fields.get("project", [])]
    return note(file, title, text, date, labels, settings)


def note(
    file: SourceFile, title: str, text: str, date: str, labels: Iterable[Label], settings: Settings = DEFAULT
) -> Document:
    """A file's text as a document: its folder is a label, its time stands in for a date, its tables are cut by row."""
    found = list(labels)
    if file.folder:
        found.append(Label("folder", file.folder))
    if not date and file.modified:
        date = file.modified
        found.insert(0, FILE_DATE)
    return Document(
        file.source,
        title[:TITLE_CHARS_SHOWN],
        text,
        date,
        tuple(dict.fromkeys(found))[:LABELS_MAX],
        file.key,
        table_passages(text, settings.is_outcome, settings.is_condition),
    )


def _fields(front: str) -> dict[str, list[str]]:
    """The simple part of YAML front matter: scalars, `[a, b]` and `- item` lists; for tags also `a, b`."""
    fields: dict[str, list[str]] = {}
    name = ""
    for line in front.split("\n"):
        item, match = _ITEM.fullmatch(line), _FIELD.fullmatch(line)
        if item is not None and name:
            fields[name].append(_plain(item.group(1)))
        elif match is not None:
            name = match.group(1).lower()
            value = match.group(2).strip()
            bracketed = value.startswith("[") and value.endswith("]")
            text = value[1:-1] if bracketed else value
            parts = text.split(",") if bracketed or name in TAG_FIELDS else [text]
            fields[name] = [plain for part in parts if (plain := _plain(part))]
    return fields


def _plain(value: str) -> str:
    return value.strip().strip("'\"").strip()


def _first(fields: dict[str, list[str]], name: str) -> str:
    return next(iter(fields.get(name, [])), "")


def date_in(text: str) -> str:
    """The first ISO date of a text, as a document's; empty when there is none."""
    match = _DAY.search(text)
    if match is None:
        return ""
    try:
        return utc_text(datetime(*(int(part) for part in match.groups(default="0")), tzinfo=UTC))  # type: ignore[arg-type,misc]
    except ValueError:
        return ""
