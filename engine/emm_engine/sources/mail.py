"""Mailboxes (mbox) and single messages (.eml) as documents: one a thread.

Purpose: years of mail. A mailbox is read twice: first the heads, to know which messages belong together (References
and In-Reply-To by message id, RFC 5322 section 3.6.4), then the messages of each thread in order of time. Invariants:
memory holds a few numbers for each message of a block of `BLOCK_MESSAGES` and one thread's texts, whatever the size of
the file; a message that cannot be read is reported and the rest of its thread is kept; attachments are not opened.
"""

from __future__ import annotations

import email
import email.header
import email.message
import email.utils
import hashlib
import re
from array import array
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from emm_engine.documents import Document, Label
from emm_engine.sources.changelog import Problem, decode_text
from emm_engine.sources.conversation import Message, documents_of, without_quotes
from emm_engine.sources.files import SourceFile
from emm_engine.sources.html import CPU_SECONDS
from emm_engine.sources.isolation import parse
from emm_engine.sources.values import clean, moment_of, reason, version_key

BLOCK_MESSAGES = 100_000  # threads are cut between blocks
MESSAGE_BYTES_MAX = 16 << 20
HEAD_BYTES_MAX = 256 << 10
LINE_BYTES = 1 << 16
PARTS_MAX = 200
REFERENCES_MAX = 100
PROBLEMS_MAX = 5

_ID = re.compile(rb"<([^<>\s]{1,500})>")
_FROM = re.compile(rb"From \S[^\n]{0,500}\d{4}")
_HEADER = re.compile(rb"^(message-id|in-reply-to|references|date):((?:[^\n]|\n[ \t])*+)", re.IGNORECASE | re.MULTILINE)
_REPLY = re.compile(r"^(?:(?:re|aw|sv|fwd?|wg)\s{0,3}(?:\[\d{1,3}\])?:\s{0,9})+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a message lies, and what it belongs to."""

    start: int
    end: int
    identity: int  # hash of its message id
    references: tuple[int, ...]  # hashes of the ids that it answers, oldest first


def read_mail(file: SourceFile, problem: Problem) -> Iterator[Document]:
    """The threads of a mailbox in the order of their first messages; of a single message one."""
    places: list[_Place] = []
    for place in _messages(file):
        places.append(place)
        if len(places) == BLOCK_MESSAGES:
            yield from _threads(file, places, problem)
            places = []
    yield from _threads(file, places, problem)


# --- where the messages are ----------------------------------------------------------------------


def _messages(file: SourceFile) -> Iterator[_Place]:
    """The messages of a file, by their `From ` lines; without one at the beginning the file is one message."""
    if not file.text_head().startswith(b"From "):
        yield _place(file, 0, file.size)
        return
    start, at, blank = -1, 0, True
    stream = file.stream
    stream.seek(0)
    while line := stream.readline(LINE_BYTES):
        if blank and line.startswith(b"From ") and _FROM.match(line):
            if start >= 0:
                yield _place(file, start, at)
                stream.seek(at + len(line))
            start = at + len(line)
        at += len(line)
        blank = line in (b"\n", b"\r\n")
    if start >= 0:
        yield _place(file, start, at)


def _place(file: SourceFile, start: int, end: int) -> _Place:
    file.stream.seek(start)
    data = file.stream.read(min(end - start, HEAD_BYTES_MAX)).replace(b"\r\n", b"\n")
    head = data.partition(b"\n\n")[0]
    fields: dict[bytes, bytes] = {}
    for match in _HEADER.finditer(head):
        fields.setdefault(match.group(1).lower(), match.group(2))
    ids = [_hash(each) for each in _ID.findall(fields.get(b"message-id", b""))[:1]]
    answered = _ID.findall(fields.get(b"references", b""))[:REFERENCES_MAX]
    answered += _ID.findall(fields.get(b"in-reply-to", b""))[:1]
    return _Place(start, end, ids[0] if ids else _hash(head), tuple(map(_hash, answered)))


def _hash(data: bytes) -> int:
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "little")


# --- which belong together -----------------------------------------------------------------------


def _threads(file: SourceFile, places: list[_Place], problem: Problem) -> Iterator[Document]:
    above: dict[int, int] = {}

    def root(identity: int) -> int:
        while (parent := above.get(identity, identity)) != identity:
            above[identity] = above.get(parent, parent)
            identity = parent
        return identity

    for place in places:
        for answered in place.references:
            ours, theirs = root(place.identity), root(answered)
            if ours != theirs:
                above[ours] = theirs
    threads: dict[int, array[int]] = defaultdict(lambda: array("l"))
    for number, place in enumerate(places):
        threads[root(place.identity)].append(number)
    faults = _Faults(file, problem)
    for numbers in threads.values():
        yield from _thread(file, [places[number] for number in numbers], faults)
    faults.end()


def _thread(file: SourceFile, places: list[_Place], faults: _Faults) -> Iterator[Document]:
    found: list[tuple[str, Message]] = []
    seen: set[int] = set()
    for place in places:
        if place.identity in seen:  # a copy, as mailing lists and sent folders make them
            continue
        seen.add(place.identity)
        try:
            found.append(_message(file, place))
        except Exception as error:  # the standard library's parser raises many kinds on malformed mail
            faults.add(place, error)
    latest = datetime.max.replace(tzinfo=UTC)
    found.sort(key=lambda each: each[1].moment or latest)
    told = [message for _, message in found if message.text.strip()]
    if told:
        subject = _REPLY.sub("", found[0][0]).strip() or file.stem
        first = min(places, key=lambda place: place.start)
        labels = [Label("folder", file.folder)] if file.folder else []
        key = version_key(file.key, f"{first.identity:016x}")
        yield from documents_of(told, file.source, subject, key, labels)


class _Faults:
    """Reports the first unreadable messages of a file and counts the others."""

    def __init__(self, file: SourceFile, problem: Problem) -> None:
        self._file, self._problem, self._count = file, problem, 0

    def add(self, place: _Place, error: Exception) -> None:
        self._count += 1
        if self._count <= PROBLEMS_MAX:
            self._problem(f"{self._file.source} byte {place.start}", reason(error)[:300])

    def end(self) -> None:
        if self._count > PROBLEMS_MAX:
            self._problem(self._file.source, f"and {self._count - PROBLEMS_MAX} more messages")


# --- what they say -------------------------------------------------------------------------------


def _message(file: SourceFile, place: _Place) -> tuple[str, Message]:
    """(subject, message)."""
    size = place.end - place.start
    if size > MESSAGE_BYTES_MAX:
        raise ValueError(f"a message of {size} bytes, more than {MESSAGE_BYTES_MAX}")
    file.stream.seek(place.start)
    parsed = email.message_from_bytes(file.stream.read(size))
    name, address = email.utils.parseaddr(_decoded(parsed.get("From", "")))
    text = "\n".join(
        line.removeprefix(">") if line.startswith(">From ") else line for line in _body(parsed).split("\n")
    )
    sender = name or address or "somebody"
    return _decoded(parsed.get("Subject", "")), Message(sender, moment_of(parsed.get("Date")), without_quotes(text))


def _decoded(value: object) -> str:
    """A header's text, of encoded words (RFC 2047) too."""
    parts = email.header.decode_header(str(value)[:2000])
    texts = (part.decode(charset or "ascii", "replace") if isinstance(part, bytes) else part for part, charset in parts)
    try:
        return clean(" ".join("".join(texts).split()))
    except LookupError:  # no such encoding
        return clean(" ".join(str(value).split()))


def _body(parsed: email.message.Message) -> str:
    """The plain text of a message; of one that has none, its page as text."""
    plain: list[str] = []
    pages: list[bytes] = []
    for number, part in enumerate(parsed.walk()):
        if number == PARTS_MAX:
            break
        if part.is_multipart() or part.get_content_disposition() == "attachment":
            continue
        data = part.get_payload(decode=True)
        if isinstance(data, bytes) and part.get_content_type() == "text/plain":
            plain.append(_text(data, part.get_content_charset()))
        elif isinstance(data, bytes) and part.get_content_type() == "text/html":
            pages.append(_text(data, part.get_content_charset()).encode())
    if any(text.strip() for text in plain) or not pages:
        return "\n".join(plain)
    (found,) = parse("html", pages[0], CPU_SECONDS)
    return clean(found["text"])


def _text(data: bytes, charset: str | None) -> str:
    try:
        text = data.decode(charset) if charset else decode_text(data)
    except (LookupError, UnicodeDecodeError):
        text = decode_text(data)
    return clean(text.replace("\r\n", "\n"))
