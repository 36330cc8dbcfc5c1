"""Operations that change no state: what a session does beside writing, and what it must not be able to do.

Purpose: the library's side of the neutral words that need one handle only. Invariants: a refusal is asked for where
one is due, and its absence is a violation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import emm
from emm.errors import FencedError, GateError, InputError
from emm_fuzz.judge import ViolationError
from emm_fuzz.model import step_for
from emm_fuzz.simulated_disk import SimulatedDisk


def _checkpoint(memory: emm.Memory, numbers: list[str]) -> None:
    memory.checkpoint()


def _prune(memory: emm.Memory, numbers: list[str]) -> None:
    memory.prune(keep=int(numbers[0]) if numbers else 1)


def _prune_journal(memory: emm.Memory, numbers: list[str]) -> None:
    memory.prune(keep=int(numbers[0]) if numbers else 1, journal=True)


def _mark(memory: emm.Memory, numbers: list[str]) -> None:
    """What the idle marker does after a second."""
    writer = memory._session._writer
    assert writer is not None
    writer._mark_if_idle()


def _refused(memory: emm.Memory, numbers: list[str]) -> None:
    """Take out, with a large weight, what was never written: it must be refused, and nothing be logged."""
    step = step_for(0, "write", 999, memory.key_dim, memory.dim)
    refusal = GateError if memory.rule == "preconditioned" else InputError
    try:
        memory.unlearn(step.keys, step.values, 32.0, rank=memory.rank)
    except refusal:
        return
    raise ViolationError("what must be refused was written")


BESIDE: Final[Mapping[str, Callable[[emm.Memory, list[str]], None]]] = {
    "checkpoint": _checkpoint,
    "prune": _prune,
    "prune-journal": _prune_journal,
    "mark": _mark,
    "refused": _refused,
}


def second_writer(disk: SimulatedDisk, path: str) -> None:
    """Another process wants to write as well."""
    pid, disk.pid = disk.pid, disk.pid + 1000
    try:
        emm.open(path, "a").close()
    except FencedError:
        return
    finally:
        disk.pid = pid
    raise ViolationError("a second writer got the memory")
