"""Which file names a directory accepts, decided once for every medium.

Purpose: a name that came from a listing, a caller or a file's bytes can never leave its directory.
Invariants: an accepted name has no separator, no NUL, no leading dot (so it is neither `..` nor a
temporary file) and fits the 255 bytes that common file systems allow.
"""

from __future__ import annotations

import os
import secrets
from typing import Final

from emm.errors import InputError

NAME_BYTES_MAX: Final = 255
_TEMPORARY_PREFIX: Final = ".emm-"
_TEMPORARY_SUFFIX: Final = ".tmp"


def is_name(name: str) -> bool:
    """True when `name` may name a file of a memory directory."""
    if not name or name[0] == "." or "/" in name or "\\" in name or "\0" in name:
        return False
    return len(name if name.isascii() else os.fsencode(name)) <= NAME_BYTES_MAX


def check_name(name: str) -> str:
    """`name` itself; `InputError` when it could name anything outside its directory."""
    if not isinstance(name, str) or not is_name(name):
        raise InputError("a file name is 1 to 255 bytes without separators, NUL or a leading dot", found=repr(name))
    return name


def check_range(offset: int, length: int) -> None:
    """`InputError` unless both are zero or more."""
    if offset < 0 or length < 0:
        raise InputError("an offset and a length are zero or more", found=(offset, length))


def temporary_name() -> str:
    """A fresh hidden name, never listed, that a `publish` writes to before the name exists."""
    return f"{_TEMPORARY_PREFIX}{secrets.token_hex(12)}{_TEMPORARY_SUFFIX}"


def is_temporary(name: str) -> bool:
    """True for names that `temporary_name` makes, and for no other file."""
    return name.startswith(_TEMPORARY_PREFIX) and name.endswith(_TEMPORARY_SUFFIX)
