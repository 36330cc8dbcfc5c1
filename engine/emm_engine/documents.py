"""What a source yields: one dated text with its labels.

Purpose: the value every importer produces and the archive takes. Invariants: `date` is UTC in ISO 8601
to the second (`2006-12-08T10:00:00Z`) or empty when unknown, so dates sort as text; the content hash
covers title and text alone, so the same text under another path or date is recognised as the same; title and
labels, which count once for each passage of the text, are bounded, so an archive grows with what it is given.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime

from emm import InputError

DOCUMENT_CHARS_MAX = 32 << 20
TITLE_CHARS_MAX = 1000
LABELS_MAX = 256
AFTER_ALL = "~"  # sorts after every character of a date

_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_AS_OF = re.compile(r"\d{4}(?:-\d\d(?:-\d\d(?:T\d\d:\d\d:\d\dZ)?)?)?", re.ASCII)
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True, order=True)
class Label:
    """Something a document carries: a kind (`package`, `tag`, `maintainer`) and a name."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


FILE_DATE = Label("date", "file")  # carried by a document whose date is only its file's; never in the matrix


@dataclass(frozen=True, slots=True)
class Document:
    """One text. `key` names the thing it is a version of: a new text under a known key supersedes the old."""

    source: str
    title: str
    text: str
    date: str = ""
    labels: tuple[Label, ...] = field(default=())
    key: str | None = None

    def __post_init__(self) -> None:
        strings = [self.source, self.title, self.text, self.key or ""]
        strings += [part for label in self.labels for part in (label.kind, label.name)]
        for string in strings:
            if "\0" in string or _SURROGATE.search(string):
                raise InputError("a text holds NUL or lone surrogates", file=self.source, found=repr(string[:40]))
        for what, found, most in (
            ("text is too long", len(self.text), DOCUMENT_CHARS_MAX),
            ("title is too long", len(self.title), TITLE_CHARS_MAX),
            ("document has too many labels", len(self.labels), LABELS_MAX),
        ):
            if found > most:
                raise InputError(f"a {what}", file=self.source, expected=f"at most {most}", found=found)
        if self.date and not _DATE.fullmatch(self.date):
            raise InputError("not a date", file=self.source, expected="YYYY-MM-DDTHH:MM:SSZ or empty", found=self.date)

    @property
    def content_sha256(self) -> bytes:
        """32 bytes over title and text, each preceded by its length."""
        digest = hashlib.sha256()
        for part in (self.title, self.text):
            data = part.encode()
            digest.update(len(data).to_bytes(8, "little"))
            digest.update(data)
        return digest.digest()


def utc_text(moment: datetime) -> str:
    """A moment as `YYYY-MM-DDTHH:MM:SSZ`; a naive one is taken as UTC."""
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return aware.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0")  # %Y does not pad a year before 1000


def end_of(as_of: str) -> str:
    """The last second that `as_of` (a year, month, day or full moment in UTC) includes, for comparing dates."""
    for pattern in ("%Y", "%Y-%m", "%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ"):
        try:  # strptime also takes `2024-1`, which would not sort as a text
            datetime.strptime(as_of if _AS_OF.fullmatch(as_of) else "", pattern)
        except ValueError:
            continue
        return as_of if as_of.endswith("Z") else as_of + AFTER_ALL
    raise InputError("not a date", expected="YYYY, YYYY-MM, YYYY-MM-DD or YYYY-MM-DDTHH:MM:SSZ", found=repr(as_of))


def embedded_text(title: str, passage: str) -> str:
    """What is embedded for a passage: its document's title gives it context."""
    return f"{title}\n{passage}"


def text_hash(text: str) -> int:
    """First 8 bytes of SHA-256 as a signed number: ties a stored vector to the text it was made from."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little", signed=True)
