"""How many threads the compiled kernel may use.

Purpose: one number for the process: `EMM_THREADS`, else the processors it may run on, at most 8; `use_threads`
changes it. Invariants: the number changes no bit of any result; a problem too small to gain from a second
thread stays on one whatever the number is; the NumPy reference always uses one.
"""

from __future__ import annotations

import os

from emm.errors import InputError

THREADS_MAX = 64
DEFAULT_MAX = 8  # beyond it memory, not arithmetic, is the limit

_threads: int | None = None


def threads() -> int:
    """The number in force. `InputError` when `EMM_THREADS` is not a number from 1 to 64."""
    global _threads
    if _threads is None:
        _threads = _from_environment()
    return _threads


def use_threads(n: int | None) -> None:
    """Use up to n threads from now on, 1 to 64; None asks the environment and the machine again."""
    global _threads
    if n is not None and (isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= THREADS_MAX):
        raise InputError("not a number of threads", expected=f"1 to {THREADS_MAX}", found=n)
    _threads = _from_environment() if n is None else n


def _from_environment() -> int:
    given = os.environ.get("EMM_THREADS", "").strip()
    if given:
        if not (given.isascii() and given.isdigit() and 1 <= int(given) <= THREADS_MAX):
            raise InputError("EMM_THREADS is not a number of threads", expected=f"1 to {THREADS_MAX}", found=given)
        return int(given)
    try:
        here = len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        here = os.cpu_count() or 1
    return min(here, DEFAULT_MAX)
