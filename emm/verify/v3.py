"""A v3 file, checked (`spec/emm-v3.md`, V3-17).

Purpose: let `verify` know the predecessor. Invariants: nothing is written or
upgraded; a v3 file has one copy of everything and one CRC-32, so damage names no repair.
"""

from __future__ import annotations

from collections.abc import Iterator

from emm.errors import FormatError, LimitError, StorageError, UnsupportedError
from emm.v3.file import read_v3_file, read_v3_header
from emm.v3.layout import V3_HEADER
from emm.verify.coverage import Coverage
from emm.verify.finding import Finding, finding, from_error
from emm.verify.levels import Level, Options
from emm.vfs.protocol import Directory

ABOUT = "a v3 file, whole; emm upgrade makes a memory from it"


def check_v3(directory: Directory, name: str, options: Options, coverage: Coverage) -> Iterator[Finding]:
    """At level header the 64 bytes and the file's length; at every other the whole file."""
    file = f"{directory.url}/{name}"
    try:
        coverage.bytes_total += directory.size(name)
        if options.level is Level.HEADER:
            read_v3_header(directory, name, state_bytes_max=options.state_bytes_max)
            coverage.bytes_read += V3_HEADER.size
            yield finding("v3-file", "a v3 file, by its header and its length", file=file)
            return
        read_v3_file(directory, name, state_bytes_max=options.state_bytes_max)
        coverage.bytes_read += directory.size(name)
        if options.progress is not None:
            options.progress(file, directory.size(name))
        yield finding("v3-file", ABOUT, file=file)
    except StorageError as error:
        yield from_error("unreadable", error, file=file)
    except FormatError as error:
        code = "v3-damaged"
        if isinstance(error, (UnsupportedError, LimitError)):
            code = "over-limit" if isinstance(error, LimitError) else "unsupported"
        yield from_error(code, error, file=file)
