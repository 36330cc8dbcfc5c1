"""Metadata: a small JSON object with exactly one spelling.

Purpose: let a person name a memory without giving a file a way to surprise its reader.
Invariants (spec M-rules): canonical JSON, UTF-8, at most 16 KiB and 16 levels deep, no floats, no
duplicate keys, integers within ±2⁵³, no string that looks like a path or URL.
"""

from __future__ import annotations

import json
from typing import Any, Final, NoReturn

from emm.errors import FormatError, InputError
from emm.layout import METADATA_BYTES_MAX, METADATA_DEPTH_MAX

INTEGER_MAX = 1 << 53

Metadata = dict[str, Any]


def encode_metadata(metadata: Metadata) -> bytes:
    """Canonical bytes of `metadata`; `InputError` names what may not be stored."""
    fault = _fault(metadata, 1) if isinstance(metadata, dict) else ("M-1", "metadata is not an object")
    if fault is not None:
        raise InputError(f"metadata cannot be stored: {fault[1]}", rule=fault[0])
    data = _canonical(metadata)
    if len(data) > METADATA_BYTES_MAX:
        raise InputError(
            "metadata is too long", rule="M-2", expected=f"at most {METADATA_BYTES_MAX} bytes", found=len(data)
        )
    return data


def decode_metadata(data: bytes) -> Metadata:
    """The object in `data`; `FormatError` for anything that is not the one canonical spelling."""
    if not 2 <= len(data) <= METADATA_BYTES_MAX:
        raise FormatError(
            "metadata length is out of range", rule="M-2", expected=f"2 to {METADATA_BYTES_MAX}", found=len(data)
        )
    _check_depth(data)
    try:
        value = _DECODER.decode(data.decode("utf-8"))
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise FormatError(f"metadata is not JSON of the permitted kind: {error}", rule="M-1") from None
    fault = _fault(value, 1) if isinstance(value, dict) else ("M-1", "it is not an object")
    if fault is not None:
        raise FormatError(f"metadata breaks a rule: {fault[1]}", rule=fault[0])
    if _canonical(value) != data:
        raise FormatError("metadata is not in canonical form", rule="M-1")
    assert isinstance(value, dict)
    return value


def _canonical(value: Metadata) -> bytes:
    return _ENCODER.encode(value).encode("utf-8", "surrogatepass")


def _fault(value: Any, depth: int) -> tuple[str, str] | None:
    """The first (rule, reason) why `value` may not be stored."""
    if depth > METADATA_DEPTH_MAX and isinstance(value, (list, dict)):
        return "M-3", f"deeper than {METADATA_DEPTH_MAX} levels"
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, int):
        return None if abs(value) <= INTEGER_MAX else ("M-4", f"an integer of {value.bit_length()} bits is beyond 2^53")
    if isinstance(value, str):
        return _string_fault(value)
    if isinstance(value, list):
        children = value
    elif isinstance(value, dict):
        for key in value:
            fault = _string_fault(key) if isinstance(key, str) else ("M-1", f"key {key!r} is not a string")
            if fault is not None:
                return fault
        children = list(value.values())
    else:
        return "M-4", f"a {type(value).__name__} is not a JSON value of the permitted kind"
    for child in children:
        fault = _fault(child, depth + 1)
        if fault is not None:
            return fault
    return None


def _string_fault(text: str) -> tuple[str, str] | None:
    if any(0xD800 <= ord(letter) <= 0xDFFF for letter in text):
        return "M-1", "a string holds a lone surrogate"
    if "://" in text or text.startswith(("/", "~", "..", "\\")):
        return "M-5", f"{text[:40]!r} looks like a path or URL"
    return None


def _check_depth(data: bytes) -> None:
    """Refuse deep nesting before a recursive parser sees it."""
    depth = 0
    in_string = escaped = False
    for byte in data:
        if in_string:
            if escaped:
                escaped = False
            elif byte == 0x5C:
                escaped = True
            elif byte == 0x22:
                in_string = False
        elif byte == 0x22:
            in_string = True
        elif byte in b"[{":
            depth += 1
            if depth > METADATA_DEPTH_MAX:
                raise FormatError(
                    "metadata is nested too deep", rule="M-3", expected=f"at most {METADATA_DEPTH_MAX} levels"
                )
        elif byte in b"]}":
            depth -= 1


def _unique(pairs: list[tuple[str, Any]]) -> Metadata:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has a duplicate key")
    return found


def _refuse_float(text: str) -> NoReturn:
    raise FormatError("metadata holds a number that is not an integer", rule="M-4", found=text[:20])


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def _bounded_int(text: str) -> int:
    if len(text) > 17:  # before int() spends time on it
        raise FormatError("metadata holds an integer beyond 2^53", rule="M-4", found=text[:20] + "…")
    return int(text)


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_unique, parse_float=_refuse_float, parse_constant=_refuse_constant, parse_int=_bounded_int
)
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
