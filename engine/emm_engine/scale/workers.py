"""Workers: whoever runs units, here or elsewhere.

Purpose: one protocol, and the one place that turns `--workers` into an implementation of it. Invariants: results come
in the order of the units; no more than a window of units is under way or waits for an earlier one, so memory does not
grow with the work; a worker that dies costs time, and a unit that ends every worker it meets is a `WorkError`, never a
result that is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Final, Protocol, Self

from emm import InputError
from emm_engine.scale.unit import Result, Unit

WORKERS_MAX: Final = 256
WINDOW: Final = 3  # units a worker: one under way, and results that wait for an earlier one or to be taken
ATTEMPTS_MAX: Final = 3  # workers that one unit may cost

_LOCAL_CLUSTER = re.compile(r"dask:(\d{1,9})")
_SCHEDULER = re.compile(r"(?:tcp|tls|ws|wss|ucx)://\S+")


class Workers(Protocol):
    """A context manager; several `results` may be open at a time."""

    @property
    def count(self) -> int:
        """How many units can be under way at a time, now."""
        ...

    def results(self, units: Iterable[Unit[Result]]) -> Iterator[Result]:
        """The results in the order of the units, which are taken as they are needed. An `EmmError` of a unit is raised.

        What was not taken when the iterator is closed is dropped.
        """
        ...

    def close(self) -> None:
        """End what was started. Units under way are dropped."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_workers(text: str) -> Workers:
    """`4`: processes of this machine; `dask:4`: the same with Dask; `tcp://host:8786`, `tls://…`: a Dask scheduler.

    `InputError` for anything else, `WorkError` where no scheduler answers.
    """
    cluster = _LOCAL_CLUSTER.fullmatch(text)
    number = cluster.group(1) if cluster is not None else text
    if re.fullmatch(r"\d{1,9}", number, re.ASCII):
        if not 1 <= int(number) <= WORKERS_MAX:
            raise InputError("too few or too many workers", expected=f"1 to {WORKERS_MAX}", found=number)
        if cluster is None:
            from emm_engine.scale.pool import LocalWorkers

            return LocalWorkers(int(number))
    elif not _SCHEDULER.fullmatch(text):
        raise InputError("not workers", expected="N, dask:N, tcp://HOST:PORT or tls://HOST:PORT", found=repr(text))
    from emm_engine.scale.cluster import DaskWorkers  # an extra

    return DaskWorkers.local(int(number)) if cluster is not None else DaskWorkers.connect(text)
