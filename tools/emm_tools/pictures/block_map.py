"""The block map: one cell for each 64 KiB block, coloured by what begins it, with a cross where it is damaged.

Purpose: see at a glance where a file is hurt and how much. Invariants: cells run in file order, row by row; up to
`OUTLINED_MAX` blocks are drawn as squares, more as one image, so that a picture of a large memory stays small.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch

from emm_tools.exits import counted
from emm_tools.pictures.style import (
    BLUE,
    DAMAGED,
    GREEN,
    ORANGE,
    PURPLE,
    Palette,
    say_nothing_to_show,
    style_axes,
)

REGIONS = {"M": BLUE, "P": ORANGE, "U": PURPLE, "scalars": PURPLE, "normaliser": GREEN, "reading": GREEN}
NOTHING = "#00000000"  # transparent: an image cannot be recoloured for dark paper
OUTLINED_MAX = 2048
CROSSED_MAX = 2048


def block_map(
    axes: Any, blocks: Sequence[Any], generation: int | None, palette: Palette, why: str = "no snapshot"
) -> None:
    """Draw the blocks of one generation."""
    damaged = [block.index for block in blocks if block.problem is not None]
    state = f"{len(damaged)} of {counted(len(blocks), 'block')} damaged" if damaged else "no damage"
    style_axes(axes, palette, f"Blocks of 64 KiB, generation {generation}: {state}" if blocks else "Blocks of 64 KiB")
    if not blocks:
        say_nothing_to_show(axes, palette, why)
        return
    axes.grid(False)
    width = min(math.ceil(math.sqrt(len(blocks) * 1.6)), len(blocks))
    height = -(-len(blocks) // width)
    names = list(REGIONS)
    cells = np.full(width * height, len(names) + 1)
    for block in blocks:
        region = next((span.region for span in block.holds if span.region in REGIONS), names[-1])
        cells[block.index] = len(names) if block.problem is not None else names.index(region)
    colours = ListedColormap([*REGIONS.values(), DAMAGED, NOTHING])
    grid, scale = cells.reshape(height, width), {"cmap": colours, "vmin": -0.5, "vmax": len(names) + 1.5}
    if len(blocks) <= OUTLINED_MAX:
        edges = np.arange(width + 1) - 0.5, np.arange(height + 1) - 0.5
        axes.pcolormesh(*edges, grid, edgecolors=palette.paper, linewidth=1.2 if len(blocks) <= 256 else 0.4, **scale)
        axes.invert_yaxis()
    else:
        axes.imshow(grid, interpolation="nearest", **scale)
    if damaged and len(damaged) <= CROSSED_MAX:
        points = min(max(1400 / max(width, height * 1.6) ** 1.5, 4), 160)
        x, y = [index % width for index in damaged], [index // width for index in damaged]
        axes.scatter(x, y, s=points, marker="x", color="#000000", linewidths=1.2, zorder=3)
    axes.set_aspect("equal")
    axes.spines[:].set_visible(False)
    axes.set_xticks([0, width - 1] if width > 1 else [0])
    axes.set_yticks([0, height - 1] if height > 1 else [0])
    axes.set_yticklabels([f"block {row * width}" for row in ((0, height - 1) if height > 1 else (0,))])
    axes.set_xticklabels(["+0", f"+{width - 1}"] if width > 1 else ["+0"])
    _legend(axes, [name for index, name in enumerate(names) if index in cells], bool(damaged), palette)


def _legend(axes: Any, names: list[str], damaged: bool, palette: Palette) -> None:
    handles: list[Any] = [Patch(color=REGIONS[name], label=name) for name in ("M", "P") if name in names]
    if "U" in names or "scalars" in names:
        handles.append(Patch(color=REGIONS["U"], label="U, scalars"))
    if "normaliser" in names or "reading" in names:
        handles.append(Patch(color=REGIONS["normaliser"], label="normaliser"))
    if damaged:
        handles.append(Patch(facecolor=DAMAGED, edgecolor="#000000", hatch="xxx", label="damaged (crossed)"))
    axes.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.08),
        ncols=len(handles),
        frameon=False,
        fontsize=8,
        labelcolor=palette.ink,
    )
