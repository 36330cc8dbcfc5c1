"""The record of a repair beside the memory it made: which part of which file came from where (spec N-7).

Purpose: years later, tell bytes that were always there from bytes that were put back. Invariants: the record names
files of the memory only, never a path or a host; it is canonical JSON, published before any snapshot; readers of the
memory do not read it, and nothing in it is ever used to decide anything.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from emm.errors import EmmError
from emm.repair.plan import Plan
from emm.vfs import Directory

RECORD_BYTES_MAX = 16 << 20
_NAME = re.compile(r"repair-([0-9]{16})\.json")


def earlier_records(directory: Directory) -> list[str]:
    """Names of the records of earlier repairs in a memory directory, in order."""
    return sorted(name for name in directory.list() if _NAME.fullmatch(name) is not None)


def next_name(earlier: list[str]) -> str:
    """The name of the next record."""
    numbers = [int(match[1]) for name in earlier if (match := _NAME.fullmatch(name)) is not None]
    return f"repair-{max(numbers, default=0) + 1:016d}.json"


def encode_record(plan: Plan, written: Mapping[str, str], found: Mapping[str, str | None], time_us: int) -> bytes:
    """The record: for each file its SHA-256 as written and as it was found, and the source of each mended part."""
    files: list[dict[str, Any]] = []
    for each in plan.files:
        entry = each.to_dict()
        entry |= {"sha256": written.get(each.name), "found_sha256": found.get(each.name)}
        files.append({key: value for key, value in entry.items() if value is not None})
    record = {
        "format": "emm-repair",
        "version": 1,
        "origin": "repair",
        "uuid": plan.uuid,
        "time_us": time_us,
        "lsn": plan.lsn_kept,
        "lsn_proven": plan.lsn,
        "files": files,
        "losses": [loss.to_dict() for loss in plan.losses],
        "notes": list(plan.notes),
    }
    return json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8")


def read_earlier(directory: Directory, name: str) -> bytes | None:
    """An earlier record to take along; None for one that is too long or cannot be read."""
    try:
        size = directory.size(name)
        return directory.read_at(name, 0, size) if size <= RECORD_BYTES_MAX else None
    except EmmError:
        return None
