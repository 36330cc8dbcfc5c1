"""Waiting for a service: how often, how long, and by whose clock.

Purpose: exponential back-off with jitter, for requests that are tried again and for queues that are. Invariants: time
and chance are handed in, so a test needs neither; a wait is never longer than its cap, however often something failed,
and never shorter than what the service asked for.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Protocol

EXPONENT_MAX = 32


class Clock(Protocol):
    """Time, and waiting for it."""

    def now(self) -> float:
        """Seconds since 1970, UTC."""
        ...

    def sleep(self, seconds: float) -> None:
        """Come back after that long."""
        ...


class SystemClock:
    """The machine's."""

    def now(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits of base · 2ⁿ seconds up to a cap, each shortened by chance to between its half and its whole."""

    base_s: float
    cap_s: float

    def wait_s(self, n_failed: int, chance: random.Random) -> float:
        """How long to wait after the nth failure (n ≥ 1)."""
        longest = min(self.cap_s, self.base_s * 2.0 ** min(n_failed - 1, EXPONENT_MAX))
        return longest * (0.5 + 0.5 * chance.random())


@dataclass(frozen=True, slots=True)
class Patience:
    """How much of a caller's time a service may take."""

    attempts: int  # requests for one batch, at most
    timeout_s: float  # for one request, from connecting to the last byte
    wait_s_max: float  # a service that asks for more is left alone: the caller waits elsewhere
    backoff: Backoff


FOR_INGEST = Patience(attempts=5, timeout_s=120.0, wait_s_max=60.0, backoff=Backoff(0.5, 30.0))
FOR_QUESTIONS = Patience(attempts=2, timeout_s=10.0, wait_s_max=1.0, backoff=Backoff(0.2, 1.0))


def retry_after_s(header: str | None, now: float) -> float:
    """Seconds that a `Retry-After` header asks for (a number, or a date); 0 where it says nothing sensible."""
    if header is None:
        return 0.0
    text = header.strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError, IndexError, OverflowError):
        return 0.0
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return max(0.0, (aware - datetime.fromtimestamp(now, UTC)).total_seconds())
