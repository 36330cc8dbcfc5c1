"""Tables of conditions and outcomes inside a note.

Purpose: a Markdown table that has an outcome column (`| heat | base | yield |`) teaches conditions → outcome. Such a
table is cut by row, the first with the head; each row's key is the longest unbroken run of its condition cells, its
labels are its outcomes. Everything else of the note, and every other table, is cut as prose. Invariants: nothing is
cut differently in a note without such a table; numbers are named by the bands of their column; the span of a label is
its cell; the work is linear in the text.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from emm_engine.chunking import CHARS_MAX, passages
from emm_engine.documents import Label, Marked, Passage
from emm_engine.extraction.bands import Bands

COLUMNS_MAX = 64
ROWS_MAX = 5000
OUTCOME = "outcome"  # the kind of label
NAME_CHARS_MAX = 80

# The line under a table's head. Possessive, so that no white space is tried twice.
_RULE = re.compile(r"^[ \t]*+\|?+(?:[ \t]*+:?+-++:?+[ \t]*+\|)++(?:[ \t]*+:?+-++:?+)?+[ \t]*+$", re.MULTILINE)
_BAR = re.compile(r"(?<!\\)\|")
_UNIT = re.compile(r"\s*[(\[]\s*([^()\[\]]{1,20}?)\s*[)\]]\s*$")
_NUMBER = re.compile(r"([+-]?\d{1,15}(?:\.\d{1,15})?(?:[eE][+-]?\d{1,3})?)\s{0,2}([^\d\s]{0,12})")

Spans = list[tuple[int, int]]
IsColumn = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Column:
    """A column's head: `Yield (%)` is a name and a unit."""

    name: str
    unit: str

    @classmethod
    def parse(cls, text: str) -> Column:
        plain = text.strip(" \t*_`")
        match = _UNIT.search(plain)
        name = (plain[: match.start()] if match is not None else plain).strip("*_`")
        return cls(" ".join(name.lower().split())[:NAME_CHARS_MAX], match.group(1) if match is not None else "")


@dataclass(frozen=True, slots=True)
class Table:
    """A table of a text, by spans."""

    start: int
    end: int
    columns: tuple[Column, ...]
    rows: tuple[Spans, ...]
    lines: Spans  # of each row; the first begins with the head


def table_passages(text: str, is_outcome: IsColumn, is_condition: IsColumn) -> tuple[Passage, ...]:
    """How to cut a note that holds a table with outcomes; empty for a note that holds none."""
    cut: list[tuple[Table, list[Passage]]] = []
    for table in tables(text):
        rows = _rows(text, table, is_outcome, is_condition)
        if rows:
            cut.append((table, rows))
    if not cut:
        return ()
    found: list[Passage] = []
    at = 0
    for table, rows in cut:
        found += _prose(text, at, table.start)
        found += rows
        at = table.end
    return tuple(found + _prose(text, at, len(text)))


def _prose(text: str, low: int, high: int) -> list[Passage]:
    return [Passage(low + span.start, low + span.end) for span in passages(text[low:high])]


def tables(text: str) -> list[Table]:
    """The Markdown tables of a text, in order."""
    found: list[Table] = []
    for rule in _RULE.finditer(text):
        head = text.rfind("\n", 0, max(rule.start() - 1, 0)) + 1
        if rule.start() == 0 or (found and head < found[-1].end):
            continue
        cells = _cells(text, head, rule.start() - 1)
        if 2 <= len(cells) <= COLUMNS_MAX:
            columns = tuple(Column.parse(text[low:high]) for low, high in cells)
            found.append(_body(text, head, rule.end(), columns))
    return found


def _body(text: str, head: int, at: int, columns: tuple[Column, ...]) -> Table:
    rows: list[Spans] = []
    lines: Spans = []
    start = head
    while at < len(text) and len(rows) < ROWS_MAX:
        low = at + 1
        high = text.find("\n", low)
        high = len(text) if high < 0 else high
        cells = _cells(text, low, high)
        if len(cells) < 2:
            break
        rows.append(cells)
        lines.append((start, high))
        start, at = high + 1, high
    return Table(head, at, columns, tuple(rows), lines)


def _cells(text: str, start: int, end: int) -> Spans:
    """The cells of a line, without white space and bars; a line without a bar has none."""
    bars = [match.start() for match in itertools.islice(_BAR.finditer(text, start, end), COLUMNS_MAX + 2)]
    if not bars:
        return []
    edges = [start - 1, *bars, end]
    cells = [_trimmed(text, low + 1, high) for low, high in itertools.pairwise(edges)]
    if cells[0][0] == cells[0][1]:
        cells = cells[1:]
    if cells and cells[-1][0] == cells[-1][1]:
        cells = cells[:-1]
    return cells


def _trimmed(text: str, low: int, high: int) -> tuple[int, int]:
    while low < high and text[low].isspace():
        low += 1
    while high > low and text[high - 1].isspace():
        high -= 1
    return low, high


def _rows(text: str, table: Table, is_outcome: IsColumn, is_condition: IsColumn) -> list[Passage]:
    """The passages of a table's rows; none where it has no outcomes, no conditions, or a row that is too long."""
    outcomes = [at for at, column in enumerate(table.columns) if is_outcome(column.name)]
    conditions = _run([is_condition(column.name) for column in table.columns])
    if not outcomes or not conditions or not table.rows:
        return []
    if max(high - low for low, high in table.lines) > CHARS_MAX:
        return []
    bands = {at: _bands(text, table, at) for at in outcomes}
    found = []
    for cells, (start, end) in zip(table.rows, table.lines, strict=True):
        key = _key(cells, conditions)
        labels = [_label(text, table.columns[at], cells[at], bands[at]) for at in outcomes if at < len(cells)]
        said = tuple(label for label in labels if label is not None)
        start, end = _trimmed(text, start, end)
        found.append(Passage(start, end, key, said) if key is not None and said else Passage(start, end))
    return found


def _run(chosen: Sequence[bool]) -> range:
    """The longest unbroken run of True."""
    best = range(0)
    start = 0
    for at in range(len(chosen) + 1):
        if at == len(chosen) or not chosen[at]:
            if at - start > len(best):
                best = range(start, at)
            start = at + 1
    return best


def _key(cells: Spans, conditions: range) -> tuple[int, int] | None:
    spans = [cells[at] for at in conditions if at < len(cells) and cells[at][0] < cells[at][1]]
    return (spans[0][0], spans[-1][1]) if spans else None


def _bands(text: str, table: Table, at: int) -> Bands:
    cells = (text[slice(*row[at])] for row in table.rows if at < len(row))
    numbers = (_NUMBER.fullmatch(cell) for cell in cells)
    return Bands.of([float(match.group(1)) for match in numbers if match is not None])


def _label(text: str, column: Column, cell: tuple[int, int], bands: Bands) -> Marked | None:
    """The outcome that a cell says; None for an empty one, a dash or a whole sentence."""
    said = text[slice(*cell)]
    match = _NUMBER.fullmatch(said)
    if match is not None:
        unit = match.group(2) or column.unit
        return Marked(outcome(column.name, bands.name(float(match.group(1))), unit), *cell)
    plain = " ".join(said.lower().strip("*_`").split())
    if not any(map(str.isalnum, plain)) or len(plain) > NAME_CHARS_MAX:
        return None
    return Marked(outcome(column.name, plain, ""), *cell)


def outcome(column: str, value: str, unit: str) -> Label:
    """`yield: 80..90 %`."""
    return Label(OUTCOME, f"{column}: {value}{' ' + unit if unit else ''}")
