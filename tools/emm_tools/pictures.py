"""One figure of a memory: block map, singular spectrum of M, and its history over time.

Purpose: what `emm-inspect --picture` writes. Invariants: the only module beside `growth_picture` that imports
matplotlib, always with the Agg canvas, so no display is needed; the same memory gives the same picture (no time stamps
in the file).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

import emm
from emm_tools.inspect_text import when

INK, FAINT = "#22303c", "#8a97a3"
REGION_COLOURS = {"M": "#3b7dd8", "P": "#f0a63a", "U": "#8e6bbf", "scalars": "#8e6bbf"}
REGION_COLOURS |= {"normaliser": "#4c9f70", "reading": "#4c9f70"}
DAMAGED = "#d62839"
EMPTY = "#ffffff"


def draw(found: emm.Inspection, path: Path) -> None:
    """Write the figure to `path`; its suffix (.png or .svg) chooses the format."""
    figure = Figure(figsize=(13, 4.4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    blocks, singular, history = figure.subplots(1, 3)
    _block_map(blocks, found)
    _spectrum(singular, found)
    _history(history, found)
    figure.suptitle(_title(found), color=INK, fontsize=11)
    kind = path.suffix.lower().lstrip(".")
    metadata: dict[str, Any] = {"Date": None} if kind == "svg" else {"Software": "emm-inspect"}
    figure.savefig(path, format=kind, metadata=metadata)


def _title(found: emm.Inspection) -> str:
    parts = [Path(found.url.rstrip("/")).name or found.url]
    if found.shape is not None:
        rank = found.state.rank if found.state is not None else found.shape.rank
        parts.append(f"M {found.shape.dim} × {rank}, {found.shape.rule}")
        parts.append(f"generation {found.generation}, LSN {found.lsn}")
    if found.state is not None:
        parts.append(f"digest {found.state.digest[:12]}…")
    return "   ".join(parts)


def _block_map(axes: Any, found: emm.Inspection) -> None:
    """One square for each 64 KiB block, coloured by the region that begins it, red where checksums fail."""
    names = list(REGION_COLOURS)
    axes.set_title(f"blocks of 64 KiB, generation {found.generation}", color=INK, fontsize=10)
    axes.set_xticks([])
    axes.set_yticks([])
    n_blocks = len(found.blocks)
    if not n_blocks:
        _nothing(axes, "no snapshot")
        return
    width = max(math.ceil(math.sqrt(n_blocks)), 1)
    height = -(-n_blocks // width)
    cells = np.full(width * height, len(names) + 1)
    for block in found.blocks:
        region = block.holds[0].region if block.holds else names[-1]
        cells[block.index] = len(names) if block.problem else names.index(region)
    colours = ListedColormap([*REGION_COLOURS.values(), DAMAGED, EMPTY])
    axes.pcolormesh(
        cells.reshape(height, width), cmap=colours, vmin=-0.5, vmax=len(names) + 1.5, edgecolors=EMPTY, linewidth=1.5
    )
    axes.invert_yaxis()
    axes.set_aspect("equal")
    damaged = sum(block.problem is not None for block in found.blocks)
    legend = [Patch(color=REGION_COLOURS[name], label=name) for name in names if name in _regions_of(found)]
    legend.append(Patch(color=DAMAGED, label=f"damaged: {damaged} of {n_blocks}"))
    axes.legend(
        handles=legend, loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=len(legend), frameon=False, fontsize=8
    )


def _regions_of(found: emm.Inspection) -> set[str]:
    return {block.holds[0].region for block in found.blocks if block.holds}


def _style(axes: Any, title: str, x: str, y: str) -> None:
    axes.set_title(title, color=INK, fontsize=10)
    axes.set_xlabel(x, color=INK, fontsize=9)
    axes.set_ylabel(y, color=INK, fontsize=9)
    axes.tick_params(labelsize=8, colors=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)


def _nothing(axes: Any, why: str) -> None:
    axes.text(0.5, 0.5, why, ha="center", color=FAINT, transform=axes.transAxes)


def _spectrum(axes: Any, found: emm.Inspection) -> None:
    _style(axes, "singular values of M", "index", "σ")
    state = found.state
    if state is None or not any(state.spectrum):
        _nothing(axes, "M is zero" if state is not None else "no state")
        return
    values = np.array(state.spectrum)
    axes.semilogy(np.arange(1, len(values) + 1), np.where(values > 0, values, np.nan), color=REGION_COLOURS["M"])
    axes.axvline(state.effective_rank, color=REGION_COLOURS["P"], linestyle="--", linewidth=1)
    axes.annotate(
        f"effective rank {state.effective_rank:.1f} of {state.rank}",
        (state.effective_rank, 0.03),
        xycoords=("data", "axes fraction"),
        fontsize=8,
        color=INK,
        xytext=(4, 0),
        textcoords="offset points",
    )


def _history(axes: Any, found: emm.Inspection) -> None:
    """Saturation (left axis) and mean surprise (right axis) after each commit; pairs are in the title."""
    pairs = sum(commit.n_pairs for commit in found.commits)
    _style(axes, f"history: {len(found.commits)} commits, {pairs} pairs", "commit (LSN)", "saturation")
    if not found.commits:
        _nothing(axes, "no commit in the journal")
        return
    lsns = [commit.lsn for commit in found.commits]
    full = [math.nan if commit.saturation is None else commit.saturation for commit in found.commits]
    axes.plot(lsns, full, color=REGION_COLOURS["M"], marker="." if len(lsns) < 50 else None)
    axes.set_ylim(0, 1)
    if found.shape is not None and found.shape.expand_at:
        axes.axhline(found.shape.expand_at, color=FAINT, linestyle="--", linewidth=0.8)
    right = axes.twinx()
    right.plot(lsns, [commit.surprise for commit in found.commits], ".", markersize=3, color=REGION_COLOURS["P"])
    right.set_ylabel("mean surprise ‖e‖ of the commit (orange)", color=INK, fontsize=9)
    right.set_ylim(bottom=0)
    right.tick_params(labelsize=8, colors=INK)
    right.spines[["top", "left"]].set_visible(False)
    for snapshot in found.snapshots:
        if snapshot.lsn is not None and lsns[0] <= snapshot.lsn <= lsns[-1]:
            axes.axvline(snapshot.lsn, color=FAINT, linewidth=0.8, linestyle=":")
    span = " to ".join(when(found.commits[i].time_us) for i in (0, -1))
    axes.set_xlabel(f"commit (LSN), {span} UTC\ndotted: checkpoints; dashed: expands", fontsize=8, color=INK)
