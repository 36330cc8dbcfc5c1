"""What a question returns.

Purpose: plain values that print, compare and turn into JSON. Invariants: frozen; a citation's quote is the
stored text of its span, to the character; JSON holds the same numbers as the values, and nothing that a terminal
obeys.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from emm_engine.reports import to_json
from emm_engine.retrieval.question import Filters


@dataclass(frozen=True, slots=True)
class Citation:
    """A passage: where it stands, what it says, and why it was chosen."""

    number: int  # [n] in the context block; 0 = not cited there
    document_id: int
    passage_id: int
    source: str
    title: str
    date: str
    start: int
    end: int
    quote: str
    score: float  # in [0, 1], relative to the other passages of this answer
    lexical: float
    vector: float
    file_date: bool = False  # the date is the file's own: nothing in it said another


@dataclass(frozen=True, slots=True)
class Evidence:
    """A document behind an association: its passage that lies nearest to the question."""

    document_id: int
    passage_id: int
    source: str
    title: str
    date: str
    start: int
    end: int
    score: float  # cosine to the question
    number: int  # [n] when the passage is also cited, else 0
    file_date: bool = False


@dataclass(frozen=True, slots=True)
class Association:
    """A label the matrix recalls for the question, with its strength and the strongest documents behind it."""

    kind: str
    name: str
    strength: float  # estimated share of similar passages that carried the label
    base: float  # share of all passages that carry it: what no question at all would give
    n_passages: int  # in the matrices, that carry the label
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """Everything an answer is made of; `context` is the block for a reader or a language model."""

    question: str
    scope: str
    filters: Filters
    recalls: tuple[str, ...]  # that were asked: lexical, vector, matrix
    context: str
    n_tokens: int  # of the context block, estimated
    citations: tuple[Citation, ...]
    associations: tuple[Association, ...]
    vector_only: tuple[Citation, ...]  # what vectors alone would have answered
    vector_weight: float  # of vectors beside 1 for words; 0 where they were not asked
    notes: tuple[str, ...]
    timings_ms: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> str:
        return to_json(asdict(self))
