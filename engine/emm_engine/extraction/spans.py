"""Where in a text a label is said.

Purpose: labels that a source declares (tags, projects, titles, dates) get the characters that say them, where any do.
Invariants: the text at a span is the phrase, but for case; only the head of a text is searched, so the work is bounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from emm_engine.documents import FILE_DATE, LABELS_MAX, Document, Label, Marked

HEAD_CHARS = 1 << 16  # of a document: front matter, title, opening
TRIES_MAX = 64  # occurrences inside other words that are passed over
TITLE, MONTH = "title", "month"  # kinds of label that every document may have


def locate(text: str, phrase: str) -> tuple[int, int] | None:
    """The first span of the head of a text that is the phrase, as whole words and in any case."""
    head = text[:HEAD_CHARS]
    lowered, wanted = head.lower(), phrase.lower()
    if len(lowered) != len(head):  # a letter whose lower case is longer: spans would shift
        lowered, wanted = head, phrase
    at = -1
    for _ in range(TRIES_MAX):
        at = lowered.find(wanted, at + 1)
        if at < 0 or not wanted:
            return None
        end = at + len(wanted)
        if not (_word(lowered, at - 1) and _word(lowered, at)) and not (
            _word(lowered, end - 1) and _word(lowered, end)
        ):
            return at, end
    return None


def _word(text: str, at: int) -> bool:
    return 0 <= at < len(text) and (text[at].isalnum() or text[at] == "_")


def document_labels(document: Document) -> Iterator[Marked]:
    """What holds for a whole document: what its source declared, its title, and its month where the text dates it."""
    labels = dict.fromkeys(document.labels)
    yield from _marked(document.text, labels)
    dated = document.date and FILE_DATE not in labels
    if len(labels) < LABELS_MAX - 1:
        if document.title and not document.passages:  # the title of a table's row or of a window is its number
            yield from _marked(document.text, [Label(TITLE, document.title)])
        if dated:
            yield from _marked(document.text, [Label(MONTH, document.date[:7])])


def _marked(text: str, labels: Iterable[Label]) -> Iterator[Marked]:
    for label in labels:
        found = locate(text, label.name)
        yield Marked(label, *found) if found is not None else Marked(label)
