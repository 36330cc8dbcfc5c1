"""A v3 file, checked (`spec/emm-v3.md`, V3-17).

Purpose: let `verify` know the predecessor. Invariants: nothing is written or upgraded; a v3 file has one copy of
everything and one CRC-32, so damage names no repair; bytes that were read are counted whatever they say.
"""

from __future__ import annotations

from collections.abc import Iterator

from emm.errors import FormatError, LimitError, NotEmmError, StorageError, UnsupportedError
from emm.v3.codec import decode_v3, decode_v3_header, is_v3, v3_crc32
from emm.v3.file import read_v3_bytes
from emm.v3.layout import V3_HEADER
from emm.verify.coverage import Coverage
from emm.verify.finding import Finding, finding, from_error
from emm.verify.levels import Level, Options
from emm.verify.paranoia import other_crc32
from emm.vfs.protocol import Directory

ABOUT = "a v3 file, whole; emm upgrade makes a memory from it"
BY_HEADER = "a v3 file, by its header and its length"


def check_v3(directory: Directory, name: str, options: Options, coverage: Coverage) -> Iterator[Finding]:
    """At level header the 64 bytes and the file's length; at every other the whole file."""
    file = f"{directory.url}/{name}"
    limit = options.state_bytes_max
    try:
        size = directory.size(name)
        coverage.v3_files += 1
        coverage.bytes_total += size
        start = directory.read_at(name, 0, min(size, V3_HEADER.size))
        if options.level is Level.HEADER or not is_v3(start):  # however long: eight bytes tell what is none
            _count(len(start), file, options, coverage)
            decode_v3_header(start, size, state_bytes_max=limit)
            yield finding("v3-file", BY_HEADER, file=file)
            return
        data = read_v3_bytes(directory, name, state_bytes_max=limit)
        _count(len(data), file, options, coverage)
        decode_v3(data, state_bytes_max=limit)
        if options.paranoid:
            yield from _by_other_code(data, file)
        yield finding("v3-file", ABOUT, file=file)
    except StorageError as error:
        yield from_error("unreadable", error, file=file)
    except FormatError as error:
        yield from_error(_code(error), error, file=file)


def _count(n_bytes: int, file: str, options: Options, coverage: Coverage) -> None:
    coverage.bytes_read += n_bytes
    if options.progress is not None:
        options.progress(file, n_bytes)


def _code(error: FormatError) -> str:
    for kind, code in ((NotEmmError, "not-emm"), (UnsupportedError, "unsupported"), (LimitError, "over-limit")):
        if isinstance(error, kind):
            return code
    return "v3-damaged"


def _by_other_code(data: bytes, file: str) -> Iterator[Finding]:
    """A finding where other code than ours computes another CRC-32 of a file whose own fits."""
    offset = V3_HEADER.offset("crc32")
    found = other_crc32()(data[:offset] + bytes(4) + data[V3_HEADER.size :])
    stated = v3_crc32(data)
    if found != stated:
        numbers = {"expected": f"{stated:08x}", "found": f"{found:08x}"}
        message = "the v3 file fails its CRC-32 as other code computes it"
        yield finding("v3-damaged", message, rule="V3-3", file=file, offset=offset, **numbers)
