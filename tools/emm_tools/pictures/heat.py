"""The heat map of M.

Purpose: see rows that stand out, columns that are not used, and damage. Invariants: signed numbers on a diverging scale
around zero, magnitudes on a sequential one, both readable for colour-blind people and in grey; cells that cannot be
believed are hatched; the scale ends at the 99.5th percentile, and says so, lest one number whiten the rest.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.patches import Rectangle

from emm.inspection import HeatMap
from emm_tools.pictures.style import Palette, say_nothing_to_show, style_axes

PERCENTILE = 99.5
HATCHED_MAX = 64


def heat(axes: Any, found: HeatMap | None, palette: Palette, *, title: str, first_row: int = 0, why: str = "") -> None:
    """Draw the cells, or the reason why there are none."""
    if found is None:
        style_axes(axes, palette, title)
        say_nothing_to_show(axes, palette, why or "no state")
        return
    style_axes(axes, palette, title, "column of M (rank)", "row of M (dim)")
    axes.grid(False)
    size = np.abs(found.cells[np.isfinite(found.cells)])
    top = float(np.percentile(size, PERCENTILE)) if len(size) else 0.0
    top = top or float(size.max(initial=0.0)) or 1.0
    beyond = bool(len(size)) and float(size.max()) > top
    extent = (-0.5, found.n_columns - 0.5, first_row + found.n_rows - 0.5, first_row - 0.5)
    scale: dict[str, Any] = (
        {"cmap": "RdBu_r", "vmin": -top, "vmax": top}
        if found.signed
        else {
            "cmap": "cividis",
            "vmin": 0.0,
            "vmax": top,
        }
    )
    image = axes.imshow(found.cells, interpolation="nearest", aspect="auto", extent=extent, **scale)
    bar = axes.figure.colorbar(
        image, ax=axes, extend=("both" if found.signed else "max") if beyond else "neither", fraction=0.05, pad=0.02
    )
    cell = f"root mean square of {found.rows_per_cell} × {found.columns_per_cell} numbers"
    bar.set_label("number" if found.signed else cell, color=palette.ink, fontsize=8)
    bar.ax.tick_params(labelsize=7, colors=palette.ink)
    bar.outline.set_visible(False)
    for low, high in _hatched(found, first_row):
        axes.add_patch(
            Rectangle(
                (-0.5, low - 0.5),
                found.n_columns,
                high - low,
                facecolor=palette.paper,
                edgecolor=palette.ink,
                hatch="xxx",
                linewidth=0.6,
            )
        )
    for axis in (axes.xaxis, axes.yaxis):
        axis.get_major_locator().set_params(integer=True, min_n_ticks=1)


def _hatched(found: HeatMap, first_row: int) -> list[tuple[int, int]]:
    """Row ranges (end exclusive) of cells that hold nothing believable, at most `HATCHED_MAX` of them."""
    empty = np.isnan(found.cells).all(axis=1)
    ranges: list[tuple[int, int]] = []
    for index in np.flatnonzero(empty):
        low = int(index) * found.rows_per_cell
        high = min(low + found.rows_per_cell, found.n_rows)
        if ranges and ranges[-1][1] == first_row + low:
            ranges[-1] = ranges[-1][0], first_row + high
        else:
            ranges.append((first_row + low, first_row + high))
    return ranges[:HATCHED_MAX]
