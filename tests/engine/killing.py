"""Processes that are killed at a chosen moment."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import NamedTuple


class Moment(NamedTuple):
    """The nth call of something that is imported by then, before or after the call itself."""

    name: str  # module.attribute or module.Class.attribute
    after: bool
    nth: int


def killed_at(moment: Moment, work: Callable[[], object]) -> bool:
    """Fork, do the work there, and say whether the child died at that moment (False: it lived)."""
    child = os.fork()
    if child == 0:
        try:
            _die_at(moment)
            work()
        finally:
            print("the child lived", file=sys.stderr)
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def _die_at(moment: Moment) -> None:
    owner, _, attribute = moment.name.rpartition(".")
    module, _, cls = owner.rpartition(".")
    target = sys.modules[owner] if owner in sys.modules else getattr(sys.modules[module], cls)
    original, calls = getattr(target, attribute), 0

    def dying(*arguments: object, **named: object) -> object:
        nonlocal calls
        calls += 1
        if calls == moment.nth and not moment.after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*arguments, **named)
        if calls == moment.nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(target, attribute, dying)
