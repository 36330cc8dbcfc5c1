"""What a run gains by hearing its project and its domain: a measurement on dated, labelled entries.

Purpose: recall consults run, project and domain, each weighted by the strength of its recall (`shelf.recall`); this
asks whether that names the right labels more often than the run alone, the domain alone, or nobody but the
commonest labels. Runs are months or quarters, projects are years, the domain is all of it. Two protocols. *Later*: the
older 70 % are learnt, every later entry is asked at the newest run. *Prequential*: each entry is asked at its own run
before it is learnt. Invariants: the embedder is fitted on entries older than every one that is asked about; project
and domain learn the pairs of their runs, to rounding what an exact merge gives; all are asked the same questions.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

import emm
from emm import InputError
from emm_engine.documents import Label
from emm_engine.embeddings.provider import Float32Array
from emm_engine.hierarchy import RIDGE
from emm_engine.matrices.holdout import ENTRIES_MIN, LEARNT_SHARE, Entry, Paired
from emm_engine.matrices.labels import codes
from emm_engine.matrices.shelf import recall

RANK: Final = 256
DIM: Final = 768
PERIODS: Final = ("month", "quarter")
PROTOCOLS: Final = ("later", "prequential")
FITTED_SHARE: Final = 0.3  # of the entries, before the first that is asked prequentially

Level = tuple[str, ...]  # () the domain, (year,) a project, (year, period) a run


@dataclass(frozen=True, slots=True)
class Heard:
    """Who was asked, and how often a first guess, or one of the first three, was right."""

    who: str
    p_at_1: float
    p_at_3: float


@dataclass(frozen=True, slots=True)
class AncestryReport:
    """One protocol at one length of runs."""

    protocol: str
    period: str
    n_runs: int  # learnt
    n_asked: int
    heard: tuple[Heard, ...]  # run, run + project, run + project + domain, domain, prior
    paired: Paired  # run + project + domain ("matrix") against the run alone ("neighbours"), by first guesses
    seconds: float


class _Hierarchy:
    """A memory for each place that has learnt anything."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._memories: dict[Level, emm.Memory] = {}

    def learn(self, place: Level, keys: Float32Array, values: Float32Array) -> None:
        """Pairs of a run, and so of what is above it."""
        for level in (place, place[:1], ()):
            if level not in self._memories:
                memory = emm.create(
                    str(self._folder / "-".join(("at", *level))), dim=DIM, rank=RANK, key_dim=RANK, ridge=RIDGE
                )
                self._memories[level] = self._stack.enter_context(memory)
            self._memories[level].write(keys, values)

    def ask(self, places: Sequence[Level], key: Float32Array) -> Float32Array:
        """(dim,) what the places that there are recall together; zeros where there is none."""
        memories = [self._memories[place] for place in places if place in self._memories]
        return recall(memories, key) if memories else np.zeros(DIM, np.float32)


def place_of(entry: Entry, period: str) -> Level:
    """(year, month or quarter) of an entry."""
    year, month = entry.date[:4], int(entry.date[5:7])
    return year, f"{month:02}" if period == "month" else f"q{(month + 2) // 3}"


def measure(entries: Sequence[Entry], protocol: str, period: str, folder: str | Path | None = None) -> AncestryReport:
    """Run one protocol; memories live in a temporary directory (below `folder`, when given)."""
    from emm_engine.embeddings.lsa import LsaProvider  # here: scikit-learn takes a second that `--help` need not wait

    started = time.perf_counter()
    ordered = sorted(set(entries))
    if len(ordered) < ENTRIES_MIN:
        raise InputError("too few entries to measure on", expected=f"at least {ENTRIES_MIN}", found=len(ordered))
    cut = int(len(ordered) * (LEARNT_SHARE if protocol == "later" else FITTED_SHARE))
    embedder = LsaProvider().fit([entry.text for entry in ordered[:cut]], RANK)
    keys = embedder.embed([entry.text for entry in ordered])
    labels = sorted({label for entry in ordered for label in entry.labels})
    number = {label: at for at, label in enumerate(labels)}
    rows = codes([Label("label", label) for label in labels], DIM)
    carried = [[number[label] for label in entry.labels] for entry in ordered]
    counts = np.zeros(len(labels))
    hits: dict[str, list[tuple[bool, bool]]] = {}
    places: set[Level] = set()
    with tempfile.TemporaryDirectory(prefix="emm-ancestry-", dir=folder) as where, contextlib.ExitStack() as stack:
        hierarchy = _Hierarchy(Path(where), stack)
        for at, entry in enumerate(ordered):
            learning = at < cut or protocol == "prequential"
            if at >= cut:
                run = place_of(entry if learning else ordered[cut - 1], period)
                for who, asked in _askings(run).items():
                    scores = rows @ hierarchy.ask(asked, keys[at])
                    hits.setdefault(who, []).append(_right(scores, carried[at]))
                hits.setdefault("the commonest labels", []).append(_right(counts, carried[at]))
            if learning:
                place = place_of(entry, period)
                places.add(place)
                hierarchy.learn(place, keys[at][None, :], rows[carried[at]].sum(axis=0, keepdims=True))
                counts[carried[at]] += 1.0
    heard = tuple(
        Heard(who, *(float(np.mean(column)) for column in zip(*right, strict=True))) for who, right in hits.items()
    )
    paired = Paired.of(_firsts(hits["run + project + domain"]), _firsts(hits["run"]))
    return AncestryReport(
        protocol, period, len(places), len(ordered) - cut, heard, paired, time.perf_counter() - started
    )


def _askings(run: Level) -> dict[str, tuple[Level, ...]]:
    return {
        "run": (run,),
        "run + project": (run, run[:1]),
        "run + project + domain": (run, run[:1], ()),
        "domain": ((),),
    }


def _right(scores: npt.NDArray[np.floating], carried: Sequence[int]) -> tuple[bool, bool]:
    """Whether the best label is one of those carried, and whether one of the best three is; no guess is never right."""
    best = [each for each in np.argsort(-scores, kind="stable")[:3].tolist() if scores[each] > 0]
    return bool(best[:1] and best[0] in carried), any(each in carried for each in best)


def _firsts(right: Sequence[tuple[bool, bool]]) -> npt.NDArray[np.bool_]:
    return np.array([first for first, _ in right], bool)
