"""What is asked: the question, where, about which part of it, and how long the answer may be.

Purpose: one checked value from the public call to the last leg. Invariants: whatever is refused is refused here, before
anything is read; a filter that says nothing is no filter.
"""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass, field

from emm import InputError
from emm_engine.documents import Label, end_of
from emm_engine.hierarchy import Scope
from emm_engine.settings import RECALLS

QUESTION_CHARS_MAX = 10_000
K_MAX = 1000
SOURCE_CHARS_MAX = 1000
LABELS_MAX = 16
LEXICAL, VECTOR, MATRIX = RECALLS


@dataclass(frozen=True, slots=True)
class Filters:
    """What an answer may be taken from, beside the scope. Dates are `YYYY[-MM[-DD[THH:MM:SSZ]]]`, UTC."""

    as_of: str | None = None  # what was known up to then: later documents and later versions do not exist
    since: str | None = None  # documents dated from then on
    until: str | None = None  # documents dated up to then
    labels: tuple[Label, ...] = ()  # passages that carry all of these
    source: str | None = None  # a shell pattern over the whole source, its case counting

    def __post_init__(self) -> None:
        for moment in (self.as_of, self.since, self.until):
            if moment is not None:
                end_of(moment)
        if self.since is not None and self.until is not None and self.since > end_of(self.until):
            raise InputError("since is after until", expected=f"at most {self.until}", found=self.since)
        if len(self.labels) > LABELS_MAX:
            raise InputError("too many labels", expected=f"at most {LABELS_MAX}", found=len(self.labels))
        if self.source is not None and not 0 < len(self.source) <= SOURCE_CHARS_MAX:
            raise InputError(
                "not a pattern for sources", expected=f"1 to {SOURCE_CHARS_MAX} characters", found=len(self.source)
            )

    @property
    def dated(self) -> bool:
        """Whether a document without a date is left out."""
        return any(moment is not None for moment in (self.as_of, self.since, self.until))

    def takes(self, source: str) -> bool:
        return self.source is None or fnmatch.fnmatchcase(source, self.source)


def parse_label(text: str) -> Label:
    """The label written as `kind:name`; the name may hold colons."""
    kind, colon, name = text.partition(":")
    if not (kind and colon and name):
        raise InputError("not a label", expected="kind:name", found=repr(text[:80]))
    return Label(kind, name)


@dataclass(frozen=True, slots=True)
class Question:
    """One question to an archive."""

    text: str
    scope: Scope
    k: int = 5  # passages to cite, at most
    token_budget: int = 1500  # of the context block
    filters: Filters = field(default_factory=Filters)
    without: frozenset[str] = frozenset()  # recalls that are not asked

    def __post_init__(self) -> None:
        if not self.text.strip() or len(self.text) > QUESTION_CHARS_MAX:
            raise InputError(
                "an empty question" if not self.text.strip() else "the question is too long",
                expected=f"1 to {QUESTION_CHARS_MAX} characters",
                found=len(self.text),
            )
        if not 1 <= self.k <= K_MAX or self.token_budget < 1:
            raise InputError(f"k is 1 to {K_MAX}, and token_budget at least 1", found=(self.k, self.token_budget))
        if not self.without <= set(RECALLS):
            raise InputError(
                "there is no such recall", expected=", ".join(RECALLS), found=", ".join(sorted(self.without))
            )

    def asks(self, told: tuple[str, ...]) -> tuple[str, ...]:
        """The recalls to ask: those that the scope was told to, without those that the question does without."""
        asked = tuple(recall for recall in told if recall not in self.without)
        if not asked:
            raise InputError("no recall is left to ask", expected=f"some of {', '.join(told) or 'none'}", found="none")
        return asked
