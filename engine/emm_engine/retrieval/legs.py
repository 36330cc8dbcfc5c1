"""The threads of recall: words are read, and matrices asked, while the main thread searches vectors.

Purpose: lexical recall waits for SQLite, vector recall for memory, matrix recall for the kernel, and each lets go of
the interpreter meanwhile. Invariants: a connection belongs to a thread, so each reading thread opens and closes a
catalog of its own; `parallel` changes when things are done, never what comes out; threads start with the first
question.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

from emm_engine.catalog.store import Catalog

READERS = 2

T = TypeVar("T")


class Legs:
    """What an archive's questions run on, beside the thread that asks."""

    def __init__(self, open_catalog: Callable[[], Catalog]) -> None:
        self.parallel = True
        self._readers = [_Reader(open_catalog, f"emm-words-{number}") for number in range(READERS)]
        self._n_first = min(max(len(os.sched_getaffinity(0)) - 1, 1), READERS)
        self._computing = ThreadPoolExecutor(1, "emm-matrix")

    def reading(self, work: Callable[[Catalog], T]) -> list[Future[T]]:
        """Start the same work in the reading threads that have a processor beside the caller's; it shares its tasks out
        by itself."""
        return [self._begun(reader.start(work)) for reader in self._readers[: self._n_first]]

    def joining(self, work: Callable[[Catalog], T]) -> list[Future[T]]:
        """Start the same work in the others: the caller has nothing more to do than to wait."""
        return [self._begun(reader.start(work)) for reader in self._readers[self._n_first :]]

    def computing(self, work: Callable[[], T]) -> Future[T]:
        """Start work that needs no catalog."""
        return self._begun(self._computing.submit(work))

    def _begun(self, future: Future[T]) -> Future[T]:
        if not self.parallel:
            wait([future])
        return future

    def close(self) -> None:
        """Wait for what runs and close the threads' catalogs; done twice, the second time changes nothing."""
        for reader in self._readers:
            reader.close()
        self._computing.shutdown()


class _Reader:
    """One thread and its catalog."""

    def __init__(self, open_catalog: Callable[[], Catalog], name: str) -> None:
        self._open_catalog = open_catalog
        self._thread = ThreadPoolExecutor(1, name)
        self._catalog: Catalog | None = None

    def start(self, work: Callable[[Catalog], T]) -> Future[T]:
        return self._thread.submit(lambda: work(self._opened()))

    def _opened(self) -> Catalog:
        if self._catalog is None:
            self._catalog = self._open_catalog()
        return self._catalog

    def close(self) -> None:
        if self._catalog is not None:
            self._thread.submit(self._catalog.close).result()
            self._catalog = None
        self._thread.shutdown()
