"""All conformance vectors, in the order of the manifest, and the manifest itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from . import (
    bad_journal,
    bad_memory,
    bad_metadata,
    bad_records,
    bad_recovery,
    bad_snapshot,
    good,
    good_journal,
    hostile,
    normaliser,
)
from .arithmetic import vectors
from .case import Case
from .v3 import V3_MANIFEST, v3_manifest_text
from .v3 import cases as v3_cases

HERE = Path(__file__).resolve().parent
MANIFEST = HERE / "manifest.json"
ARITHMETIC = HERE / "arithmetic.json"
GROUPS = (
    good,
    good_journal,
    bad_snapshot,
    bad_metadata,
    bad_journal,
    bad_records,
    bad_memory,
    bad_recovery,
    hostile,
    normaliser,
)


def all_cases() -> list[Case]:
    cases = [case for group in GROUPS for case in group.cases()]
    names = [case.name for case in cases]
    assert len(names) == len(set(names)), sorted(name for name in names if names.count(name) > 1)
    return cases


def manifest(cases: list[Case]) -> dict[str, Any]:
    return {
        "format": "4.0",
        "about": "One entry for each vector: what a check at the deepest level says. README.md explains the fields.",
        "cases": [case.entry() for case in cases],
    }


def manifest_text(cases: list[Case]) -> str:
    """JSON with one case a line, so that a change shows as one line."""
    whole = manifest(cases)
    lines = ",\n".join(json.dumps(entry, ensure_ascii=False, sort_keys=True) for entry in whole.pop("cases"))
    head = json.dumps(whole, ensure_ascii=False, indent=1)
    return head[:-2] + ',\n "cases": [\n' + lines + "\n]}\n"


def arithmetic_text() -> str:
    return json.dumps(vectors(), ensure_ascii=False, indent=1) + "\n"


def expand(cases: list[Case], out: Path) -> None:
    """Write every case into a directory of its own below `out`, and the v3 files below `out`/v3."""
    (out / "v3").mkdir(parents=True)
    for each in v3_cases():
        (out / "v3" / f"{each.name}.v3").write_bytes(each.data)
    for case in cases:
        place = out / case.name
        place.mkdir(parents=True)
        for name, data in case.files.items():
            (place / name).write_bytes(data)


def differences(cases: list[Case]) -> list[str]:
    """How what the recipes give differs from what is committed; empty when they agree."""
    found = []
    written = (MANIFEST, manifest_text(cases)), (ARITHMETIC, arithmetic_text()), (V3_MANIFEST, v3_manifest_text())
    for path, text in written:
        committed = path.read_text(encoding="utf-8") if path.exists() else ""
        if committed != text:
            old, new = committed.splitlines(), set(text.splitlines())
            changed = [line for line in old if line not in new]
            found.append(
                f"{path.name}: {len(changed)} of {len(old)} lines differ, first: {(changed or ['(added)'])[0][:200]}"
            )
    return found
