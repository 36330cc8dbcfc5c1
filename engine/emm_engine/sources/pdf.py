"""PDF files as documents: the text layer, page after page.

Purpose: papers, manuals, signed-off reports. Pages are parted by a form feed. Invariants: parsed in another process
under limits of bytes, pages, time and memory; encrypted and damaged files are reported; of a file that could only be
read in part, the part is kept and the rest reported.
"""

from __future__ import annotations

from collections.abc import Iterator

from emm_engine.documents import DOCUMENT_CHARS_MAX, Document
from emm_engine.sources.changelog import Problem
from emm_engine.sources.files import SourceFile
from emm_engine.sources.isolation import parse
from emm_engine.sources.settings import DEFAULT, Settings
from emm_engine.sources.text import date_in, note
from emm_engine.sources.values import clean, date_of_value, named

SUFFIXES = frozenset({".pdf"})
FILE_BYTES_MAX = 128 << 20
CPU_SECONDS = 60.0
PAGE_BREAK = "\n\n\f\n"
PROBLEMS_MAX = 3  # pages of a file that are named


def read_pdf(file: SourceFile, problem: Problem, settings: Settings = DEFAULT) -> Iterator[Document]:
    """The document of one file, if it has a text layer."""
    answers = parse("pdf", file.read_all(FILE_BYTES_MAX), CPU_SECONDS)
    about = next(answers)
    pages: list[str] = []
    faults: list[str] = []
    n_chars = 0
    try:
        for answer in answers:
            if "problem" in answer:
                faults.append(f"page {answer['page']} cannot be read: {answer['problem']}")
                continue
            page = clean(answer["text"]).strip()
            n_chars += len(page) + len(PAGE_BREAK)
            if n_chars > DOCUMENT_CHARS_MAX:
                raise ValueError(f"its text is longer than {DOCUMENT_CHARS_MAX} characters")
            pages.append(page)
    except ValueError as error:
        faults.append(f"read up to page {len(pages)} of {about['pages']}: {error}")
    if about["left_out"]:
        faults.append(f"{about['left_out']} pages beyond the limit are left out")
    if not any(pages):
        faults.append("no text layer: its pages are pictures" if about["pages"] else "no pages")
    for fault in faults[:PROBLEMS_MAX]:
        problem(file.source, fault)
    if len(faults) > PROBLEMS_MAX:
        problem(file.source, f"and {len(faults) - PROBLEMS_MAX} more pages")
    if any(pages):
        title = clean(about["title"]).strip() or file.stem
        date = date_of_value(about["date"]) or next(filter(None, map(date_in, (title, file.name))), "")
        yield note(file, title, PAGE_BREAK.join(pages), date, named("author", [about["author"]]), settings)
