"""Debian changelogs as documents: one per entry, dated and labelled.

Purpose: read `*/changelog.Debian.gz` (three decades of failures, fixes and reversals on any Debian
machine). An entry is the block from `package (version) distribution; urgency=…` to its signature
` -- Name <address>  date`; its text is the lines between, verbatim. Invariants: any bytes are tolerated
(UTF-8, else Latin-1); a file that does not decompress, or grows past the limit, is reported and skipped;
only regular files inside the folder are read, also through symbolic links; an entry without a readable date is
kept with an empty one.
"""

from __future__ import annotations

import gzip
import os
import re
import zlib
from collections.abc import Callable, Iterator
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

from emm_engine.documents import DOCUMENT_CHARS_MAX, LABELS_MAX, Document, Label, utc_text

FILE_BYTES_MAX = 64 << 20
LINE_CHARS_MAX = 1000  # longer "headers" are not headers; keeps the expressions below cheap on any input

Problem = Callable[[str, str], None]  # (what was skipped, why)

_HEADER = re.compile(r"([A-Za-z0-9][A-Za-z0-9.+-]*) \(([^()\s]+)\)((?: [^\s;]+)*) ?;(.*)")
_SIGNATURE = re.compile(r" -- ?(.*?) ?<([^<>]*)>(.*)")
_URGENCY = re.compile(r"urgency=\s*([A-Za-z]+)", re.IGNORECASE)
_CLOSES = re.compile(r"closes:\s*(?:bug)?#?\s?\d+(?:,\s*(?:bug)?#?\s?\d+)*", re.IGNORECASE)
_NUMBER = re.compile(r"\d+")


def debian_changelogs(folder: str | Path = "/usr/share/doc", problem: Problem | None = None) -> Iterator[Document]:
    """Entries of every `*/changelog.Debian.gz` (and plain `changelog.Debian`) below a folder, in path order."""
    root = Path(folder)
    for path in changelog_files(root):
        yield from read_changelog(path, readable(path.relative_to(root)), problem)


def changelog_files(root: Path) -> Iterator[Path]:
    """The changelogs in the folders of a folder, in path order."""
    base = root.resolve()
    for path in sorted({*root.glob("*/changelog.Debian.gz"), *root.glob("*/changelog.Debian")}):
        if path.is_file() and path.resolve().is_relative_to(base):  # no link out of the folder, no pipe
            yield path


def read_changelog(path: Path, source: str, problem: Problem | None = None) -> Iterator[Document]:
    """The entries of one changelog; none where it cannot be read, which is reported."""
    try:
        data = _read(path)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        if problem is not None:
            problem(source, f"{type(error).__name__}: {error}")
        return
    yield from parse_changelog(decode_text(data), source)


def readable(name: str | Path) -> str:
    """A file name as text: bytes of it that are not UTF-8 as `\\xe9`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def decode_text(data: bytes) -> str:
    """Text of any bytes: UTF-8 where valid, Latin-1 otherwise; line ends become newlines, NUL a mark."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\N{REPLACEMENT CHARACTER}")


def parse_changelog(text: str, source: str) -> Iterator[Document]:
    """Entries in file order. Lines outside any entry (old formats, notes) are ignored."""
    header: re.Match[str] | None = None
    body: list[str] = []
    for line in text.split("\n"):
        if line[:1].isalnum():
            match = _HEADER.fullmatch(line) if len(line) <= LINE_CHARS_MAX else None
            if match is not None:
                if header is not None:
                    yield from _entry(source, header, body, None)
                header, body = match, []
                continue
        signature = _SIGNATURE.fullmatch(line) if line.startswith(" --") and len(line) <= LINE_CHARS_MAX else None
        if signature is not None:
            if header is not None:
                yield from _entry(source, header, body, signature)
            header, body = None, []
        elif header is not None:
            body.append(line)
    if header is not None:
        yield from _entry(source, header, body, None)


def _entry(source: str, header: re.Match[str], body: list[str], signature: re.Match[str] | None) -> Iterator[Document]:
    text = "\n".join(body).strip("\n")
    if not text.strip() or len(text) > DOCUMENT_CHARS_MAX:
        return
    package, version, distributions, options = header.groups()
    labels = [Label("package", package)]
    urgency = _URGENCY.search(options)
    if urgency is not None:
        labels.append(Label("urgency", urgency.group(1).lower()))
    labels += [Label("distribution", name) for name in distributions.split()[:4]]
    date = ""
    if signature is not None:
        maintainer = signature.group(1).strip() or signature.group(2).strip()
        if maintainer:
            labels.append(Label("maintainer", maintainer))
        date = _date(signature.group(3))
    bugs = {number for match in _CLOSES.finditer(text) for number in _NUMBER.findall(match.group())}
    labels += [Label("bug", number) for number in sorted(bugs)]
    yield Document(source, f"{package} {version}", text, date, tuple(dict.fromkeys(labels))[:LABELS_MAX])


def _date(text: str) -> str:
    try:
        moment = parsedate_to_datetime(text.strip())
    except (ValueError, TypeError, IndexError, OverflowError):
        return ""
    return utc_text(moment) if isinstance(moment, datetime) and 1970 <= moment.year <= 9998 else ""


def _read(path: Path) -> bytes:
    """The file's bytes, decompressed, at most FILE_BYTES_MAX of them."""
    if path.suffix == ".gz":
        with gzip.open(path, "rb") as stream:
            data = stream.read(FILE_BYTES_MAX + 1)
    else:
        with path.open("rb") as plain:
            data = plain.read(FILE_BYTES_MAX + 1)
    if len(data) > FILE_BYTES_MAX:
        raise ValueError(f"more than {FILE_BYTES_MAX} bytes")
    return data
