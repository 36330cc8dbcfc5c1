"""The formats, and which one a file has.

Purpose: one table of every format. A note, a mailbox or a table is what its suffix says; any other file is what its
first bytes say, and where they say nothing what its suffix does. Invariants: reading never raises: what stops a file's
reader is reported with the file, and what it gave before counts; a format's module is imported when it is met.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from emm_engine.documents import Document
from emm_engine.sources.changelog import Problem
from emm_engine.sources.files import SourceFile
from emm_engine.sources.settings import DEFAULT, Settings
from emm_engine.sources.values import reason

PROBLEM_CHARS_MAX = 300

Read = Callable[[SourceFile, Settings, Problem], Iterator[Document]]


def _text(file: SourceFile, settings: Settings, problem: Problem) -> Iterator[Document]:
    from emm_engine.sources.text import read_text

    return read_text(file, settings)


def _html(file: SourceFile, settings: Settings, problem: Problem) -> Iterator[Document]:
    from emm_engine.sources.html import read_html

    return read_html(file, settings)


def _pdf(file: SourceFile, settings: Settings, problem: Problem) -> Iterator[Document]:
    from emm_engine.sources.pdf import read_pdf

    return read_pdf(file, problem, settings)


def _eln(file: SourceFile, settings: Settings, problem: Problem) -> Iterator[Document]:
    from emm_engine.sources.eln import read_eln

    def member(inner: SourceFile) -> Iterator[Document]:
        chosen = format_of(inner, DEFAULT)
        if chosen is not None and chosen.name != "eln":  # no archives inside archives
            yield from read_source(inner, chosen, settings, problem)

    return read_eln(file, problem, member, settings)


def _jsonl(file: SourceFile, settings: Settings, problem: Problem) -> Iterator[Document]:
    from emm_engine.sources.jsonl import read_jsonl

    return read_jsonl(file, problem, settings)


def _mail(file: SourceFile, settings: Settings, problem: Problem) -> Iterator[Document]:
    from emm_engine.sources.mail import read_mail

    return read_mail(file, problem)


def _table(file: SourceFile, settings: Settings, problem: Problem) -> Iterator[Document]:
    from emm_engine.sources.tabular import read_table

    return read_table(file, problem, settings)


@dataclass(frozen=True, slots=True)
class Format:
    """How files of one kind are called, begin and are read."""

    name: str
    suffixes: frozenset[str]
    begins: re.Pattern[bytes] | None  # of the first bytes, where they are telling
    read: Read


def _format(name: str, suffixes: str, begins: bytes | None, read: Read) -> Format:
    pattern = re.compile(begins, re.IGNORECASE) if begins is not None else None
    return Format(name, frozenset(suffixes.split()), pattern, read)


FORMATS = {
    each.name: each
    for each in (
        _format("text", ".txt .md .markdown .rst", None, _text),
        _format("html", ".html .htm .xhtml", rb"(?:\xef\xbb\xbf)?\s{0,99}(?:<!doctype html|<html[\s>])", _html),
        _format("pdf", ".pdf", rb"%PDF-\d", _pdf),
        _format("eln", ".eln", None, _eln),
        _format("jsonl", ".jsonl .ndjson", None, _jsonl),
        _format("mail", ".mbox .mbx .eml", rb"From \S{1,200}[^\n]{0,200}\d{4}\r?\n", _mail),
        _format("table", ".csv .tsv .parquet", rb"PAR1", _table),
    )
}
_BY_SUFFIX = {suffix: each for each in FORMATS.values() for suffix in each.suffixes}
_AS_NAMED = frozenset({"text", "mail", "table"})  # may begin like a page and only quote one


def format_of(file: SourceFile, settings: Settings) -> Format | None:
    """The format of a file; None for one that is of no known kind."""
    if settings.format is not None:
        return FORMATS[settings.format]
    named = _BY_SUFFIX.get(PurePosixPath(file.name).suffix.lower())
    if named is not None and named.name in _AS_NAMED:
        return named
    head = file.head()
    telling = (each for each in FORMATS.values() if each.begins is not None and each.begins.match(head))
    return next(telling, named)


def read_source(file: SourceFile, chosen: Format, settings: Settings, problem: Problem) -> Iterator[Document]:
    """A file's documents; what stops its reader is reported."""
    try:
        yield from chosen.read(file, settings, problem)
    except Exception as error:  # whatever a parser of foreign bytes may raise; KeyboardInterrupt passes
        problem(file.source, reason(error)[:PROBLEM_CHARS_MAX])
