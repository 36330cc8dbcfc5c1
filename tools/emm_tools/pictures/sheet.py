"""One picture of one view, or a sheet of all five.

Purpose: gather what the panels need, once, and put them on a figure. Invariants: M is read once for spectrum and heat
map; a panel whose data cannot be had says why in its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import emm
from emm.inspection import HeatMap, Matrix, RowsView, SpectrumView, heat_map, matrix_at
from emm.inspection.spectrum_view import spectrum_of_matrix
from emm_tools.exits import printable
from emm_tools.inspect_text import healthy, shortened
from emm_tools.pictures.block_map import block_map
from emm_tools.pictures.fullness import fullness
from emm_tools.pictures.heat import heat
from emm_tools.pictures.history import concise, history
from emm_tools.pictures.singular import singular
from emm_tools.pictures.style import DARK, LIGHT, Palette, encoded, new_figure, recoloured
from emm_tools.whole_file import whole_file

PANELS = ("blocks", "spectrum", "generations", "journal", "heat")  # named as the views that draw them alone
SIZES = {"journal": (8.2, 5.2), "heat": (8.2, 5.2)}
SIZE = (8.2, 4.4)
PAGE_SIZES = {"journal": (5.6, 3.9), "heat": (5.6, 3.9)}  # a page shows two beside each other
PAGE_SIZE = (5.6, 3.4)


@dataclass(frozen=True, slots=True)
class Absent:
    """Why there are no blocks, and no commits, to show."""

    blocks: str = "no snapshot"
    commits: str = "no commit in the journal"


NONE = {
    "memory": Absent(),
    "snapshot": Absent(commits="a snapshot by itself has no journal; its memory has"),
    "v3 file": Absent("a v3 file has no blocks", "a v3 file has no journal"),
}


@dataclass(frozen=True, slots=True)
class Sources:
    """What the panels draw. `spectrum` and `heat` are None where `problem` says why M cannot be had."""

    found: emm.Inspection
    spectrum: SpectrumView | None
    heat: HeatMap | None
    heat_title: str
    problem: str


def gather(path: str, found: emm.Inspection) -> Sources:
    """Read M once for an inspection that has its history and its blocks compared."""
    if found.kind == "segment":
        return Sources(found, None, None, "M", "a journal segment holds no matrix")
    try:
        with matrix_at(path) as matrix:
            cells = heat_map(matrix)
            spectrum = spectrum_of_matrix(found.url, matrix)
    except emm.EmmError as error:
        return Sources(found, None, None, "M", str(error))
    return Sources(found, spectrum, cells, _heat_title(matrix), "")


def _heat_title(matrix: Matrix) -> str:
    hurt = f", {matrix.n_bad} damaged rows hatched" if matrix.n_bad else ""
    return f"Heat map of M, {matrix.rows.shape[0]} × {matrix.rows.shape[1]} ({matrix.source}{hurt})"


def draw(path: str, view: str | None, found: Any, picture: Path) -> None:
    """Write the picture of a view, or the sheet for none; the suffix (.png or .svg) chooses the format."""
    kind = picture.suffix.lower().lstrip(".")
    if view is None:
        figure = _sheet(gather(path, found), LIGHT)
    else:
        width, height = SIZES.get(view, SIZE)
        figure = new_figure(width, height, LIGHT)
        _view(figure, view, found, LIGHT)
    data = encoded(figure, kind)
    with whole_file(picture) as file:
        file.write(data)


def svgs(panel: str, sources: Sources) -> tuple[bytes, bytes]:
    """One panel for the page, on light and on dark paper."""
    width, height = PAGE_SIZES.get(panel, PAGE_SIZE)
    figure = new_figure(width, height, LIGHT)
    _panel(figure, panel, sources, LIGHT)
    light = encoded(figure, "svg")
    return light, recoloured(light, LIGHT, DARK)


def _view(figure: Figure, view: str, found: Any, palette: Palette) -> None:
    if view == "blocks":
        block_map(figure.subplots(), found.blocks, found.generation, palette)
    elif view == "spectrum":
        singular(figure.subplots(), found, palette)
    elif view == "rows":
        _rows(figure.subplots(), found, palette)
    else:
        _panel(figure, view, Sources(found, None, None, "", ""), palette)


def _rows(axes: Any, found: RowsView, palette: Palette) -> None:
    numbers = np.full((len(found.rows), found.n_columns), np.nan, np.float32)
    bad = []
    for index, row in enumerate(found.rows):
        if row.problem is None:
            numbers[index] = row.values
        else:
            bad.append((index, index))
    cells = heat_map(Matrix("", found.lsn, found.generation, numbers, tuple(bad)))
    title = f"Rows {found.first}–{found.last} of M, generation {found.generation}, commit {found.lsn}"
    heat(axes, cells, palette, title=title, first_row=found.first)


def _panel(figure: Any, panel: str, sources: Sources, palette: Palette) -> None:
    found = sources.found
    kind = found.kind if found.kind in NONE else "memory"
    if panel == "blocks":
        block_map(figure.subplots(), found.blocks, found.generation, palette, NONE[kind].blocks)
    elif panel == "spectrum":
        singular(figure.subplots(), sources.spectrum, palette, sources.problem)
    elif panel == "generations":
        fullness(figure.subplots(), found, palette, NONE[kind].commits)
    elif panel == "journal":
        upper, lower = figure.subplots(2, 1, sharex=True)
        history(upper, lower, found.commits, palette, NONE[kind].commits)
        concise(lower)
    else:
        heat(figure.subplots(), sources.heat, palette, title=sources.heat_title or "Heat map of M", why=sources.problem)


def _sheet(sources: Sources, palette: Palette) -> Figure:
    figure = new_figure(15, 9.4, palette)
    figure.suptitle(_title(sources.found), color=palette.ink, fontsize=12, parse_math=False)
    halves: Any = figure.subfigures(2, 1, hspace=0.04)
    for half, panels in zip(halves, (PANELS[:3], PANELS[3:]), strict=True):
        for part, panel in zip(half.subfigures(1, len(panels), wspace=0.03), panels, strict=True):
            part.set_facecolor(palette.paper)
            _panel(part, panel, sources, palette)
    return figure


def _title(found: emm.Inspection) -> str:
    parts = [shortened(Path(found.url.rstrip("/")).name or found.url, 60)]
    if found.shape is not None:
        rank = found.state.rank if found.state is not None else found.shape.rank
        parts.append(f"M {found.shape.dim} × {rank}, {found.shape.rule}")
        if found.generation is not None:
            parts.append(f"generation {found.generation}, commit {found.lsn}")
    if found.health is not None:
        parts.append(healthy(found.health))
    return printable(" · ".join(parts))
