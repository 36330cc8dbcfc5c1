"""On what a figure was measured: processor, cores, kernel level, versions, commit.

Purpose: a table without its machine says nothing. Invariants: no host name, user or path; what cannot be found out is
called unknown.
"""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emm import kernel


@dataclass(frozen=True, slots=True)
class Machine:
    """Where and with what a figure was measured."""

    processor: str
    cores: int  # that this process may use
    kernel: str  # backend and level
    numpy: str
    python: str
    commit: str  # of the checkout that holds this module, with "+" where it has changes

    def __str__(self) -> str:
        return (
            f"{self.processor}, {self.cores} cores, kernel {self.kernel}, NumPy {self.numpy}, Python {self.python}, "
            f"commit {self.commit}"
        )


def this_machine() -> Machine:
    """The machine this runs on."""
    level = f"{kernel.backend()} ({kernel.level()})"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Machine(_processor(), cores, level, np.__version__, platform.python_version(), commit("emm", "tools"))


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() or "unknown processor"
    lines = (line.partition(":") for line in text.splitlines())
    names = [value.strip() for key, _, value in lines if key.strip() in ("model name", "Model")]
    return " ".join(names[0].replace("(R)", "").split()) if names else platform.machine() or "unknown processor"


def commit(*folders: str) -> str:
    """The commit that is checked out, with a + where these folders of it were changed since; or "unknown"."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return "unknown"
    try:
        found = _git(root, "rev-parse", "--short", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", *folders)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return f"{found}{'+' if changed else ''}"


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True, timeout=10
    ).stdout.strip()
