"""The recall guard: an index is believed once it has been checked, and checked again from time to time.

Purpose: hold recall@10 of searches through an index at what is wanted, whatever the questions are. Invariants: a
question that is checked gets the exact answer; until enough of them agreed with the index, every one is checked; too
many misses double what the index looks at, and trust begins anew; the segment itself falls back to exact search where
that is no slower.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from emm_engine.vectors.index import RECALL_WANTED, K
from emm_engine.vectors.store import Ids

TRIAL: Final = 16  # checked questions before an index is believed
WINDOW: Final = 64  # checked questions that count
EVERY: Final = 128  # of the questions afterwards
FACTOR_MAX: Final = 1 << 16


class RecallGuard:
    """What one handle knows of the indexes of one namespace."""

    def __init__(self) -> None:
        self.factor = 1  # times the search_k that an index was built for
        self.n_checked = 0
        self._asked = 0
        self._window: deque[tuple[int, int]] = deque(maxlen=WINDOW)  # (found, wanted)

    def due(self) -> bool:
        """Whether the next question is to be answered exactly as well."""
        self._asked += 1
        return len(self._window) < TRIAL or self._asked % EVERY == 0

    def learn(self, found: Ids, exact: Ids) -> None:
        """Compare an answer of the index with the exact one, both best first."""
        wanted = exact[:K]
        if not len(wanted):
            return
        self.n_checked += 1
        self._window.append((len(set(wanted.tolist()) & set(found[:K].tolist())), len(wanted)))
        if self.recall is not None and self._misses() > (1 - RECALL_WANTED) * max(len(self._window), TRIAL) * K:
            self.factor = min(2 * self.factor, FACTOR_MAX)
            self._window.clear()

    @property
    def recall(self) -> float | None:
        """Of the checked questions that count; None before the first."""
        wanted = sum(each for _, each in self._window)
        return sum(each for each, _ in self._window) / wanted if wanted else None

    def _misses(self) -> int:
        return sum(wanted - found for found, wanted in self._window)
