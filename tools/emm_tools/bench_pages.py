"""A measured block inside a page: `emm bench … --write docs/page.md` replaces it, and nothing else on the page.

Purpose: figures in the documents come from commands, not from hands. Invariants: a block lies between two marks that
name the command; a page without them is refused, so prose is never overwritten.
"""

from __future__ import annotations

from pathlib import Path

from emm_tools.exits import InputProblem
from emm_tools.whole_file import whole_file


def marks(name: str) -> tuple[str, str]:
    """The lines before and after the block of one command."""
    return f"<!-- {name}: begin -->", f"<!-- {name}: end -->"


def replace_block(page: Path, name: str, text: str) -> None:
    """Put `text`, as it was printed, between the marks of a page."""
    begin, end = marks(name)
    old = page.read_text(encoding="utf-8") if page.is_file() else ""
    if old.count(begin) != 1 or old.count(end) != 1 or old.index(begin) > old.index(end):
        raise InputProblem(f"{page} has no place for these figures; it needs the lines {begin} and {end}.")
    before, after = old[: old.index(begin)], old[old.index(end) :]
    with whole_file(page) as file:
        file.write(f"{before}{begin}\n\n```text\n{text}\n```\n\n{after}".encode())
