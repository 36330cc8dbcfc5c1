"""Tables as documents: experiments row by row, series of sensors window by window.

Purpose: CSV, TSV and Parquet. A table with an outcome column is a list of experiments, and each row a pair
conditions → outcome. A table with a time and none, or with a window that was asked for, is a series (`series`).
Invariants: the table is streamed twice and never held; names of numbers are those of `bands`; a row's key is its
conditions and nothing else; a row is a version of its place in the file.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from emm_engine.documents import Document, Label, Marked, Passage, utc_text
from emm_engine.extraction.note_tables import OUTCOME
from emm_engine.sources.changelog import Problem
from emm_engine.sources.columns import Batch, Rows, opened_rows
from emm_engine.sources.files import SourceFile
from emm_engine.sources.series import windows
from emm_engine.sources.settings import DEFAULT, Settings, Window
from emm_engine.sources.survey import Survey
from emm_engine.sources.values import moment_of, version_key

SERIES_ROWS_MIN = 200  # fewer rows without an outcome are a list
CONDITIONS_MAX = 24  # columns in a key
REMARK_CHARS_MAX = 400
ROW_CHARS_MAX = 1500


def read_table(file: SourceFile, problem: Problem, settings: Settings = DEFAULT) -> Iterator[Document]:
    """The documents of one table."""
    rows = opened_rows(file)
    survey = Survey.of(rows, settings)
    if not survey.n_rows:
        raise ValueError("no table: it holds no row")
    if is_series(survey, settings):
        yield from windows(file, rows, survey, settings, settings.window or Window(), problem)
    else:
        _see_columns(file, survey, settings, problem)
        yield from experiments(file, rows, survey)


def _see_columns(file: SourceFile, survey: Survey, settings: Settings, problem: Problem) -> None:
    """Report columns that somebody named and that are not there; refuse rows that would lose all their conditions."""
    names = [column.name for column in survey.columns]
    absent = settings.absent(names)
    if not absent:
        return
    why = f"no column {', '.join(sorted(absent))}; its columns: {', '.join(names)}"
    if survey.outcomes and not survey.conditions:
        raise ValueError(why)
    problem(file.source, f"{why}; read without")


def is_series(survey: Survey, settings: Settings) -> bool:
    """Whether the rows are moments of one thing, and not things of their own."""
    if settings.window is not None:
        return True
    numeric = sum(survey.numeric)
    told = survey.time is not None or numeric == len(survey.columns)
    return told and not survey.outcomes and survey.n_rows >= SERIES_ROWS_MIN and numeric > 0


def experiments(file: SourceFile, rows: Rows, survey: Survey) -> Iterator[Document]:
    """One document for each row."""
    number = 0
    for batch in rows.batches():
        for at in range(len(batch[0].numbers)):
            number += 1
            document = experiment(file, survey, batch, at, number)
            if document is not None:
                yield document


def experiment(file: SourceFile, survey: Survey, batch: Batch, at: int, number: int) -> Document | None:
    """Row `number` of a table: `at` of the batch; None when nothing is said in it."""
    conditions = [(c, batch[c].text(at)) for c in survey.conditions[:CONDITIONS_MAX]]
    key = "; ".join(survey.said(c, float(batch[c].numbers[at]), text) for c, text in conditions if text)
    text = f"conditions: {key}\n" if key and survey.outcomes else ""
    key_span = (len("conditions: "), len(text) - 1) if text else None
    labels: list[Marked] = []
    for c in survey.outcomes:
        said = batch[c].text(at)
        if said:
            label = Label(OUTCOME, survey.said(c, float(batch[c].numbers[at]), said))
            text += "outcome: " if not labels else "; "
            labels.append(Marked(label, len(text), len(text) + len(label.name)))
            text += label.name
    text += ("\n" if labels else "") + _values(survey, batch, at)
    text = text[:ROW_CHARS_MAX].rstrip()
    if not text:
        return None
    moment = moment_of(batch[survey.time].text(at)) if survey.time is not None else None
    fit = key_span is not None and labels and all((mark.end or 0) <= len(text) for mark in labels)
    return Document(
        file.source,
        f"{file.stem[:100]} row {number}",
        text,
        utc_text(moment) if moment is not None else "",
        (Label("table", file.source[:200]),),
        version_key(file.key, f"row {number}"),
        (Passage(0, len(text), key_span if fit else None, tuple(labels) if fit else ()),),
    )


def _values(survey: Survey, batch: Batch, at: int) -> str:
    """The row as it was written, shortened where it holds remarks."""
    said = []
    for column, values in zip(survey.columns, batch, strict=True):
        text = " ".join(values.text(at).split())[:REMARK_CHARS_MAX]
        if text:
            unit = f" {column.unit}" if column.unit and np.isfinite(float(values.numbers[at])) else ""
            said.append(f"{column.name} = {text}{unit}")
    return ("values: " + "; ".join(said)) if said else ""
