"""A folder of text and Markdown as documents.

Purpose: `make demo DOCS=path` and every lab that keeps notes as files. Title from the front matter, else the first
heading, else the file name; date from the front matter, else an ISO date in the title, heading or file name, else
the file's modification time (labelled `FILE_DATE`); labels from tags and the folder. Invariants: only regular
files below the folder are read (no symbolic links), in path order, however deep; what cannot be read is reported
and skipped; each file is a version of the thing its whole path names (`key`), so an edited file supersedes its
older text, and a file of the same name in another folder does not.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from emm import InputError
from emm_engine.documents import FILE_DATE, LABELS_MAX, Document, Label, utc_text
from emm_engine.sources.changelog import Problem, decode_text, readable

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
    root = Path(folder)
    base = readable(root.resolve())
    for path in text_files(root, problem):
        source = readable(path.relative_to(root))
        yield from read_text(path, source, f"{base}/{source}", problem)


def read_text(path: Path, source: str, key: str, problem: Problem | None) -> Iterator[Document]:
    """The document of one file; none where it is empty, or cannot be read, which is reported."""
    try:
        document = _document(path, source, key)
    except (OSError, ValueError, OverflowError, InputError) as error:
        if problem is not None:
            problem(source, f"{type(error).__name__}: {error}")
        return
    if document is not None:
        yield document


def text_files(root: Path, problem: Problem | None) -> Iterator[Path]:
    """The text and Markdown files below a folder, in path order."""
    pending = [root]  # os.walk recurses up to Python 3.11, and a hostile folder is deeper than that
    while pending:
        folder = pending.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            if problem is not None:
                problem(readable(folder), f"{type(error).__name__}: {error.strerror}")
            continue
        for entry in entries:
            path = Path(entry.path)
            if path.suffix.lower() in SUFFIXES and entry.is_file(follow_symlinks=False):
                yield path
        below = [e.path for e in entries if e.is_dir(follow_symlinks=False) and not e.name.startswith(".")]
        pending += map(Path, reversed(below))


def _document(path: Path, source: str, key: str) -> Document | None:
    with path.open("rb") as stream:
        data = stream.read(FILE_BYTES_MAX + 1)
        modified = os.fstat(stream.fileno()).st_mtime
    if len(data) > FILE_BYTES_MAX:
        raise ValueError(f"more than {FILE_BYTES_MAX} bytes")
    if b"\0" in data:
        raise ValueError("holds NUL bytes, so it is not text")
    text = decode_text(data)
    if not text.strip():
        return None
    front = _FRONT.match(text)
    fields = _fields(front.group(1)) if front is not None else {}
    body_start = front.end() if front is not None else 0
    heading = _HEADING.search(text, body_start)
    title = _first(fields, "title") or (heading.group(1).rstrip(" \t#") if heading is not None else readable(path.stem))
    told = (_first(fields, "date"), title, heading.group(1) if heading is not None else "", path.name)
    date = next(filter(None, map(_date, told)), "")
    labels = [Label("tag", name) for field in TAG_FIELDS for name in fields.get(field, [])]
    labels += [Label("project", name) for name in fields.get("project", [])]
    folder = source.rpartition("/")[0]
    if folder:
        labels.append(Label("folder", folder))
    if not date:
        date = utc_text(datetime.fromtimestamp(modified, UTC))
        labels.insert(0, FILE_DATE)
    return Document(source, title[:TITLE_CHARS_SHOWN], text, date, tuple(dict.fromkeys(labels))[:LABELS_MAX], key)


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


def _date(text: str) -> str:
    match = _DAY.search(text)
    if match is None:
        return ""
    try:
        return utc_text(datetime(*(int(part) for part in match.groups(default="0")), tzinfo=UTC))  # type: ignore[arg-type,misc]
    except ValueError:
        return ""
