"""Results as lines of JSON, in files that a kill may end anywhere.

Purpose: one way to write and read the records in docs/durability. Invariants: a line is durable when `append_line`
returns; half a line at the end (whoever wrote it was killed) is no line, and is taken away before the next is written.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

Line = dict[str, Any]


def read_lines(path: Path) -> list[Line]:
    """All whole lines of a file; none where there is no file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


def append_line(path: Path, line: Line) -> None:
    """Add a line, durably."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
        file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
