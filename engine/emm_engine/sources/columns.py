"""CSV, TSV and Parquet files as batches of columns.

Purpose: one streamed view of a table for all that is made of it. Invariants: a batch holds at most `BATCH_ROWS` rows
and about `BATCH_BYTES` of text, whatever the file; a number is a float64, what is none is NaN; lines and cells are
bounded; a table can be read several times. Parquet needs pyarrow, which is imported when one is met.
"""

from __future__ import annotations

import codecs
import csv
import functools
import io
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from emm_engine.extraction.note_tables import Column
from emm_engine.sources.files import SourceFile
from emm_engine.sources.values import clean, moment_of

BATCH_ROWS = 4096
BATCH_BYTES = 8 << 20
LINE_CHARS_MAX = 1 << 20
COLUMNS_MAX = 512
PARQUET_BATCH_BYTES_MAX = 256 << 20  # of one row group's columns, unpacked
_DELIMITERS = ",;\t|"

Float64Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Values:
    """One column of a batch."""

    texts: Sequence[str] | None  # None: numbers from the start
    numbers: Float64Array  # (n_rows,) NaN where there is none

    def text(self, at: int) -> str:
        if self.texts is not None:
            return self.texts[at]
        return "" if np.isnan(self.numbers[at]) else f"{self.numbers[at]:.12g}"

    def times(self) -> Float64Array:
        """(n_rows,) seconds since 1970, NaN where there is no moment."""
        said: Sequence[Any] = self.texts if self.texts is not None else self.numbers.tolist()
        moments = map(moment_of, said)
        return np.array([np.nan if each is None else each.timestamp() for each in moments], np.float64)


Batch = list[Values]  # in the order of the columns, all of one length


class Rows(Protocol):
    """A table that can be read from its beginning, any number of times."""

    @property
    def columns(self) -> Sequence[Column]: ...

    def batches(self) -> Iterator[Batch]: ...


def opened_rows(file: SourceFile) -> Rows:
    """The table in a file."""
    if file.head().startswith(b"PAR1") or file.name.lower().endswith(".parquet"):
        return _Parquet(file)
    return _Delimited(file)


# --- text ----------------------------------------------------------------------------------------


class _Delimited:
    def __init__(self, file: SourceFile) -> None:
        self._file = file
        head = file.text_head()
        self._encoding = "utf-16" if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
        self._delimiter = _delimiter(head.decode(self._encoding, "replace"))
        first = next(self._records(), [])
        if not first:
            raise ValueError("no table: it holds no line")
        self._headed = not all(np.isfinite(self._numbers(first))) or not first
        names = [clean(name) for name in first] if self._headed else [f"column {at}" for at in range(1, len(first) + 1)]
        if len(names) > COLUMNS_MAX:
            raise ValueError(f"{len(names)} columns, more than {COLUMNS_MAX}")
        self.columns = _distinct([Column.parse(name) for name in names])

    def _records(self) -> Iterator[list[str]]:
        self._file.stream.seek(0)
        text = io.TextIOWrapper(self._file.stream, self._encoding, "replace", newline="")
        try:
            for record in csv.reader(_lines(text), delimiter=self._delimiter):
                if any(cell.strip() for cell in record):
                    yield record
        except csv.Error as error:
            raise ValueError(f"not readable as a table: {error}") from error
        finally:
            text.detach()

    def _numbers(self, cells: Sequence[str]) -> Float64Array:
        if self._delimiter == ";":  # where a comma is no delimiter it may be a decimal point
            cells = [cell.replace(",", ".") for cell in cells]
        return numbers(cells)

    def batches(self) -> Iterator[Batch]:
        records = itertools.islice(self._records(), int(self._headed), None)
        width = len(self.columns)
        batch: list[list[str]] = []
        n_chars = 0
        for record in records:
            batch.append((record + [""] * (width - len(record)))[:width])
            n_chars += sum(map(len, record))
            if len(batch) == BATCH_ROWS or n_chars > BATCH_BYTES:
                yield self._batch(batch)
                batch, n_chars = [], 0
        if batch:
            yield self._batch(batch)

    def _batch(self, records: list[list[str]]) -> Batch:
        columns = ([clean(cell.strip()) for cell in column] for column in zip(*records, strict=True))
        return [Values(texts, self._numbers(texts)) for texts in columns]


def _lines(text: io.TextIOWrapper) -> Iterator[str]:
    while line := text.readline(LINE_CHARS_MAX + 1):
        if len(line) > LINE_CHARS_MAX:
            raise ValueError(f"a line of more than {LINE_CHARS_MAX} characters")
        if not line.startswith("#"):
            yield line


def _delimiter(head: str) -> str:
    """The mark that parts the most cells of the first lines."""
    lines = [line for line in head.split("\n")[:5] if line.strip() and not line.startswith("#")][:2]
    counts = Counter({mark: min((line.count(mark) for line in lines), default=0) for mark in _DELIMITERS})
    return max(_DELIMITERS, key=lambda mark: (counts[mark], -_DELIMITERS.index(mark)))


def numbers(cells: Sequence[str]) -> Float64Array:
    """(n,) the numbers that cells say, NaN for those that say none."""
    try:
        return np.asarray(cells, dtype=np.str_).astype(np.float64)
    except ValueError:
        return np.array([_number(cell) for cell in cells], np.float64)


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return float("nan")


def _distinct(columns: list[Column]) -> list[Column]:
    """Columns with names of their own: an empty or repeated one gets its place."""
    seen: set[str] = set()
    found = []
    for at, column in enumerate(columns, 1):
        name = column.name if column.name and column.name not in seen else f"{column.name or 'column'} {at}"
        seen.add(name)
        found.append(Column(name, column.unit))
    return found


# --- Parquet -------------------------------------------------------------------------------------


class _Parquet:
    def __init__(self, file: SourceFile) -> None:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            raise ValueError(f"needs `pip install emm-format[documents]` ({error})") from error
        self._file = file
        file.stream.seek(0)
        try:
            self._parquet: Any = pyarrow.parquet.ParquetFile(file.stream, memory_map=False)
        except (pyarrow.ArrowException, OSError) as error:
            raise ValueError(f"not readable as Parquet: {error}") from error
        schema = self._parquet.schema_arrow
        self._flat = [at for at, each in enumerate(schema.types) if not pyarrow.types.is_nested(each)]
        if not 0 < len(self._flat) <= COLUMNS_MAX:
            raise ValueError(f"{len(self._flat)} plain columns where 1 to {COLUMNS_MAX} can be read")
        self.columns = _distinct([Column.parse(clean(schema.names[at])) for at in self._flat])
        metadata = self._parquet.metadata
        for group in range(metadata.num_row_groups):
            size = metadata.row_group(group).total_byte_size
            if size > PARQUET_BATCH_BYTES_MAX * max(1, len(self._flat) // 8):
                raise ValueError(f"a row group of {size} bytes, unpacked")

    def batches(self) -> Iterator[Batch]:
        import pyarrow

        names = [self._parquet.schema_arrow.names[at] for at in self._flat]
        try:
            for batch in self._parquet.iter_batches(batch_size=BATCH_ROWS, columns=names, use_threads=False):
                yield [_arrow(column) for column in batch.columns]
        except (pyarrow.ArrowException, OSError) as error:
            raise ValueError(f"not readable as Parquet: {error}") from error


def _arrow(column: Any) -> Values:
    import pyarrow

    kind = column.type
    if pyarrow.types.is_floating(kind) or pyarrow.types.is_integer(kind):
        values = column.cast(pyarrow.float64(), safe=False).to_numpy(zero_copy_only=False)
        return Values(None, np.asarray(values, np.float64))
    texts = [_said(value) for value in column.to_pylist()]
    return Values(texts, numbers(texts))


@functools.singledispatch
def _said(value: object) -> str:
    return "" if value is None else clean(value).strip()


@_said.register
def _(value: datetime) -> str:
    return value.isoformat()


@_said.register
def _(value: date) -> str:
    return value.isoformat()


@_said.register
def _(value: bytes) -> str:
    return clean(value.decode("utf-8", "replace")).strip()
