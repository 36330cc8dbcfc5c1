"""Zip archives from strangers, read without being unpacked.

Purpose: the members of an archive as bytes, under limits. Invariants: nothing is written anywhere; the directory is
bounded before it is parsed; an archive with a name that leads out of it (`..`, absolute, a drive, a backslash), with
members that overlap, are encrypted or a link, or that would unpack to too much, is refused as a whole; a member gives
no byte more than it announced.
"""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

MEMBERS_MAX = 20_000
DIRECTORY_BYTES_MAX = 8 << 20
TOTAL_BYTES_MAX = 4 << 30  # of all members, unpacked
MEMBER_BYTES_MAX = 256 << 20
RATIO_MAX = 300  # a member of more than RATIO_FROM bytes that unpacks to more times its size is no document
RATIO_FROM = 1 << 20
_END_BYTES = 22
_END_MAGIC, _ZIP64_MAGIC = b"PK\x05\x06", b"PK\x06\x07"
_ZIP64_LOCATOR_BYTES = 20
_LOCAL_HEADER_BYTES = 30


class SafeZip:
    """An archive that was looked over; made by `opened_zip`."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self.members = {info.filename: info for info in archive.infolist() if not info.is_dir()}

    def read(self, name: str, bytes_max: int = MEMBER_BYTES_MAX) -> bytes:
        """A member's bytes; `ValueError` when it is damaged or larger."""
        info = self.members[name]
        if info.file_size > bytes_max:
            raise ValueError(f"it has {info.file_size} bytes, more than {bytes_max}")
        try:
            with self._archive.open(info) as member:
                data = member.read(info.file_size + 1)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from error
        if len(data) != info.file_size:
            raise ValueError(f"it announces {info.file_size} bytes and holds others")
        return data


@contextmanager
def opened_zip(stream: BinaryIO, size: int) -> Iterator[SafeZip]:
    """The archive in a stream of `size` bytes; `ValueError` when it is refused."""
    _check_end(stream, size)
    stream.seek(0)
    try:
        archive = zipfile.ZipFile(stream)
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
    with archive:
        _check_members(archive, size)
        yield SafeZip(archive)


def _check_end(stream: BinaryIO, size: int) -> None:
    """The directory's size, before anything is parsed by it."""
    length = min(size, _END_BYTES + 0xFFFF + _ZIP64_LOCATOR_BYTES)
    stream.seek(size - length)
    tail = stream.read(length)
    at = tail.rfind(_END_MAGIC)
    if at < 0 or len(tail) < at + _END_BYTES:
        raise ValueError("not a zip archive, or cut off")
    directory_bytes = int.from_bytes(tail[at + 12 : at + 16], "little")
    if tail[at - _ZIP64_LOCATOR_BYTES : at].startswith(_ZIP64_MAGIC):
        raise ValueError("a zip64 archive: more members or bytes than are read")
    if directory_bytes > DIRECTORY_BYTES_MAX:
        raise ValueError(f"its directory has {directory_bytes} bytes, more than {DIRECTORY_BYTES_MAX}")


def _check_members(archive: zipfile.ZipFile, size: int) -> None:
    infos = archive.infolist()
    if len(infos) > MEMBERS_MAX:
        raise ValueError(f"{len(infos)} members, more than {MEMBERS_MAX}")
    if len({info.filename for info in infos}) < len(infos):
        raise ValueError("two members have one name")
    total = sum(info.file_size for info in infos)
    if total > TOTAL_BYTES_MAX:
        raise ValueError(f"it would unpack to {total} bytes, more than {TOTAL_BYTES_MAX}")
    for info in infos:
        reason = _fault(info)
        if reason:
            raise ValueError(f"member {info.filename[:200]!r} {reason}")
    end = 0
    for info in sorted(infos, key=lambda each: each.header_offset):
        if info.header_offset < end:
            raise ValueError(f"member {info.filename[:200]!r} overlaps another")
        end = info.header_offset + _LOCAL_HEADER_BYTES + info.compress_size
    if end > size:
        raise ValueError("its members are larger than the file")


def _fault(info: zipfile.ZipInfo) -> str:
    name = info.orig_filename
    parts = name.replace("\\", "/").split("/")
    if (
        "\\" in name
        or "\0" in name
        or name.startswith("/")
        or ".." in parts
        or (len(parts[0]) == 2 and parts[0][1] == ":")
    ):
        return "leads out of the archive"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "is a link"
    if info.flag_bits & 1:
        return "is encrypted"
    if info.file_size > max(RATIO_FROM, RATIO_MAX * info.compress_size):
        return f"unpacks to {info.file_size} bytes from {info.compress_size}"
    return ""
