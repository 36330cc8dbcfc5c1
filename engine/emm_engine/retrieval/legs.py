"""Three recalls at the same time.

Purpose: lexical recall waits for SQLite, vector recall for memory bandwidth, matrix recall for the kernel, and each
lets go of the interpreter meanwhile. Invariants: lexical recall runs in one thread of its own, with a catalog that was
opened there, for a connection belongs to a thread; the first failure is raised after all have ended; `parallel` changes
when things are done, never what comes out.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

from emm_engine.catalog.store import Catalog
from emm_engine.retrieval.lexical import LexicalRecall

T = TypeVar("T")


class Legs:
    """The threads of an archive's recall; they start with the first question."""

    def __init__(self, open_catalog: Callable[[], Catalog]) -> None:
        self.parallel = True
        self._open_catalog = open_catalog
        self._reading = ThreadPoolExecutor(1, "emm-lexical")
        self._computing = ThreadPoolExecutor(1, "emm-matrix")
        self._catalog: Catalog | None = None  # of the reading thread
        self._lexical: LexicalRecall | None = None

    def lexical(self, work: Callable[[LexicalRecall], T]) -> Future[T]:
        """Start lexical recall."""
        return self._begun(self._reading.submit(lambda: work(self._opened())))

    def matrix(self, work: Callable[[], T]) -> Future[T]:
        """Start matrix recall."""
        return self._begun(self._computing.submit(work))

    def _begun(self, future: Future[T]) -> Future[T]:
        if not self.parallel:
            wait([future])
        return future

    def _opened(self) -> LexicalRecall:
        if self._lexical is None:
            self._catalog = self._open_catalog()
            self._lexical = LexicalRecall(self._catalog)
        return self._lexical

    def close(self) -> None:
        """Wait for what runs and close the thread's catalog; done twice, the second time changes nothing."""
        if self._lexical is not None:
            self._reading.submit(self._close_catalog).result()
        self._reading.shutdown()
        self._computing.shutdown()

    def _close_catalog(self) -> None:
        if self._catalog is not None:
            self._catalog.close()
        self._catalog = self._lexical = None
