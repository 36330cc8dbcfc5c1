"""Parsers of hostile documents, each call under limits of time, memory and answer.

Purpose: a page or a PDF made to keep a parser busy for hours, or to fill the memory, costs a few seconds of a process
of its own. Invariants: a process serves many documents, one at a time, and is replaced after it was stopped and after
`DOCUMENTS_EACH`; it inherits no file but its pipes; what it answered before it was stopped counts.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

WALL_SECONDS_PER_CPU_SECOND = 10  # a busy machine is no fault of the document's
ANSWER_BYTES_MAX = 256 << 20
DOCUMENTS_EACH = 500
READ_BYTES = 1 << 16

_START = "import sys; sys.path.append(sys.argv[1]); from isolated.main import main; main()"


class _Process:
    """One child and its pipes."""

    def __init__(self) -> None:
        here = str(Path(__file__).parent)
        self.owner = os.getpid()
        self.served = 0
        self._child = subprocess.Popen(
            [sys.executable, "-I", "-c", _START, here],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for us: what is being read ends by our closing its stdin
        )
        self._held = b""

    def answers(self, kind: str, data: bytes, cpu_seconds: float) -> Iterator[dict[str, Any]]:
        """The answers to one document; `ValueError` when it cannot be read, or not to its end."""
        assert self._child.stdin is not None
        self.served += 1
        request = {"format": kind, "bytes": len(data), "cpu_seconds": cpu_seconds}
        try:
            self._child.stdin.write(json.dumps(request).encode() + b"\n" + data)
            self._child.stdin.flush()
        except BrokenPipeError:
            raise ValueError(self._stopped(cpu_seconds)) from None
        deadline = time.monotonic() + cpu_seconds * WALL_SECONDS_PER_CPU_SECOND
        n_bytes = 0
        while True:
            line = self._line(deadline)
            if line is None:
                raise ValueError(self._stopped(cpu_seconds))
            n_bytes += len(line)
            if n_bytes > ANSWER_BYTES_MAX:
                self.stop()
                raise ValueError(f"it unpacks to more than {ANSWER_BYTES_MAX} bytes")
            answer: dict[str, Any] = json.loads(line)
            if "end" in answer:
                if answer["end"]:
                    raise ValueError(answer["end"])
                return
            yield answer

    def _line(self, deadline: float) -> bytes | None:
        """The next line; None when the process ended or the deadline passed."""
        assert self._child.stdout is not None
        parts = [self._held]
        size = len(self._held)
        while b"\n" not in parts[-1]:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._child.stdout], [], [], left)[0]:
                return None
            part = os.read(self._child.stdout.fileno(), READ_BYTES)
            size += len(part)
            if not part or size > ANSWER_BYTES_MAX + READ_BYTES:
                return None
            parts.append(part)
        line, _, self._held = b"".join(parts).partition(b"\n")
        return line

    def _stopped(self, cpu_seconds: float) -> str:
        self.stop()
        if self._child.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
            return f"it takes more than {cpu_seconds:g} s to read"
        return f"its parser ended with {self._child.returncode}"

    @property
    def usable(self) -> bool:
        return self.owner == os.getpid() and self._child.poll() is None and self.served < DOCUMENTS_EACH

    def stop(self) -> None:
        """End the child, which is ours and has no children of its own."""
        if self.owner != os.getpid():
            return
        assert self._child.stdin is not None and self._child.stdout is not None
        with contextlib.suppress(ChildProcessError):
            if self._child.poll() is None:
                self._child.kill()
            self._child.wait()
        with contextlib.suppress(BrokenPipeError):
            self._child.stdin.close()
        self._child.stdout.close()


_process: _Process | None = None


def parse(kind: str, data: bytes, cpu_seconds: float) -> Iterator[dict[str, Any]]:
    """What the parser of a kind (`html`, `pdf`) says of these bytes; `ValueError` with the reason when it stops."""
    global _process
    if _process is None or not _process.usable:
        if _process is not None:
            _process.stop()
        else:
            atexit.register(stop)
        _process = _Process()
    finished = False
    try:
        yield from _process.answers(kind, data, cpu_seconds)
        finished = True
    except ValueError:
        finished = True
        raise
    finally:
        if not finished:  # whoever asked went away: the rest of the answers is not for the next one
            stop()


def stop() -> None:
    """End the process, if there is one."""
    global _process
    if _process is not None:
        _process.stop()
        _process = None
