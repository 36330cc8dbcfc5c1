"""Messages of one conversation as a document.

Purpose: what mail and chat have in common: messages become one text with who and when before each, quoting is
dropped, participants are labels. Invariants: dated by its last message, so that a question about an earlier moment
never sees a later answer; a long conversation is cut into parts at messages, each with a key of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from emm_engine.documents import LABELS_MAX, Document, Label, utc_text
from emm_engine.sources.text import TITLE_CHARS_SHOWN
from emm_engine.sources.values import clean, named

PART_CHARS = 200_000
PARTICIPANTS_MAX = 64

# Where an answer's own words end: the line that introduces what it quotes, or a forwarded copy, or a signature.
_END = re.compile(
    r"^(?:-- |-{2,} ?(?:Original Message|Forwarded message|Ursprüngliche Nachricht) ?-{2,}[ \t]*|_{20,}[ \t]*)$",
    re.IGNORECASE,
)
_INTRODUCES = re.compile(r"^(?:On|Am|Le|El) .{0,300}(?:wrote|schrieb|écrit|escribió)\b.{0,200}:[ \t]*$")


@dataclass(frozen=True, slots=True)
class Message:
    """One contribution."""

    sender: str
    moment: datetime | None  # UTC
    text: str


def without_quotes(text: str) -> str:
    """A message's own words: quoted lines, the lines that introduce them, and signatures are dropped."""
    kept: list[str] = []
    for line in text.split("\n"):
        if _END.match(line):
            break
        if line.startswith(">"):
            _drop_introduction(kept)
            continue
        kept.append(line.rstrip())
    _drop_introduction(kept)
    return "\n".join(kept).strip("\n")


def _drop_introduction(kept: list[str]) -> None:
    """Take away `On … wrote:` at the end, which mail programs break over up to two lines."""
    while kept and not kept[-1]:
        kept.pop()
    for n_lines in (1, 2):
        if len(kept) >= n_lines and _INTRODUCES.match(" ".join(kept[-n_lines:])):
            del kept[-n_lines:]
            return


def documents_of(
    messages: Iterable[Message], source: str, title: str, key: str, labels: Iterable[Label]
) -> Iterator[Document]:
    """A conversation as one document, or as several when it is long."""
    part: list[Message] = []
    n_parts, n_chars = 0, 0
    for message in messages:
        if part and n_chars + len(message.text) > PART_CHARS:
            n_parts += 1
            yield _document(part, n_parts, source, title, key, labels)
            part, n_chars = [], 0
        part.append(message)
        n_chars += len(message.text)
    if part:
        yield _document(part, n_parts + 1, source, title, key, labels)


def _document(
    messages: list[Message], number: int, source: str, title: str, key: str, labels: Iterable[Label]
) -> Document:
    moments = [message.moment for message in messages if message.moment is not None]
    people = named("participant", (message.sender for message in messages))[:PARTICIPANTS_MAX]
    suffix = f" (part {number})" if number > 1 else ""
    return Document(
        source,
        clean(title)[: TITLE_CHARS_SHOWN - len(suffix)] + suffix,
        "\n\n".join(map(_said, messages)),
        utc_text(max(moments)) if moments else "",
        tuple(dict.fromkeys((*labels, *people)))[:LABELS_MAX],
        f"{key}{suffix}",
    )


def _said(message: Message) -> str:
    when = f", {message.moment:%Y-%m-%d %H:%M}" if message.moment is not None else ""
    return f"{' '.join(clean(message.sender).split()) or 'somebody'}{when}:\n{clean(message.text)}"
