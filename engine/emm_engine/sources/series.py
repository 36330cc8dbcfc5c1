"""Series of sensors as windows: statistics, events, and what followed what.

Purpose: a window becomes a document. Its first passage says the statistics of every column; each event (a column
beyond a threshold) is a passage of its own. The key of all of them is the window's conditions, where columns of the
table are outcomes, else the state of the window before; the labels are the outcomes, else the state of this window,
and the events. Invariants: a series is streamed, a window is sums and not rows; a row that comes late counts in the
window that is open, and late rows are reported; windows of time begin at multiples of their length since 1970, so a
series that grows changes its last window alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from emm_engine.chunking import CHARS_MAX
from emm_engine.documents import Document, Label, Marked, Passage, utc_text
from emm_engine.extraction.bands import number
from emm_engine.extraction.note_tables import OUTCOME
from emm_engine.sources.changelog import Problem
from emm_engine.sources.columns import Batch, Float64Array, Rows
from emm_engine.sources.files import SourceFile
from emm_engine.sources.settings import Settings, Threshold, Window
from emm_engine.sources.survey import Survey
from emm_engine.sources.values import version_key

EVENT = "event"  # the kind of label
EVENTS_MAX = 16  # told of a window; the others are counted
STATE_COLUMNS = 12  # in a key
RARE = 6.0  # deviations from the median (of 1.4826 median absolute deviations) beyond which a value is an event


@dataclass(slots=True)
class Statistics:
    """Of one column in one window; pieces are added with Chan's formula."""

    n: int = 0
    mean: float = 0.0
    squares: float = 0.0  # of deviations from the mean
    low: float = math.inf
    high: float = -math.inf
    first: float = math.nan
    last: float = math.nan

    def add(self, values: Float64Array) -> None:
        found = values[np.isfinite(values)]
        if not len(found):
            return
        mean, n = float(found.mean()), len(found)
        shift, total = mean - self.mean, self.n + n
        self.squares += float(((found - mean) ** 2).sum()) + shift * shift * self.n * n / total
        self.mean += shift * n / total
        self.low, self.high = min(self.low, float(found.min())), max(self.high, float(found.max()))
        self.first = float(found[0]) if not self.n else self.first
        self.last, self.n = float(found[-1]), total

    def __str__(self) -> str:
        deviation = math.sqrt(max(self.squares, 0.0) / self.n)
        return (
            f"mean {number(self.mean)}, sd {number(deviation)}, min {number(self.low)}, max {number(self.high)}, "
            f"from {number(self.first)} to {number(self.last)}"
        )


@dataclass(frozen=True, slots=True)
class Watched:
    """A threshold of a column, by its place, with the name of its event."""

    at: int
    above: bool
    value: float
    name: str


@dataclass(slots=True)
class _Open:
    """The window that is being filled."""

    number: int
    bucket: float  # of time; its own number for windows of rows
    statistics: list[Statistics]
    n_rows: int = 0
    first_time: float = math.nan
    last_time: float = math.nan
    events: dict[str, str] = field(default_factory=dict)  # {name: where and how far}
    n_events: int = 0


def windows(
    file: SourceFile, rows: Rows, survey: Survey, settings: Settings, window: Window, problem: Problem
) -> Iterator[Document]:
    """The documents of a series, window by window."""
    maker = _Maker(file, survey, watched(survey, settings.thresholds), window)
    if window.seconds is not None and survey.time is None:
        raise ValueError("windows of time need a column of time")
    missing = {each.column.lower() for each in settings.thresholds} - {column.name for column in survey.columns}
    if missing:
        problem(file.source, f"no column {', '.join(sorted(missing))} for a threshold")
    for batch in rows.batches():
        yield from maker.add(batch)
    yield from maker.end()
    if maker.n_late:
        problem(file.source, f"{maker.n_late} rows are out of order and count in the window that was open")


def watched(survey: Survey, thresholds: Sequence[Threshold]) -> list[Watched]:
    """The thresholds that were given, else a low and a high one of every column, far from its usual values."""
    found = []
    names = {column.name: at for at, column in enumerate(survey.columns)}
    for each in thresholds:
        if each.column.lower() in names:
            found.append(_watched(survey, names[each.column.lower()], each.above, each.value))
    if thresholds:
        return found
    for at in range(len(survey.columns)):
        sample, step = survey.samples[at], survey.bands[at].step
        if at != survey.time and survey.numeric[at] and step is not None:
            middle = float(np.median(sample))
            reach = RARE * 1.4826 * float(np.median(np.abs(sample - middle)))
            if 0.0 < reach < math.inf:
                found.append(_watched(survey, at, True, math.ceil((middle + reach) / step) * step))
                found.append(_watched(survey, at, False, math.floor((middle - reach) / step) * step))
    return found


def _watched(survey: Survey, at: int, above: bool, value: float) -> Watched:
    column = survey.columns[at]
    side = "above" if above else "below"
    return Watched(at, above, value, f"{column.name} {side} {number(value)}{' ' + column.unit if column.unit else ''}")


class _Maker:
    """Rows in, windows out."""

    def __init__(self, file: SourceFile, survey: Survey, marks: Sequence[Watched], window: Window) -> None:
        self._file = file
        self._survey = survey
        self._marks = marks
        self._window = window
        measured = [at for at in range(len(survey.columns)) if survey.numeric[at] and at != survey.time]
        self._columns = measured
        self._beyond = [False] * len(marks)
        self._open: _Open | None = None
        self._before = ""  # the state of the window before
        self._n_windows = 0
        self.n_late = 0

    def add(self, batch: Batch) -> Iterator[Document]:
        times = batch[self._survey.time].times() if self._survey.time is not None else None
        n_rows = len(batch[0].numbers)
        low = 0
        while low < n_rows:
            if self._open is None:
                self._open = self._begin(times, low)
            high = self._reach(times, low, n_rows)
            self._fill(self._open, batch, times, low, high)
            full = self._window.rows is not None and self._open.n_rows == self._window.rows
            if full or high < n_rows:
                yield self._end(self._open)
                self._open = None
            low = high

    def end(self) -> Iterator[Document]:
        """The window that was not full yet."""
        if self._open is not None and self._open.n_rows:
            yield self._end(self._open)

    def _begin(self, times: Float64Array | None, low: int) -> _Open:
        self._n_windows += 1
        bucket = float(self._n_windows)
        if self._window.seconds is not None and times is not None:
            known = times[low:][np.isfinite(times[low:])]
            bucket = float(known[0] // self._window.seconds) if len(known) else -math.inf
        return _Open(self._n_windows, bucket, [Statistics() for _ in self._survey.columns])

    def _reach(self, times: Float64Array | None, low: int, n_rows: int) -> int:
        """Where the open window ends in this batch."""
        assert self._open is not None
        if self._window.rows is not None:
            return min(n_rows, low + self._window.rows - self._open.n_rows)
        assert self._window.seconds is not None and times is not None
        buckets = times[low:] // self._window.seconds
        later = np.flatnonzero(buckets > self._open.bucket)
        reach = int(later[0]) if len(later) else n_rows - low
        self.n_late += int((buckets[:reach] < self._open.bucket).sum())
        return low + reach

    def _fill(self, window: _Open, batch: Batch, times: Float64Array | None, low: int, high: int) -> None:
        for at in self._columns:
            window.statistics[at].add(batch[at].numbers[low:high])
        window.n_rows += high - low
        if times is not None:
            known = times[low:high][np.isfinite(times[low:high])]
            if len(known):
                window.first_time = window.first_time if math.isfinite(window.first_time) else float(known.min())
                window.last_time = max(float(known.max()), window.first_time)
        for number_, mark in enumerate(self._marks):
            values = batch[mark.at].numbers[low:high]
            beyond = values > mark.value if mark.above else values < mark.value
            previous = np.concatenate([[self._beyond[number_]], beyond[:-1]])
            for start in np.flatnonzero(beyond & ~previous).tolist():
                self._event(window, mark, values, beyond, start, None if times is None else float(times[low + start]))
            if len(beyond):
                self._beyond[number_] = bool(beyond[-1])

    def _event(
        self,
        window: _Open,
        mark: Watched,
        values: Float64Array,
        beyond: np.typing.NDArray[np.bool_],
        start: int,
        time: float | None,
    ) -> None:
        window.n_events += 1
        if mark.name in window.events or len(window.events) >= EVENTS_MAX:
            return
        back = np.flatnonzero(~beyond[start:])
        excursion = values[start : start + int(back[0])] if len(back) else values[start:]
        peak = excursion.max() if mark.above else excursion.min()
        when = f" at {_when(time)}" if time is not None and math.isfinite(time) else ""
        window.events[mark.name] = f"{when}, {'peak' if mark.above else 'lowest'} {number(float(peak))}"

    # --- the document ----------------------------------------------------------------------------

    def _end(self, window: _Open) -> Document:
        outcomes = [at for at in self._survey.outcomes if at in self._columns]
        conditions = [at for at in self._columns if at in self._survey.conditions]
        state = self._state(window, conditions if outcomes else self._columns)
        head = "conditions: " if outcomes else "before: "
        key = "; ".join(state) if outcomes else self._before
        text = f"{head}{key}\n" if key else ""
        span = (len(head), len(head) + len(key)) if key else None
        labels: list[Marked] = []
        for said in self._state(window, outcomes) if outcomes else state:
            text += "outcome: " if not labels else "; "
            labels.append(Marked(Label(OUTCOME, said), len(text), len(text) + len(said)))
            text += said
        passages: list[Passage] = []
        start = 0
        for line in self._told(window):
            if len(text) - start + len(line) > CHARS_MAX - 1 and len(text) > start:
                passages.append(_part(start, len(text), span, labels))
                start = len(text) + 1
            text += f"\n{line}" if text and not text.endswith("\n") else line
        passages.append(_part(start, len(text), span, labels))
        for name, how in window.events.items():
            start = len(text) + 1
            mark = Marked(Label(EVENT, name), start + len("event: "), start + len("event: ") + len(name))
            text += f"\nevent: {name}{how}"
            passages.append(Passage(start, len(text), span, (mark,)))
        if not outcomes:
            self._before = "; ".join(state)
        begins = _when(window.first_time) if math.isfinite(window.first_time) else f"window {window.number}"
        return Document(
            self._file.source,
            f"{self._file.stem[:100]} {begins}",
            text,
            _date(window.last_time),
            (Label("series", self._file.source[:200]),),
            version_key(self._file.key, begins if self._window.seconds else f"window {window.number}"),
            tuple(passages),
        )

    def _state(self, window: _Open, columns: Sequence[int]) -> list[str]:
        """The bands of the means."""
        known = [at for at in columns if window.statistics[at].n][:STATE_COLUMNS]
        survey = self._survey
        return [survey.said(at, window.statistics[at].mean, "") for at in known]

    def _told(self, window: _Open) -> Iterator[str]:
        """Line by line, what the window holds."""
        between = ""
        if math.isfinite(window.first_time):
            between = f" from {_when(window.first_time)} to {_when(window.last_time)}"
        more = window.n_events - len(window.events)
        yield f"{window.n_rows} rows{between}{f', {more} more events' if more else ''}"
        for at in self._columns:
            if window.statistics[at].n:
                column = self._survey.columns[at]
                yield f"{column.name}{f' ({column.unit})' if column.unit else ''} {window.statistics[at]}"


def _part(start: int, end: int, key: tuple[int, int] | None, labels: list[Marked]) -> Passage:
    """A passage of statistics: the first one carries the pair, the others are text alone."""
    return Passage(start, end, key, tuple(labels)) if key and not start else Passage(start, end)


def _when(time: float) -> str:
    """Seconds since 1970 as a date to the second."""
    return _date(time) or f"{time:.0f} s"


def _date(time: float) -> str:
    try:
        return utc_text(datetime.fromtimestamp(time, UTC))
    except (ValueError, OverflowError, OSError):
        return ""
