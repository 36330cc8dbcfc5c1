"""A v3 file: bytes → cell, checked (`spec/emm-v3.md`).

Purpose: decide from 64 bytes and a length whether a v3 file can be what it says, before anything is allocated, and
then read it. Invariants: sizes are Python integers; a `Cell` that exists has passed rules V3-1 to V3-10; errors name
rule and byte. Nothing here opens a file, and nothing encodes: the format is frozen, its writer lives with the tests.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from emm.codec.integrity import crc32
from emm.errors import (
    ChecksumError,
    FormatError,
    LimitError,
    NotEmmError,
    TruncatedError,
    UnsupportedError,
)
from emm.layout import STATE_BYTES_MAX
from emm.state import Float32Array
from emm.v3.layout import (
    V3_DIM_MAX,
    V3_DTYPE_FLOAT32,
    V3_HEADER,
    V3_MAGIC,
    V3_NUMBER_MAX,
    V3_VERSION,
    V3Flag,
    v3_file_bytes,
)

_CRC_OFFSET = V3_HEADER.offset("crc32")
_FLOAT = np.dtype("<f4")


@dataclass(frozen=True, slots=True)
class V3Header:
    """A decoded header; `crc32` is what it states for the file."""

    dim: int
    flags: V3Flag
    log_scale: float
    crc32: int

    @property
    def file_bytes(self) -> int:
        return v3_file_bytes(self.dim)


@dataclass(frozen=True, slots=True)
class Cell:
    """The matrix cell in a v3 file. The true C is e^log_scale · matrix, and so with the normaliser."""

    dim: int
    flags: V3Flag
    log_scale: float  # m, exactly a float32
    matrix: Float32Array  # (dim, dim), C̃: values are rows, keys columns
    normaliser: Float32Array  # (dim,), ñ


def is_v3(start: bytes | memoryview) -> bool:
    """True when a file with these first bytes (eight suffice) is a v3 file, whole or not."""
    return bytes(start[: len(V3_MAGIC)]) == V3_MAGIC


def decode_v3_header(data: bytes | memoryview, file_bytes: int, *, state_bytes_max: int = STATE_BYTES_MAX) -> V3Header:
    """Values of the header in the first 64 bytes of a file of `file_bytes` bytes (V3-1, V3-2, V3-4 to V3-9).

    No checksum vouches for them yet: a caller that has the file checks V3-3 first, see `decode_v3`.
    """
    if not is_v3(data):
        raise NotEmmError("not a v3 file", rule="V3-1", offset=0, expected=V3_MAGIC.hex(), found=bytes(data[:8]).hex())
    if len(data) < V3_HEADER.size:
        raise TruncatedError(
            "the v3 header is cut short", rule="V3-2", offset=len(data), expected=V3_HEADER.size, found=len(data)
        )
    values = V3_HEADER.unpack(data)
    _check_kind(values)
    dim = values["dim"]
    if not 1 <= dim <= V3_DIM_MAX:
        raise _broken("V3-7", "dim is out of range", "dim", f"1 to {V3_DIM_MAX}", dim)
    header = V3Header(dim, V3Flag(values["flags"]), values["log_scale"], values["crc32"])
    if file_bytes != header.file_bytes:
        kind = TruncatedError if file_bytes < header.file_bytes else FormatError
        raise kind(
            "the v3 file's length does not follow from its dim",
            rule="V3-2",
            offset=min(file_bytes, header.file_bytes),
            expected=header.file_bytes,
            found=file_bytes,
        )
    if header.file_bytes > state_bytes_max:
        raise LimitError(
            "the v3 file is larger than this process allows",
            rule="V3-8",
            offset=V3_HEADER.offset("dim"),
            expected=f"at most {state_bytes_max} bytes",
            found=header.file_bytes,
        )
    _check_log_scale(header)
    return header


def decode_v3(data: bytes | memoryview, *, state_bytes_max: int = STATE_BYTES_MAX) -> Cell:
    """The cell in a whole v3 file; arrays are read-only views of `data`.

    Raises `NotEmmError`, `TruncatedError`, `ChecksumError`, `UnsupportedError`, `LimitError` or `FormatError` with its
    V3-rule. Damage is told apart from an unknown version by the checksum, which covers the header too: where it fails
    and the length is right, nothing else is believed (V3-3).
    """
    view = memoryview(data).toreadonly()
    if is_v3(view) and len(view) >= V3_HEADER.size:
        stated = V3_HEADER.unpack(view)
        found = v3_crc32(view)
        if stated["crc32"] != found:
            if 1 <= stated["dim"] <= V3_DIM_MAX and len(view) < v3_file_bytes(stated["dim"]):
                raise TruncatedError(
                    "the v3 file ends before the bytes its dim promises",
                    rule="V3-2",
                    offset=len(view),
                    expected=v3_file_bytes(stated["dim"]),
                    found=len(view),
                )
            raise ChecksumError(
                "the v3 file fails its CRC-32",
                rule="V3-3",
                offset=_CRC_OFFSET,
                expected=f"{stated['crc32']:08x}",
                found=f"{found:08x}",
            )
    header = decode_v3_header(view, len(view), state_bytes_max=state_bytes_max)
    start, dim = V3_HEADER.size, header.dim
    numbers = np.frombuffer(view, _FLOAT, dim * (dim + 1), start)
    good = np.abs(numbers) <= np.float32(V3_NUMBER_MAX)
    if not good.all():
        index = int(np.argmin(good))
        raise FormatError(
            "a v3 file holds a number that is not finite or beyond 2^60",
            rule="V3-10",
            offset=start + 4 * index,
            expected="|number| ≤ 2^60",
            found=float(numbers[index]),
        )
    return Cell(dim, header.flags, header.log_scale, numbers[: dim * dim].reshape(dim, dim), numbers[dim * dim :])


def v3_crc32(data: bytes | memoryview) -> int:
    """CRC-32 of a whole file with its own four bytes taken as zero."""
    view = memoryview(data)
    return crc32(view[:_CRC_OFFSET], bytes(4), view[V3_HEADER.size :])


def _check_kind(values: dict[str, Any]) -> None:
    """V3-4 to V3-6: what this reader can read at all."""
    if values["version"] != V3_VERSION:
        raise UnsupportedError(
            "unknown version", rule="V3-4", offset=V3_HEADER.offset("version"), expected=3, found=values["version"]
        )
    if values["dtype"] != V3_DTYPE_FLOAT32:
        raise UnsupportedError(
            "unknown number type", rule="V3-4", offset=V3_HEADER.offset("dtype"), expected=1, found=values["dtype"]
        )
    known = V3Flag.SCALE_ON_QUERY | V3Flag.SIGMOID_INPUT | V3Flag.KEYS_NORMALISED
    if values["flags"] & ~int(known):
        raise UnsupportedError(
            "the v3 header sets a flag that is not defined",
            rule="V3-5",
            offset=V3_HEADER.offset("flags"),
            expected=f"within {int(known):#x}",
            found=f"{values['flags']:#x}",
        )
    violation = V3_HEADER.reserved_violation(values)
    if violation is not None:
        raise FormatError("a reserved byte of the v3 header is not zero", rule="V3-6", offset=violation.offset)


def _check_log_scale(header: V3Header) -> None:
    if not math.isfinite(header.log_scale):
        raise _broken("V3-9", "m is not finite", "log_scale", "a finite number", header.log_scale)
    if header.flags & V3Flag.SIGMOID_INPUT and header.log_scale != 0:
        raise _broken("V3-9", "a sigmoid input gate leaves m at 0", "log_scale", 0, header.log_scale)


def _broken(rule: str, message: str, field: str, expected: object, found: object) -> FormatError:
    return FormatError(message, rule=rule, offset=V3_HEADER.offset(field), expected=expected, found=found)
