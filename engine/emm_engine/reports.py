"""What an ingest and a look at the tree return, and how any such value becomes JSON.

Purpose: plain values that print, compare and turn into JSON. Invariants: frozen; JSON holds the same numbers as the
values, and nothing that a terminal obeys.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

_UNSAFE = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")  # JSON itself escapes none of these


@dataclass(frozen=True, slots=True)
class Progress:
    """Where an ingest is. `total` is None while the source is still being read."""

    phase: str  # reading, fitting, absorbing; embedding, learning
    done: int
    total: int | None
    seconds: float

    @property
    def rate(self) -> float:
        """Entries (reading) or passages (absorbing) per second of this phase."""
        return self.done / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Of this phase at its rate so far; None while that is unknown."""
        return (self.total - self.done) / self.rate if self.total is not None and self.rate else None


OnProgress = Callable[[Progress], None]


class Steps:
    """Tells progress, phase after phase, as work is done."""

    def __init__(self, progress: OnProgress | None) -> None:
        self._progress = progress
        self.begin("", None)

    def begin(self, phase: str, total: int | None) -> None:
        self._phase, self._total = phase, total
        self._done, self._started = 0, time.perf_counter()

    def add(self, count: int) -> None:
        self._done += count
        if self._progress is not None:
            seconds = time.perf_counter() - self._started
            self._progress(Progress(self._phase, self._done, self._total, seconds))


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What an ingest did."""

    scope: str
    entries_read: int
    documents: int  # new
    duplicates: int  # the same title and text were there
    empty: int  # white space alone
    superseded: int  # older versions retired
    passages: int  # new
    pairs: int  # absorbed by the matrix in this ingest
    unlearned: int  # superseded pairs taken out of the matrix
    pending: int  # pairs still waiting: 0 unless something stopped the ingest
    refused: int  # of those: passages that the embedder will not take
    resumed: str  # clean, or what was found of an interrupted batch: settled, withdrawn
    lsn: int
    rank: int
    saturation: float
    seconds: float
    phase_seconds: dict[str, float] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    blocked: int = 0  # refused: forgotten earlier, for good

    @property
    def entries_per_second(self) -> float:
        return self.entries_read / self.seconds if self.seconds > 0 else 0.0

    @property
    def documents_per_second(self) -> float:
        """New documents alone: copies of ones already there cost next to nothing."""
        return self.documents / self.seconds if self.seconds > 0 else 0.0

    @property
    def passages_per_second(self) -> float:
        """New passages, over everything: reading, fitting, embedding, learning, durably."""
        return self.passages / self.seconds if self.seconds > 0 else 0.0

    def to_dict(self) -> dict[str, Any]:
        """The fields, and the rates."""
        rates = ("entries_per_second", "documents_per_second", "passages_per_second")
        return {**asdict(self), **{name: getattr(self, name) for name in rates}}

    def to_json(self) -> str:
        return to_json(self.to_dict())


@dataclass(frozen=True, slots=True)
class RunStatus:
    """One run of the archive."""

    scope: str
    documents: int  # current, as are the passages: not superseded
    passages: int
    absorbed: int
    pending: int  # pairs whose text is durable and that the matrix has not absorbed yet
    stale: int  # superseded pairs still in the matrix
    lsn: int
    rank: int
    dim: int
    saturation: float
    vectors: int
    vector_recall: float | None  # of exact search's first ten, as far as it was checked; 1 where search is exact
    vector_search_k: int | None  # what the index is searched with; None where there is none
    closed: bool = False  # it, or a scope above it, takes no more documents
    hint: str = ""  # what its keeper could do about it

    embedder: str = ""  # with the address of a service
    refused: int = 0  # passages that the embedder will not take
    waiting: str = ""  # why the last try to embed failed, and when the next is due; empty when it did not


@dataclass(frozen=True, slots=True)
class ReembedReport:
    """What a change of embedder did."""

    domain: str
    before: str  # `EmbedderChoice.identity`; empty where there was none
    after: str
    changed: bool  # False: the new model is the old one, and nothing was done
    embedded: int  # passages, in this go
    refused: int  # passages that the new model will not take
    pairs: int  # learnt anew
    resumed: bool  # an earlier go had begun it
    seconds: float

    def to_json(self) -> str:
        return to_json(asdict(self))


@dataclass(frozen=True, slots=True)
class LevelStatus:
    """One tenant, domain or project of the archive: sums over its runs, and the memory that answers for all of it."""

    scope: str
    level: str  # tenant, domain, project
    runs: int
    documents: int
    passages: int
    absorbed: int
    pending: int
    stale: int
    rollup: str  # fresh, behind, one part (which answers for it), empty; none for a tenant
    rank: int  # of the roll-up; 0 where it has none of its own
    dim: int
    saturation: float
    closed: bool  # it carries a mark itself, or a scope above it does
    hint: str = ""


def to_json(value: dict[str, Any], indent: int | None = 2) -> str:
    text = json.dumps(value, ensure_ascii=False, indent=indent, sort_keys=True, allow_nan=False)
    return _UNSAFE.sub(lambda match: f"\\u{ord(match.group()):04x}", text)
