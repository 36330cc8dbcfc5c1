"""A first look through a table: what its columns hold, so that their numbers can be named.

Purpose: one pass before the one that makes documents. Invariants: memory does not grow with the table: of a column's
numbers every k-th is kept, k doubling as they get many, so the same table gives the same sample; which column is time
and which are outcomes follows from names and values alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from emm_engine.extraction.bands import Bands
from emm_engine.extraction.note_tables import Column
from emm_engine.sources.columns import Float64Array, Rows, Values
from emm_engine.sources.settings import Settings

SAMPLE_MAX = 20_000  # numbers kept of a column
TIME_NAMES = frozenset(["time", "timestamp", "date", "datetime", "ts", "zeit", "datum", "utc"])
TIME_SHARE = 0.9  # of the first values that must be moments
NUMERIC_SHARE = 0.8
CELL_CHARS_MAX = 80  # a longer one is a remark and no condition
_PROBED = 50


class Sample:
    """Numbers of one column, thinned."""

    def __init__(self) -> None:
        self._kept: list[Float64Array] = []
        self._n_kept, self._n_seen, self._stride = 0, 0, 1
        self.n_numbers, self.n_texts, self.chars_max = 0, 0, 0

    def add(self, values: Values) -> None:
        finite = np.isfinite(values.numbers)
        self.n_numbers += int(finite.sum())
        if values.texts is not None:
            lengths = [len(text) for text, known in zip(values.texts, finite, strict=True) if text and not known]
            self.n_texts += len(lengths)
            self.chars_max = max([self.chars_max, *lengths])
        found = values.numbers[finite]
        first = -self._n_seen % self._stride
        self._n_seen += len(found)
        self._kept.append(found[first :: self._stride])
        self._n_kept += len(self._kept[-1])
        while self._n_kept > SAMPLE_MAX:
            self._kept = [np.concatenate(self._kept)[::2]]
            self._n_kept = len(self._kept[0])
            self._stride *= 2

    @property
    def numbers(self) -> Float64Array:
        return np.concatenate(self._kept) if self._kept else np.zeros(0)


@dataclass(frozen=True, slots=True)
class Survey:
    """What a table holds, column by column."""

    columns: Sequence[Column]
    n_rows: int
    time: int | None  # the column that says when
    numeric: Sequence[bool]
    bands: Sequence[Bands]
    samples: Sequence[Float64Array]
    outcomes: Sequence[int]
    conditions: Sequence[int]

    @classmethod
    def of(cls, rows: Rows, settings: Settings) -> Survey:
        columns = rows.columns
        samples = [Sample() for _ in columns]
        n_rows, time = 0, None
        for batch in rows.batches():
            if not n_rows:
                time = _time_column(columns, batch)
            n_rows += len(batch[0].numbers)
            for sample, values in zip(samples, batch, strict=True):
                sample.add(values)
        numeric = [each.n_numbers > NUMERIC_SHARE * (each.n_numbers + each.n_texts) for each in samples]
        short = [number or sample.chars_max <= CELL_CHARS_MAX for number, sample in zip(numeric, samples, strict=True)]
        known = [
            at for at in range(len(columns)) if at != time and short[at] and samples[at].n_numbers + samples[at].n_texts
        ]
        return cls(
            columns,
            n_rows,
            time,
            numeric,
            [Bands.of(sample.numbers) for sample in samples],
            [sample.numbers for sample in samples],
            [at for at in known if settings.is_outcome(columns[at].name)],
            [at for at in known if settings.is_condition(columns[at].name)],
        )

    def said(self, at: int, number: float, text: str) -> str:
        """`yield: 80..90 %`: a column and its value, by its band where it is a number.

        A value of one character is joined to the name (`catalyst-a`), for by itself it is no word to an embedder.
        """
        name, unit = self.columns[at].name, ""
        value = " ".join(text.lower().split())[:CELL_CHARS_MAX]
        if self.numeric[at] and np.isfinite(number):
            value = self.bands[at].name(number)
            unit = f" {self.columns[at].unit}" if self.columns[at].unit else ""
        return f"{name}{': ' if len(value) > 1 else '-'}{value}{unit}"


def _time_column(columns: Sequence[Column], batch: list[Values]) -> int | None:
    """The first column that is called time and holds moments; else the first column, if it holds dates as texts."""
    called = [at for at, column in enumerate(columns) if TIME_NAMES & set(column.name.split())]
    written = [at for at in (0,) if batch[at].texts is not None and np.isnan(batch[at].numbers[:_PROBED]).all()]
    for at in (*called, *written):
        head = Values(None if (texts := batch[at].texts) is None else texts[:_PROBED], batch[at].numbers[:_PROBED])
        times = head.times()
        if np.isfinite(times).mean() >= TIME_SHARE:
            return at
    return None
