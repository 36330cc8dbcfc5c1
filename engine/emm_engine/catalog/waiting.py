"""What waits for an embedder, and why.

Purpose: the visible half of the embedding queue. The queue itself is the run's pending pairs, which the ledger has;
here stands when the last try was, how many have failed, what the service said, when the next is due, and which
passages it refused for what is in them. Invariants: a try that succeeds leaves no row; a refused passage keeps its
text and its words, and holds nobody else up.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from emm_engine.catalog.store import Catalog, Run, marks
from emm_engine.documents import utc_text
from emm_engine.embeddings.backoff import Backoff
from emm_engine.errors import EmbedderUnavailable

BETWEEN_TRIES = Backoff(base_s=10.0, cap_s=3600.0)
RETRY_AFTER_S_MAX = 86_400.0  # a service may ask to be left alone for a day
REASON_CHARS_MAX = 500


@dataclass(frozen=True, slots=True)
class Wait:
    """Why a run's passages have no vectors yet."""

    attempts: int  # that failed, in a row
    last_error: str
    last_try: str  # UTC, to the second
    next_try: str


class WaitingList:
    """One run's."""

    def __init__(self, catalog: Catalog, run: Run) -> None:
        self._catalog = catalog
        self._run = run

    def wait(self) -> Wait | None:
        """None when the last try succeeded."""
        rows = self._catalog.query(
            "SELECT attempts, last_error, last_try, next_try FROM embed_waits WHERE scope_id = ?",
            (self._run.scope_id,),
        )
        return Wait(*rows[0]) if rows else None

    def failed(self, error: EmbedderUnavailable, now: float, chance: random.Random) -> Wait:
        """Note a try that failed, and when the next is due."""
        known = self.wait()
        attempts = known.attempts + 1 if known is not None else 1
        pause = max(BETWEEN_TRIES.wait_s(attempts, chance), min(error.retry_after_s, RETRY_AFTER_S_MAX))
        wait = Wait(attempts, str(error)[:REASON_CHARS_MAX], _moment(now), _moment(now + pause))
        with self._catalog.transaction():
            self._catalog.executemany(
                "INSERT INTO embed_waits(scope_id, tenant_id, attempts, last_error, last_try, next_try) "
                "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT(scope_id) DO UPDATE SET attempts = excluded.attempts, "
                "last_error = excluded.last_error, last_try = excluded.last_try, next_try = excluded.next_try",
                [
                    (
                        self._run.scope_id,
                        self._run.tenant_id,
                        wait.attempts,
                        wait.last_error,
                        wait.last_try,
                        wait.next_try,
                    )
                ],
            )
        return wait

    def succeeded(self) -> None:
        if self.wait() is not None:
            with self._catalog.transaction():
                self._catalog.executemany("DELETE FROM embed_waits WHERE scope_id = ?", [(self._run.scope_id,)])

    # --- passages that were refused --------------------------------------------------------------

    def refuse(self, passage_id: int, reason: str) -> None:
        """Note that the service will not take a passage."""
        with self._catalog.transaction():
            self._catalog.executemany(
                "INSERT INTO embed_refusals(passage_id, tenant_id, scope_id, reason) VALUES (?, ?, ?, ?) "
                "ON CONFLICT DO NOTHING",
                [(passage_id, self._run.tenant_id, self._run.scope_id, reason[:REASON_CHARS_MAX])],
            )

    def refused(self) -> dict[int, str]:
        """{passage id: what the service said of it}."""
        rows = self._catalog.query(
            "SELECT passage_id, reason FROM embed_refusals WHERE scope_id = ? ORDER BY passage_id",
            (self._run.scope_id,),
        )
        return dict(rows)

    def forget_refusals(self) -> None:
        """Let the refused passages be tried again."""
        if self.refused():
            with self._catalog.transaction():
                self._catalog.executemany("DELETE FROM embed_refusals WHERE scope_id = ?", [(self._run.scope_id,)])


def latest_wait(catalog: Catalog, runs: Sequence[Run]) -> Wait | None:
    """Of these runs, the try that failed last; None when none did."""
    rows = catalog.query(
        "SELECT attempts, last_error, last_try, next_try FROM embed_waits "
        f"WHERE scope_id IN ({marks(runs)}) ORDER BY last_try DESC LIMIT 1",
        [run.scope_id for run in runs],
    )
    return Wait(*rows[0]) if rows else None


def is_due(wait: Wait | None, now: float) -> bool:
    return wait is None or wait.next_try <= _moment(now)


def _moment(seconds: float) -> str:
    return utc_text(datetime.fromtimestamp(seconds, UTC))
