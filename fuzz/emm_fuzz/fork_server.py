"""A warm process that forks writers which somebody else kills.

Purpose: a round of the kill harness costs a fork, not an interpreter with NumPy. Run as
`python -m emm_fuzz.fork_server FD`; it reads one JSON command a line on stdin and answers one JSON line on
stdout. Writers tell what they do as lines on the pipe FD, each in one write (so a line is whole or absent).
Invariants: the server itself never opens a memory and has no threads; a writer that was killed stays a zombie,
so its id cannot be reused, until the command "reap".

Commands: {"do": "live", "url", "seed"} forks a writer → {"pid"}; {"do": "race", "url", "seed", "n"} forks n that open
the same memory at once → {"pids"}; {"do": "reap", "pid"} waits for one → {"status"}.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

import emm
from emm_fuzz.workload import Plan, build_plan, live, perform

PIPE_BYTES = 1 << 20


# --- the server's side ---------------------------------------------------------------------------


@lru_cache(maxsize=4)
def plan_of(seed: int) -> Plan:
    return build_plan(seed)


def serve(fd: int) -> None:
    """Answer commands until stdin ends."""
    for line in sys.stdin:
        command = json.loads(line)
        if command["do"] == "reap":
            answer: dict[str, Any] = {"status": os.waitstatus_to_exitcode(os.waitpid(command["pid"], 0)[1])}
        else:
            plan = plan_of(command["seed"])
            if command["do"] == "live":
                answer = {"pid": _fork(partial(live, command["url"], plan), fd)}
            else:
                answer = {"pids": _fork_race(command["url"], plan, command["n"], fd)}
        print(json.dumps(answer), flush=True)


def _fork(act: Callable[[Callable[[str], None]], None], fd: int) -> int:
    pid = os.fork()
    if pid:
        return pid

    def tell(text: str) -> None:
        os.write(fd, f"{os.getpid()} {text}\n".encode())

    status = 1
    try:
        act(tell)
        status = 0
    except BaseException as error:
        tell("! " + " | ".join(traceback.format_exception(error)[-4:]).replace("\n", " ")[:2000])
    finally:
        os._exit(status)


def _fork_race(url: str, plan: Plan, n: int, fd: int) -> list[int]:
    """n writers that start together: each opens the memory; the one that may, writes a step and waits to be killed."""
    start, go = os.pipe()

    def act(tell: Callable[[str], None]) -> None:
        os.close(go)
        os.read(start, 1)  # returns for all of them when the server closes its end
        try:
            memory = emm.open(url, "a")
        except emm.FencedError:
            tell("fenced")
            return
        stage = plan.stage_of(memory.digest)
        tell(f"= {stage}")
        if stage is None or stage == len(plan.steps):
            tell("got")
        else:
            perform(memory, plan.steps[stage])
            tell(f"= {stage + 1}")
            tell("got")
        time.sleep(60)

    pids = [_fork(act, fd) for _ in range(n)]
    os.close(start)
    os.close(go)
    return pids


# --- the harness's side --------------------------------------------------------------------------


class ForkServer:
    """Starts the server; forks, kills and reaps writers. A context manager."""

    def __init__(self) -> None:
        self._read, write = os.pipe()
        os.set_blocking(self._read, False)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "emm_fuzz.fork_server", str(write)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[write],
            text=True,
            env=environment,
        )
        os.close(write)
        self._left = b""

    def __enter__(self) -> ForkServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the server; writers that still live end with their pipe."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)
        self._process.stdout.close()
        os.close(self._read)

    def ask(self, **command: Any) -> dict[str, Any]:
        """Send one command and wait for its answer."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the fork server died")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def kill(self, pids: Sequence[int]) -> None:
        """SIGKILL writers that this server forked, and reap them (they are its children, so the ids are theirs)."""
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for pid in pids:
            self.ask(do="reap", pid=pid)

    def told(self, wait_seconds: float = 0.0) -> list[tuple[int, str]]:
        """(pid, text) of the lines that have arrived, waiting up to `wait_seconds` for the first."""
        select.select([self._read], [], [], wait_seconds)
        parts = [self._left]
        while True:
            try:
                part = os.read(self._read, 1 << 16)
            except BlockingIOError:
                break
            if not part:
                break
            parts.append(part)
        *lines, self._left = b"".join(parts).split(b"\n")
        found = (line.decode().partition(" ") for line in lines)
        return [(int(pid), text) for pid, _, text in found]


if __name__ == "__main__":
    serve(int(sys.argv[1]))
