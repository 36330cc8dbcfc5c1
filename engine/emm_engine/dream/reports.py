"""What a dream did, for people and for programs.

Purpose: one frozen value a cycle, read back from the catalog's row, so that `emm dreams` years later says what
`emm dream` said. Invariants: plain numbers, ids and words; no text of any document.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from emm_engine.catalog.cycles import Cycle
from emm_engine.dream.probes import Recall


@dataclass(frozen=True, slots=True)
class DreamReport:
    """One cycle."""

    scope: str
    cycle_id: int
    outcome: str  # done, rolled-back, yielded; running: it will go on
    why: str  # it was rolled back, gave way or stopped
    phase: str  # the last one done, or the one to do next while it is running
    started: str
    ended: str | None
    learnt: int  # pairs that waited and are in the matrix now
    superseded: int  # pairs of older versions taken out
    relabelled: int  # pairs that a newer extractor gave other labels
    contradictions: int  # facts on which current documents of one title disagree; reported, never resolved
    contradicting: tuple[tuple[int, int], ...]  # some of them: older and newer passage
    replayed: int  # extra writes (rule 1)
    rank: tuple[int, int]  # before, after
    saturation: tuple[float, float]
    surprise: tuple[float, float] | None  # mean share of the value that is missed, over the probed pairs
    recall_before: Recall | None
    recall_after: Recall | None  # of the candidate, also where it was rolled back
    stale_before: tuple[int, int]  # stale answers, questions
    stale_after: tuple[int, int]
    writes: int
    seconds: float
    phase_seconds: dict[str, float]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def report_of(scope: str, cycle: Cycle) -> DreamReport:
    """The report that a cycle's row amounts to."""
    facts: dict[str, Any] = cycle.facts
    standing: dict[str, Any] = facts.get("standing", {})
    rank, saturation = int(standing.get("rank", 0)), float(standing.get("saturation", 0.0))
    surprise, after = facts.get("surprise_before"), facts.get("surprise_after")
    seconds: dict[str, float] = facts.get("seconds", {})
    counted = bool(facts.get("swapped"))
    return DreamReport(
        scope=scope,
        cycle_id=cycle.cycle_id,
        outcome=cycle.state,
        why=facts.get("why", ""),
        phase=cycle.phase,
        started=cycle.started,
        ended=cycle.ended,
        learnt=facts.get("learnt", 0),
        superseded=facts.get("taken_out", 0) + (facts.get("drops", 0) if counted else 0),
        relabelled=facts.get("relabels", 0) if counted else 0,
        contradictions=facts.get("contradictions", 0),
        contradicting=tuple((int(old), int(new)) for old, new in facts.get("contradicting", ())),
        replayed=facts.get("replay", 0) if counted else 0,
        rank=(rank, int(facts.get("rank", rank)) if counted else rank),
        saturation=(saturation, float(facts.get("saturation", saturation)) if counted else saturation),
        surprise=None if surprise is None else (surprise, surprise if after is None else after),
        recall_before=_recall(facts.get("recall_before")),
        recall_after=_recall(facts.get("recall_after")),
        stale_before=_pair(facts.get("stale_before")),
        stale_after=_pair(facts.get("stale_after")),
        writes=facts.get("writes", 0),
        seconds=round(sum(seconds.values()), 3),
        phase_seconds=dict(seconds),
        notes=tuple(facts.get("notes", ())),
    )


def _recall(found: dict[str, Any] | None) -> Recall | None:
    return None if found is None else Recall(**found)


def _pair(found: list[int] | None) -> tuple[int, int]:
    return (0, 0) if found is None else (found[0], found[1])
