"""What a source yields: one dated text with its labels.

Purpose: the value every importer produces and the archive takes. Invariants: `date` is UTC in ISO 8601
to the second (`2006-12-08T10:00:00Z`) or empty when unknown, so dates sort as text; the content hash
covers title and text alone, so the same text under another path or date is recognised as the same; title and
labels, which count once for each passage of the text, are bounded, so an archive grows with what it is given; spans
are half-open ranges of code points of the document's text, and what a source says of its passages lies inside it.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime

from emm import InputError

DOCUMENT_CHARS_MAX = 32 << 20
TITLE_CHARS_MAX = 1000
LABELS_MAX = 256
PASSAGES_MAX = 100_000
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


@dataclass(frozen=True, slots=True)
class Marked:
    """A label and the characters of the document that say it; none where only the source knows it (a folder's name)."""

    label: Label
    start: int | None = None
    end: int | None = None


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of a document that is cited and embedded as one.

    `key`: the span that alone makes the key of the passage's pair (the conditions, say, of which `labels` are the
    outcome); None = the passage with its title.
    """

    start: int
    end: int
    key: tuple[int, int] | None = None
    labels: tuple[Marked, ...] = ()

    def within(self, length: int) -> bool:
        """Whether every span lies inside a text of that length."""
        marked = [(label.start, label.end) for label in self.labels if label.start is not None]
        spans = [(self.start, self.end), *([self.key] if self.key else []), *marked]
        return all(low is not None and high is not None and 0 <= low < high <= length for low, high in spans)


FILE_DATE = Label("date", "file")  # carried by a document whose date is only its file's; never in the matrix


@dataclass(frozen=True, slots=True)
class Document:
    """One text. `key` names the thing it is a version of: a new text under a known key supersedes the old.

    `passages` is how a source that knows better than the engine cuts the text, in order and without overlap.
    """

    source: str
    title: str
    text: str
    date: str = ""
    labels: tuple[Label, ...] = field(default=())
    key: str | None = None
    passages: tuple[Passage, ...] = ()

    def __post_init__(self) -> None:
        strings = [self.source, self.title, self.text, self.key or ""]
        marked = [mark.label for passage in self.passages for mark in passage.labels]
        strings += [part for label in (*self.labels, *marked) for part in (label.kind, label.name)]
        for string in strings:
            if "\0" in string or _SURROGATE.search(string):
                raise InputError("a text holds NUL or lone surrogates", file=self.source, found=repr(string[:40]))
        for what, found, most in (
            ("text is too long", len(self.text), DOCUMENT_CHARS_MAX),
            ("title is too long", len(self.title), TITLE_CHARS_MAX),
            ("document has too many labels", len(self.labels), LABELS_MAX),
            ("document has too many passages", len(self.passages), PASSAGES_MAX),
            ("passage has too many labels", max((len(p.labels) for p in self.passages), default=0), LABELS_MAX),
        ):
            if found > most:
                raise InputError(f"a {what}", file=self.source, expected=f"at most {most}", found=found)
        ordered = all(a.end <= b.start for a, b in itertools.pairwise(self.passages))
        if not ordered or not all(passage.within(len(self.text)) for passage in self.passages):
            raise InputError("the passages do not lie in the text, one after the other", file=self.source)
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
