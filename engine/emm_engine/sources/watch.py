"""Which files of some folders are new or changed, and settled enough to be read.

Purpose: `emm ingest --watch`, by polling, which works on every file system and over a network. Invariants: a file is
handed out once for each state (size, times, inode) it settles in, and again when it changed while it was read; nothing
is handed out before it has been the same for `settle_s` seconds of two looks at least, so a file that is still being
written waits; memory is one state for each file that is there; the clock is injected.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from emm_engine.sources.files import Found, walk

SETTLE_S = 2.0

State = tuple[tuple[int, ...], ...]  # of each file: device, inode, size, mtime and ctime in nanoseconds


@dataclass(slots=True)
class _Known:
    state: State
    since: float  # when it was first seen in this state
    handed: State | None = None  # the state it was last read in, for good


class FolderWatch:
    """Looks at what `files` finds whenever it is asked to."""

    def __init__(
        self, files: Callable[[], Iterable[Found]], clock: Callable[[], float], settle_s: float = SETTLE_S
    ) -> None:
        self._files = files
        self._clock = clock
        self._settle_s = settle_s
        self._known: dict[str, _Known] = {}
        self._reading: dict[str, State] = {}

    def poll(self) -> list[Found]:
        """What is to be read now, in order. Tell `done` when it has been."""
        now = self._clock()
        ready: list[Found] = []
        seen: dict[str, _Known] = {}
        for found in self._files():
            state = state_of(found)
            if state is None:
                continue
            known = self._known.get(found.key)
            if known is None or known.state != state:
                known = _Known(state, now, known.handed if known is not None else None)
            seen[found.key] = known
            if known.handed != state and now - known.since >= self._settle_s and known.since < now:
                ready.append(found)
                self._reading[found.key] = state
        self._known = seen
        return ready

    @property
    def waiting(self) -> int:
        """Files that are not in the state they were last read in."""
        return sum(known.handed != known.state for known in self._known.values())

    def done(self, files: Iterable[Found]) -> None:
        """These have been read and what they say is durable; one that changed meanwhile is handed out again."""
        for found in files:
            state = self._reading.pop(found.key, None)
            if state is not None and found.key in self._known:
                self._known[found.key].handed = state


def state_of(found: Found) -> State | None:
    """What changes whenever a file does; None for one that is gone."""
    try:
        inner = [found] if not found.folder else walk(found.path)
        told = [os.lstat(each.path) for each in inner]
    except OSError:
        return None
    return tuple((each.st_dev, each.st_ino, each.st_size, each.st_mtime_ns, each.st_ctime_ns) for each in told)
