"""What a stranger's rows are held against before they are taken in.

Purpose: an exported catalog is a file that anybody may have altered; every row of it passes here. Invariants: a text is
what its hash says and no longer than a document may be; a span lies in its text; a value has the type of its column,
and a number is finite; whatever does not hold is a `CatalogError` that names the table or the source, never a row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from emm import InputError
from emm_engine.documents import Document, Label
from emm_engine.errors import CatalogError

SPANS: Final = (("start", "end"), ("key_start", "key_end"), ("span_start", "span_end"))
_TYPES: Final = (  # as SQLite and PostgreSQL name them
    *(("INT", int), ("BIGINT", int), ("TEXT", str), ("BLOB", bytes), ("BYTEA", bytes)),
    *(("REAL", float), ("DOUBLE", float)),
)


class Texts:
    """The lengths of a run's texts, as far as they have come in, and which passage is of which."""

    def __init__(self) -> None:
        self._lengths: dict[int, int] = {}  # by document, in characters
        self._documents: dict[int, int] = {}  # by passage

    def take(self, table: str, values: Mapping[str, Any]) -> None:
        """Check a row's text and spans; documents come before passages, passages before what refers to them."""
        if table == "documents":
            self._lengths[values["document_id"]] = _length_of(values)
        elif table == "passages":
            self._documents[values["passage_id"]] = values["document_id"]
        for low, high in SPANS:
            if low in values and (values[low], values[high]) != (None, None):
                document = values.get("document_id") or self._documents.get(values.get("passage_id", 0), 0)
                start, end, length = values[low], values[high], self._lengths.get(document, 0)
                if start is None or end is None or not 0 <= start < end <= length:
                    raise CatalogError(f"a span of {table} does not lie in its text", found=f"{start} to {end}")


def _length_of(values: Mapping[str, Any]) -> int:
    names = ("source", "title", "text", "date")
    document = _made(lambda: Document(**{name: values[name] for name in names}, key=values["version_key"]))
    if document.content_sha256 != values["content_sha256"]:
        raise CatalogError("a text is not what was stored", found=document.source)
    return len(document.text)


def checked_label(kind: object, name: object) -> Label:
    """A label that a document may carry."""
    return _made(lambda: Document("label", "", "", labels=(Label(kind, name),))).labels[0]  # type: ignore[arg-type]


def _made(make: Callable[[], Document]) -> Document:
    try:
        return make()
    except (InputError, TypeError) as error:
        raise CatalogError("the catalog holds what no document can", found=str(error)) from error


def check_types(table: str, declared: Mapping[str, str], values: Mapping[str, object]) -> None:
    """Values against the types that their columns were declared with, which SQLite does not do."""
    for column, value in values.items():
        wanted = next((kind for name, kind in _TYPES if declared[column].upper().startswith(name)), None)
        kinds = (int, float) if wanted is float else (wanted,)
        right = wanted is None or value is None or type(value) in kinds
        if not right or (isinstance(value, float) and not math.isfinite(value)):
            raise CatalogError(
                f"{table}.{column} holds what it cannot", expected=declared[column], found=repr(value)[:80]
            )
