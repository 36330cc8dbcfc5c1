"""Write a file whole or not at all: what a command makes for a person to keep.

Purpose: a full disk, Ctrl-C or a crash leaves the file that was there before, or none, never half of a new one.
Invariants: the bytes go to a hidden temporary name in the same directory and are synced before it takes the name; an
error names the file that was asked for; a device or FIFO is written as it is, since a rename would replace it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which appears at `path` when the block ends well. Raises `OSError`."""
    target = os.path.realpath(path)  # a link stays one
    try:
        there: os.stat_result | None = os.stat(target)
    except FileNotFoundError:
        there = None
    if there is not None and not stat.S_ISREG(there.st_mode):
        with open(target, "wb") as file:
            yield file
        return
    if there is not None and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
    temporary = os.path.join(os.path.dirname(target), f".writing-{secrets.token_hex(12)}")
    try:
        with open(temporary, "xb") as file:
            if there is not None:
                os.fchmod(file.fileno(), stat.S_IMODE(there.st_mode))
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.filename in (temporary, None):
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error
        raise
