"""A v3 file, checked and described (`spec/emm-v3.md`, V3-17).

Purpose: let `verify` and `inspect` know the predecessor. Invariants: nothing is written, and nothing upgraded but in
memory; a v3 file has one copy of everything and one CRC-32, so damage names no repair.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from emm import kernel
from emm.codec.payload import state_digest
from emm.errors import FormatError, LimitError, StorageError, UnsupportedError
from emm.v3.file import V3File, read_v3_file, read_v3_header
from emm.v3.layout import V3_HEADER, V3Flag
from emm.v3.upgrade import parameters_of, upgraded
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


def describe_v3(
    directory: Directory, name: str
) -> tuple[V3File, dict[str, Any], tuple[tuple[str, int, int, int], ...]]:
    """(the file, its shape as `ShapeInfo` fields, its arrays as (name, byte, bytes, rows)). Raises what is wrong."""
    found = read_v3_file(directory, name)
    cell = found.cell
    shape = {
        "dim": cell.dim,
        "key_dim": cell.dim,
        "rank": cell.dim,
        "rule": "mlstm-v3",
        "projection": "none",
        "seed": 0,
        "ridge": 0.0,
        "flags": tuple(str(flag.name).lower().replace("_", "-") for flag in V3Flag if flag in cell.flags),
        "expand_at": 0.0,
    }
    start, size = V3_HEADER.size, 4 * cell.dim**2
    return found, shape, (("C", start, size, cell.dim), ("n", start + size, 4 * cell.dim, 1))


def measured_v3(found: V3File) -> dict[str, Any]:
    """`StateInfo` fields of the memory that the file is read as."""
    state = upgraded(found.cell)
    return {
        "digest": state_digest(state, 0).hex(),
        "rank": parameters_of(found.cell).rank,
        "saturation": kernel.saturation(state),
        "effective_rank": kernel.effective_rank(state.matrix),
        "spectrum": tuple(float(value) for value in kernel.spectrum(state.matrix)),
        "write_count": 0,
        "replayed": 0,
        "notices": (f"v3 file, m = {found.cell.log_scale:g}; read as upgraded in memory, and measured so",),
    }
