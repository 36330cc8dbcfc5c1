"""A v3 file on a medium: found, bounded, read whole.

Purpose: the one place that opens v3 files. Invariants: nothing is written; the length is compared with the limit before
anything is allocated, and eight bytes are enough to leave a file that is not v3 alone.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from emm.errors import EmmError, LimitError, TruncatedError
from emm.layout import STATE_BYTES_MAX
from emm.v3.codec import Cell, decode_v3, is_v3
from emm.v3.layout import V3_MAGIC
from emm.vfs.protocol import Directory


@dataclass(frozen=True, slots=True)
class V3File:
    """A v3 file that was read whole and checked; `sha256` is that of its bytes."""

    url: str
    cell: Cell
    sha256: bytes


def is_v3_file(directory: Directory, name: str) -> bool:
    """True when the file starts with v3's magic. Errors of the medium are raised."""
    size = directory.size(name)
    return size >= len(V3_MAGIC) and is_v3(directory.read_at(name, 0, len(V3_MAGIC)))


def read_v3_bytes(directory: Directory, name: str, *, state_bytes_max: int = STATE_BYTES_MAX) -> bytes:
    """The whole file as it lies there. `LimitError` before anything is read of one that is too large (V3-8)."""
    size = directory.size(name)
    if size > state_bytes_max:
        raise LimitError(
            "the v3 file is larger than this process allows",
            rule="V3-8",
            expected=f"at most {state_bytes_max} bytes",
            found=size,
        )
    data = directory.read_at(name, 0, size)
    if directory.size(name) != size:
        raise TruncatedError("the v3 file changed while it was read", rule="V3-2", expected=size)
    return data


def read_v3_file(directory: Directory, name: str, *, state_bytes_max: int = STATE_BYTES_MAX) -> V3File:
    """The whole file, checked (V3-1 to V3-10); errors name it."""
    url = f"{directory.url}/{name}"
    try:
        data = read_v3_bytes(directory, name, state_bytes_max=state_bytes_max)
        return V3File(url, decode_v3(data, state_bytes_max=state_bytes_max), hashlib.sha256(data).digest())
    except EmmError as error:
        raise error.located(url) from None
