"""A v3 file as the overview shows it (`spec/emm-v3.md`).

Purpose: let `inspect` know the predecessor. Invariants: nothing is written; the state that is measured is the one that
`emm.open` reads from the file, upgraded in memory.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from emm import kernel
from emm.codec.payload import state_digest
from emm.inspection.matrix import Matrix, newest_matrix
from emm.inspection.place import opened, v3_file
from emm.inspection.spectrum import SPECTRUM_SIDE_MAX, spectrum_of
from emm.inspection.values import Health, Inspection, RegionInfo, ShapeInfo, StateInfo
from emm.v3.codec import Cell
from emm.v3.file import read_v3_file
from emm.v3.layout import V3_HEADER, V3Flag
from emm.v3.upgrade import upgraded
from emm.vfs import Directory

KIND = "v3 file"


def inspect_v3(url: str, directory: Directory, name: str, *, state: bool, health: Health | None) -> Inspection:
    """The overview of a v3 file. Raises what is wrong with it: it has one copy of everything."""
    cell = read_v3_file(directory, name).cell
    start, size = V3_HEADER.size, 4 * cell.dim**2
    return Inspection(
        url=url,
        kind=KIND,
        uuid=None,
        shape=_shape(cell),
        generation=None,
        lsn=None,
        chain=None,
        parent_uuid=None,
        parent_sha256=None,
        metadata={},
        regions=(
            RegionInfo("C", start, size, cell.dim, cell.dim),
            RegionInfo("n", start + size, 4 * cell.dim, 1, cell.dim),
        ),
        blocks=(),
        snapshots=(),
        segments=(),
        commits=(),
        state=_state(cell) if state else None,
        health=health,
    )


@contextlib.contextmanager
def matrix_at(url: str | os.PathLike[str]) -> Iterator[Matrix]:
    """M of what is at `url`: of a v3 file as `emm.open` reads it, else the newest that can be had."""
    with v3_file(url) as found:
        if found is not None:
            state = upgraded(read_v3_file(*found).cell)
            yield Matrix("as upgraded in memory", 0, 0, state.matrix, state=state)
            return
    with opened(url) as place:
        yield newest_matrix(place)


def _shape(cell: Cell) -> ShapeInfo:
    flags = tuple(str(flag.name).lower().replace("_", "-") for flag in V3Flag if flag in cell.flags)
    return ShapeInfo(cell.dim, cell.dim, cell.dim, "mlstm-v3", "none", 0, 0.0, flags, 0.0)


def _state(cell: Cell) -> StateInfo:
    state = upgraded(cell)
    spectrum = spectrum_of(state.matrix, side_max=SPECTRUM_SIDE_MAX)
    rank = state.parameters.rank
    return StateInfo(
        digest=state_digest(state, 0).hex(),
        rank=rank,
        saturation=kernel.saturation(state),
        effective_rank=spectrum.effective_rank,
        utilisation=None if spectrum.effective_rank is None else spectrum.effective_rank / rank,
        spectrum=spectrum.values,
        write_count=0,
        replayed=0,
        notices=(f"v3 file, m = {cell.log_scale:g}; read as upgraded in memory, and measured so",),
        spectrum_problem=spectrum.problem,
    )
