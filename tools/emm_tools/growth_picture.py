"""The figure of `emm bench growth`: µs per write against rank and against dim, beside the line O(dim · rank).

Purpose: show where the cost leaves its line. Invariants: always the Agg canvas, so no display is needed; no time stamp
in the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from emm.testing.growth import DIM_FIXED, RANK_FIXED, GrowthRow
from emm_tools.whole_file import whole_file

COLOURS = {"gated-delta": "#3b7dd8", "preconditioned": "#f0a63a"}
INK = "#22303c"


def draw_growth(rows: Sequence[GrowthRow], title: str, path: Path) -> None:
    """Write the figure to `path` (.png or .svg)."""
    figure = Figure(figsize=(11, 4.4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, name, fixed in ((left, "rank", ("dim", DIM_FIXED)), (right, "dim", ("rank", RANK_FIXED))):
        for rule, colour in COLOURS.items():
            mine = sorted(
                (row for row in rows if row.rule == rule and getattr(row, fixed[0]) == fixed[1]),
                key=lambda row: int(getattr(row, name)),
            )
            sizes = [getattr(row, name) for row in mine]
            axes.loglog(sizes, [row.us for row in mine], color=colour, marker="o", markersize=4, label=rule)
            axes.fill_between(
                sizes, [row.us_low for row in mine], [row.us_high for row in mine], color=colour, alpha=0.15
            )
            line = [row.line_us for row in mine]
            axes.loglog(sizes, line, color=colour, linestyle="--", linewidth=1, label=f"{rule}: c · dim · rank")
        axes.set_xscale("log", base=2)
        axes.set_xlabel(f"{name}, {fixed[0]} {fixed[1]}", color=INK, fontsize=9)
        axes.grid(alpha=0.25, which="both")
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8, colors=INK)
    left.set_ylabel("µs per write (median and quartiles)", color=INK, fontsize=9)
    left.legend(frameon=False, fontsize=8)
    figure.suptitle(title, color=INK, fontsize=10)
    kind = path.suffix.lower().lstrip(".")
    with whole_file(path) as file:
        figure.savefig(
            file, format=kind, metadata={"Software": "emm bench growth"} if kind == "png" else {"Date": None}
        )
