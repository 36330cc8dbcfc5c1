"""A process without clock, entropy and threads, so that one case gives the same bytes at every run.

Purpose: what the explorer wraps around everything it does. Invariants: while it lasts, `os.urandom` and the journal's
clock count up from zero, the idle marker never runs by itself (the operation "mark" calls it), and LAPACK works in one
thread: the bits of a merge follow from its sources, and nobody waits for threads that have no core.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import warnings
from collections.abc import Iterator
from functools import cache
from unittest import mock

from threadpoolctl import ThreadpoolController

from emm.memory import opening
from emm.storage import journal_writer, session

TIME_US = 1_767_225_600_000_000  # 2026-01-01


class Source:
    """Numbered bytes and moments instead of random and real ones."""

    def __init__(self) -> None:
        self.number = 0

    def urandom(self, length: int) -> bytes:
        self.number += 1
        return hashlib.shake_128(self.number.to_bytes(8, "little")).digest(length)

    def now_us(self) -> int:
        self.number += 1
        return TIME_US + self.number

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """What happens in this block leaves no trace in the numbers after it."""
        number, self.number = self.number, self.number + (1 << 32)
        try:
            yield
        finally:
            self.number = number


@cache
def _libraries() -> ThreadpoolController:
    """The numeric libraries of this process."""
    return ThreadpoolController()


@contextlib.contextmanager
def deterministic() -> Iterator[Source]:
    source = Source()
    with contextlib.ExitStack() as stack:
        stack.enter_context(_libraries().limit(limits=1))
        stack.enter_context(mock.patch.object(os, "urandom", source.urandom))
        for module in (journal_writer, session, opening):
            stack.enter_context(mock.patch.object(module, "now_us", source.now_us))
        stack.enter_context(mock.patch.object(journal_writer._IdleMarker, "touch", lambda self: None))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        yield source
