"""Read the JSON report that `emm-verify --json` wrote, so that a repair needs no second scan.

Purpose: take from it which files are damaged, and nothing else: no path, offset or repair in it is believed.
Invariants: any input gives findings or one `InputError`; a report of another memory, of an older state of this one, or
of a check that left something out is refused; what a forged one hides is found before anything is published.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from emm.errors import InputError
from emm.repair.copies import MemoryCopy
from emm.storage.names import parse_name
from emm.verify.finding import CODES, Finding, Severity
from emm.verify.levels import Level

REPORT_BYTES_MAX = 64 << 20


def findings_of_report(path: str | os.PathLike[str], own: MemoryCopy) -> list[Finding]:
    """The findings about this memory in a report file."""
    file = os.fspath(path)
    target = _target(_load(file), own, file)
    coverage = target.get("coverage")
    level = coverage.get("level") if isinstance(coverage, dict) else None
    if level not in [each.label for each in Level if each >= Level.BLOCKS]:
        raise InputError("the report looked at less than every block", file=file, expected="level blocks", found=level)
    _require_current(target, own, file)
    given = target.get("findings")
    if not isinstance(given, list):
        raise InputError("the report has no list of findings", file=file)
    return [_finding(each, own, file) for each in given]


def _load(file: str) -> dict[str, Any]:
    try:
        if os.path.getsize(file) > REPORT_BYTES_MAX:
            raise InputError("the report is too long", file=file, expected=f"at most {REPORT_BYTES_MAX} bytes")
        found = json.loads(Path(file).read_bytes())
    except OSError as error:
        raise InputError(f"the report cannot be read: {error.strerror}", file=file) from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"the report is not JSON: {error}", file=file) from None
    if not isinstance(found, dict):
        raise InputError("the report is not an object as emm-verify --json writes it", file=file)
    return found


def _target(report: dict[str, Any], own: MemoryCopy, file: str) -> dict[str, Any]:
    targets = report.get("targets")
    listed = [each for each in targets if isinstance(each, dict)] if isinstance(targets, list) else []
    mine = [each for each in listed if each.get("kind") == "memory" and each.get("uuid") == own.uuid.hex()]
    if len(mine) > 1:  # copies of one memory in one tree
        mine = [each for each in mine if each.get("url") == own.directory.url]
    if len(mine) != 1:
        found = ", ".join(sorted({str(each.get("uuid")) for each in listed})[:4]) or "no memory"
        raise InputError("the report does not speak of this memory", file=file, expected=own.uuid.hex(), found=found)
    return mine[0]


def _require_current(target: dict[str, Any], own: MemoryCopy, file: str) -> None:
    """The newest state that our own heads know must be one that the report knew."""
    lsn = target.get("lsn")
    newest = max((each.head.header.lsn for each in own.heads.values()), default=0)
    damaged = {_name(each) for each in target.get("findings") or () if isinstance(each, dict)}
    known = lsn if isinstance(lsn, int) and not isinstance(lsn, bool) else -1
    if known < newest and not damaged:
        raise InputError(
            "the report is older than the memory; check it again", file=file, expected=f"lsn {newest}", found=lsn
        )


def _name(given: dict[str, Any]) -> str:
    file = given.get("file")
    return file.rstrip("/").rpartition("/")[2] if isinstance(file, str) else ""


def _finding(given: Any, own: MemoryCopy, file: str) -> Finding:
    code = given.get("code") if isinstance(given, dict) else None
    if not isinstance(code, str) or code not in CODES:
        raise InputError("the report has a finding of an unknown code", file=file, found=str(code)[:40])
    name, message = _name(given), given.get("message")
    parsed = parse_name(name)
    if parsed is None and CODES[code].severity in (Severity.DAMAGE, Severity.TORN) and code != "generation-missing":
        raise InputError("the report blames a file that no memory has", file=file, found=name[:40])
    where = f"{own.directory.url}/{name}" if parsed is not None else own.directory.url
    return Finding(code, CODES[code].severity, str(message)[:200], file=where)
