"""What a person may say about how to read.

Purpose: the options of `emm ingest`, checked once. Invariants: frozen; the defaults read every format without help.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Self

from emm import InputError

FIELDS: Mapping[str, tuple[str, ...]] = MappingProxyType(  # of JSON lines: the first that a record has counts
    {
        "text": ("text", "body", "content", "message", "abstract"),
        "title": ("title", "subject", "name", "headline"),
        "date": ("date", "created", "created_at", "timestamp", "time", "datetime", "published"),
        "tags": ("tags", "tag", "labels", "keywords", "categories"),
        "id": ("id", "_id", "uid", "key", "url"),
    }
)
WINDOW_ROWS = 1000
ROWS_MAX = 10_000_000
OUTCOME_WORDS = frozenset(
    """
    accuracy conversion effect efficiency failed failure outcome output passed performance quality response result
    results score selectivity status success verdict yield yields
    """.split()  # noqa: SIM905 - a list of 20 strings is no easier to read
)

_DURATION = re.compile(r"(\d{1,9})\s*(s|sec|min|h|d)?")
_SECONDS = {"s": 1, "sec": 1, "min": 60, "h": 3600, "d": 86_400}
_THRESHOLD = re.compile(r"\s*([^<>=]{1,100}?)\s*([<>])\s*([+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)\s*")
_WORD = re.compile(r"[a-z]+")


@dataclass(frozen=True, slots=True)
class Window:
    """How many rows, or how many seconds, a window of a series spans: exactly one of them."""

    rows: int | None = WINDOW_ROWS
    seconds: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """`1000` rows, or `30s`, `10min`, `1h`, `1d`."""
        match = _DURATION.fullmatch(text.strip().lower())
        count = int(match.group(1)) if match else 0
        if match is None or not count or (match.group(2) is None and count > ROWS_MAX):
            raise InputError(
                "cannot read the window", expected="rows (1000) or a time (30s, 10min, 1h, 1d)", found=text
            )
        unit = match.group(2)
        return cls(count, None) if unit is None else cls(None, count * _SECONDS[unit])


@dataclass(frozen=True, slots=True)
class Threshold:
    """A bound of a column whose crossing is an event."""

    column: str
    above: bool
    value: float

    @classmethod
    def parse(cls, text: str) -> Self:
        """`pressure>3.5` or `flow<0.2`."""
        match = _THRESHOLD.fullmatch(text)
        if match is None:
            raise InputError("cannot read the threshold", expected="column>number or column<number", found=text)
        return cls(match.group(1), match.group(2) == ">", float(match.group(3)))


@dataclass(frozen=True, slots=True)
class Settings:
    """How to read."""

    format: str | None = None  # of every file, whatever its name; None = by suffix and first bytes
    fields: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: FIELDS)
    window: Window | None = None  # None = series are told from experiments by their columns
    thresholds: tuple[Threshold, ...] = ()
    outcomes: frozenset[str] = frozenset()  # columns by name; none = those whose name says so
    conditions: frozenset[str] = frozenset()  # none = every column that is no outcome

    def __reduce__(self) -> tuple[Any, ...]:
        """For a worker: a read-only view of a mapping cannot travel, a copy of it can."""
        parts = (self.format, dict(self.fields), self.window, self.thresholds, self.outcomes, self.conditions)
        return type(self), parts

    def is_outcome(self, column: str) -> bool:
        """Whether a column of a table holds outcomes."""
        if self.outcomes:
            return column.lower() in self.outcomes
        return bool(OUTCOME_WORDS & set(_WORD.findall(column.lower())))

    def is_condition(self, column: str) -> bool:
        """Whether a column of a table holds conditions."""
        return not self.is_outcome(column) and (not self.conditions or column.lower() in self.conditions)

    def absent(self, columns: Iterable[str]) -> frozenset[str]:
        """Outcomes and conditions that somebody named and that a table of these columns has not."""
        return (self.outcomes | self.conditions) - {column.lower() for column in columns}


def fields_of(given: Iterable[str]) -> Mapping[str, tuple[str, ...]]:
    """The fields of JSON lines, from `text=body` and the like over the defaults."""
    found = dict(FIELDS)
    for text in given:
        name, equals, value = text.partition("=")
        if name not in FIELDS or not equals or not value:
            raise InputError("cannot read the field", expected=f"{'|'.join(FIELDS)}=NAME", found=text)
        found[name] = (value,)
    return found


DEFAULT = Settings()
