"""The generated Kaitai parsers, and what their tests share.

Purpose: one place that loads `spec/kaitai/`. Invariant: the parsers are read from there by path, never installed.
"""

from __future__ import annotations

import importlib.util
import struct
from io import BytesIO
from pathlib import Path
from typing import Any

from kaitaistruct import KaitaiStream

from emm.layout import Record

SPEC = Path(__file__).resolve().parents[2] / "spec"
KAITAI = SPEC / "kaitai"


def parser(name: str) -> Any:
    """The class of a generated parser."""
    spec = importlib.util.spec_from_file_location(name, KAITAI / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, "".join(part.capitalize() for part in name.split("_")))


SNAPSHOT = parser("emm_v4")
SEGMENT = parser("emm_v4_journal")
TYPES = {**vars(SNAPSHOT), **vars(SEGMENT)}  # record and enumeration names occur in one of the two only


def parse(kind: Any, data: bytes, *arguments: Any) -> Any:
    return kind(*arguments, KaitaiStream(BytesIO(data)))


def records_of(segment: Any) -> list[Any]:
    return getattr(segment, "records", [])  # Kaitai leaves the attribute out when the first record is not framed


def field_patch(record: Record, name: str, value: Any) -> tuple[int, bytes]:
    field = next(field for field in record.fields if field.name == name)
    return field.offset, struct.pack("<" + field.format, value)
