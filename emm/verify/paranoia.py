"""What `--paranoid` adds: nothing is believed because one piece of code, or one reading, said so.

Purpose: a second CRC-32 by other code than ours (crcmod, which shares not a line with zlib or ISA-L), and a second
reading of everything, past the page cache where the system lets us, whose findings must be those of the first: a
cable, a controller or memory that flips bits now and then is found so. Invariants: without crcmod it refuses to run
rather than check less.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from functools import cache

from emm.codec.integrity import BlockEntry, check_block
from emm.errors import ChecksumError, InputError
from emm.vfs.local import LocalDirectory
from emm.vfs.protocol import Directory


@cache
def other_crc32() -> Callable[[bytes], int]:
    """CRC-32/ISO-HDLC by crcmod; `InputError` when it is not installed."""
    try:
        from crcmod.predefined import mkPredefinedCrcFun
    except ImportError:
        raise InputError("a paranoid check needs the package crcmod, which is not installed") from None
    found: Callable[[bytes], int] = mkPredefinedCrcFun("crc-32")
    return found


def check_block_twice(block: bytes | memoryview, entry: BlockEntry, index: int, offset: int) -> None:
    """`check_block`, and the CRC-32 once more by other code."""
    check_block(block, entry, index, offset)
    found = other_crc32()(bytes(block))
    if found != entry.crc32:
        raise ChecksumError(
            f"block {index} fails its CRC-32 as other code computes it",
            rule="T-2",
            offset=offset,
            expected=f"{entry.crc32:08x}",
            found=f"{found:08x}",
        )


def forget_cached(directory: Directory, *names: str) -> None:
    """Ask the operating system to drop what it caches of these files, or of all that the directory lists, so that the
    medium is read again."""
    if not isinstance(directory, LocalDirectory):
        return
    for name in names or directory.list():
        with contextlib.suppress(OSError):
            fd = os.open(os.path.join(directory.path, name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(fd)
