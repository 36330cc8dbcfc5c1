"""Console entry points, and the one sentence a person gets when the library itself cannot be imported.

Purpose: a broken installation (another distribution over the same folder, a missing dependency) is told as any
other error is. Invariant: nothing of `emm` or click is imported at module level here, so this module always loads.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module

CANNOT_IMPORT = 1
INTERRUPTED = 130


def _run(module: str, command: str, program: str) -> None:
    try:
        found = getattr(import_module(module), command)
    except ImportError as error:
        if os.environ.get("EMM_DEBUG") == "1":
            raise
        print(f"{program}: cannot start: {error}", file=sys.stderr)
        sys.exit(CANNOT_IMPORT)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    found.main(prog_name=program)


def emm() -> None:
    """`emm`: create, write, recall, … and the engine's commands."""
    _run("emm_tools.cli", "cli", "emm")


def emm_verify() -> None:
    """`emm-verify`: check files, directories and trees; never writes."""
    _run("emm_tools.verify_command", "verify_command", "emm-verify")


def emm_inspect() -> None:
    """`emm-inspect`: tell what is in a memory, as text, JSON or a picture."""
    _run("emm_tools.inspect_command", "inspect_command", "emm-inspect")


def emm_conformance() -> None:
    """`emm-conformance`: run another reader over the conformance vectors."""
    _run("emm_tools.conformance_command", "conformance_command", "emm-conformance")
