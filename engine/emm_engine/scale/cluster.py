"""Workers of a Dask cluster: a scheduler somewhere, or one that is started here.

Purpose: `Workers` over many machines; the only module that imports `distributed`. Invariants: the scheduler runs again
what a worker that died had, `ATTEMPTS_MAX` times at most; no more than a window of units is known to it. Whoever
reaches a scheduler runs code on its workers and its clients, so it is trusted or it is behind TLS (`tls://`).
"""

from __future__ import annotations

import logging
import time
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Final, Self

import dask
from distributed import Client, Future, LocalCluster
from distributed.client import FutureCancelledError
from distributed.scheduler import KilledWorker

from emm_engine.errors import WorkError
from emm_engine.scale.unit import Result, Unit, perform, releases
from emm_engine.scale.workers import ATTEMPTS_MAX, WINDOW

CONNECT_SECONDS: Final = 20
LOOK_SECONDS: Final = 5  # how often a client that waits looks whether there are workers at all
REPLACE_SECONDS: Final = 20  # without any worker, before those of a cluster of our own are replaced
ALONE_SECONDS: Final = 120  # without any worker, before it gives up


class DaskWorkers:
    """The workers of one scheduler. Made by `connect` or `local`."""

    def __init__(self, client: Client, cluster: LocalCluster | None = None, count_started: int = 0) -> None:
        self._client = client
        self._cluster = cluster  # of our own
        self._count_started = count_started
        self._n_replaced = 0
        self._releases = releases()
        self._issued = 0
        self._alone_since: float | None = None  # when it was first seen that there are no workers

    @classmethod
    def connect(cls, address: str) -> Self:
        """The workers of a running scheduler; TLS as the configuration of Dask says."""
        try:
            return cls(Client(address, timeout=CONNECT_SECONDS, set_as_default=False))
        except (OSError, ValueError, TypeError) as error:
            found = f"{type(error).__name__}: {error}"
            raise WorkError("no scheduler answers there", file=address, found=found) from error

    @classmethod
    def local(cls, count: int) -> Self:
        """A scheduler and workers of this machine, for as long as this process runs."""
        with dask.config.set({"distributed.scheduler.allowed-failures": ATTEMPTS_MAX - 1}):
            cluster = LocalCluster(
                n_workers=count,
                threads_per_worker=1,
                dashboard_address=None,
                host="127.0.0.1",
                silence_logs=logging.CRITICAL,
            )
        return cls(Client(cluster, set_as_default=False), cluster, count)

    @property
    def address(self) -> str:
        return str(self._client.scheduler.address)

    @property
    def count(self) -> int:
        return max(1, int(sum(self._client.nthreads().values())))

    def results(self, units: Iterable[Unit[Result]]) -> Iterator[Result]:
        source, mine = iter(units), deque[tuple[Unit[Any], Future]]()
        try:
            while True:
                window = WINDOW * self.count
                while len(mine) < window and (unit := next(source, None)) is not None:
                    mine.append((unit, self._submitted(unit)))
                if not mine:
                    return
                value = self._value(*mine[0])
                mine.popleft()
                yield value
        finally:
            for _, future in mine:
                future.cancel()

    def _submitted(self, unit: Unit[Any]) -> Future:
        self._issued += 1
        key = f"{unit.identity[:24]}-{self._client.id}-{self._issued}"
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sending large graph")  # a model, once a worker
            return self._client.submit(perform, unit, self._releases, key=key, pure=False)

    def _value(self, unit: Unit[Any], future: Future) -> Any:
        while True:
            try:
                return future.result(timeout=LOOK_SECONDS)
            except TimeoutError:  # ours: what a unit raises is an `EmmError`
                self._look()
            except KilledWorker as error:
                raise WorkError(f"{unit.identity} ended {ATTEMPTS_MAX} workers", found=str(error)) from error
            except (FutureCancelledError, OSError) as error:
                raise WorkError("the scheduler is gone", file=self.address, found=str(error)) from error

    def _look(self) -> None:
        """Give up where there has been nobody to work for a long time.

        Dask starts a worker that died anew, but not one that died while it was starting.
        """
        now = time.monotonic()
        if self._client.nthreads():
            self._alone_since = None
            return
        self._alone_since = self._alone_since or now
        alone_seconds = now - self._alone_since
        if alone_seconds > ALONE_SECONDS:
            raise WorkError(f"the scheduler has had no workers for {ALONE_SECONDS} s", file=self.address)
        if self._cluster is not None and alone_seconds > REPLACE_SECONDS * (1 + self._n_replaced):
            self._n_replaced += 1
            self._cluster.scale(0)
            self._cluster.scale(self._count_started)

    def close(self) -> None:
        self._client.close()
        if self._cluster is not None:
            self._cluster.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
