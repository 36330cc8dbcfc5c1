"""Foreign values as a document can hold them.

Purpose: texts, names and dates of JSON, mail, pages and tables, made fit once. Invariants: no NUL and no lone
surrogate is left; a date is UTC or empty; nothing raises, whatever the value is.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from emm import EmmError
from emm_engine.documents import LABELS_MAX, Label, utc_text

NAME_CHARS_MAX = 200
SECONDS_MIN = 1e8  # since 1970; less counts from the beginning of something else

_UNFIT = re.compile("[\0\ud800-\udfff]")
_DAY = re.compile(r"(?<!\d)(\d{4})-(\d{2})-(\d{2})(?!\d)")
_EPOCHS = ((1e11, 1.0), (1e14, 1e3), (1e17, 1e6), (1e20, 1e9))  # (below this a number counts in, parts of a second)


def clean(text: Any) -> str:
    """Text without what a document may not hold."""
    return _UNFIT.sub("\N{REPLACEMENT CHARACTER}", text if isinstance(text, str) else str(text))


def reason(error: Exception) -> str:
    """Why something could not be read: a sentence of ours as it stands, any other error with its kind before it."""
    ours = type(error) is ValueError or isinstance(error, EmmError)
    return str(error) if ours else f"{type(error).__name__}: {error}"


def version_key(file_key: str, part: Any) -> str:
    """What versions of a part of a file are known by; a long name of the part by its SHA-256."""
    name = clean(part)
    if len(name) > NAME_CHARS_MAX:
        name = hashlib.sha256(name.encode()).hexdigest()
    return f"{file_key}#{name}"


def named(kind: str, names: Iterable[Any]) -> list[Label]:
    """Labels of one kind from names of any type; empty, long and repeated ones are left out."""
    flat = (" ".join(clean(name).split()) for name in names if isinstance(name, str | int | float))
    fit = dict.fromkeys(name for name in flat if name and len(name) <= NAME_CHARS_MAX)
    return [Label(kind, name) for name in list(fit)[:LABELS_MAX]]


def date_of_value(value: Any) -> str:
    """A date in any usual form (ISO 8601, RFC 5322, seconds to nanoseconds since 1970) as a document's, or empty."""
    moment = moment_of(value)
    return utc_text(moment) if moment is not None else ""


def moment_of(value: Any) -> datetime | None:
    """The same as a moment in UTC."""
    if isinstance(value, datetime):
        return _utc(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _since_1970(value)
    if not isinstance(value, str) or len(value) > 100:
        return None
    text = value.strip()
    for parse in (datetime.fromisoformat, _number, parsedate_to_datetime, _day):
        try:
            found = parse(text)
        except (ValueError, TypeError, IndexError, OverflowError):
            continue
        if found is not None:
            return _utc(found)
    return None


def _utc(moment: datetime) -> datetime | None:
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    try:
        return aware.astimezone(UTC)
    except (OverflowError, ValueError):
        return None


def _number(text: str) -> datetime | None:
    return _since_1970(float(text)) if len(text) > 8 else None  # `2024` and `20240301` are no numbers of seconds


def _since_1970(count: float) -> datetime | None:
    if not SECONDS_MIN <= count < _EPOCHS[-1][0]:  # NaN neither; an integer of JSON may be too large for a float
        return None
    parts = next(parts for limit, parts in _EPOCHS if count < limit)
    return datetime.fromtimestamp(count / parts, UTC)


def _day(text: str) -> datetime | None:
    match = _DAY.search(text)
    return datetime(*map(int, match.groups()), tzinfo=UTC) if match is not None else None  # type: ignore[arg-type,misc]
