"""Saturation and utilisation after each commit.

Purpose: see how full a memory is, how it got there, and when it will expand. Invariants: both are shares of 1 on one
axis; commits that were not replayed are gaps, never interpolated, and the reason is in the picture.
"""

from __future__ import annotations

import math
import textwrap
from typing import Any

import emm
from emm_tools.pictures.style import Palette, legend, say_nothing_to_show, style_axes

NOTE_WIDTH = 76


def fullness(axes: Any, found: emm.Inspection, palette: Palette, why: str = "no commit in the journal") -> None:
    """Draw both shares against the commit's number."""
    style_axes(
        axes,
        palette,
        "Saturation and utilisation after each commit",
        "commit (LSN)",
        "share of the rank",
    )
    state = found.state
    if not found.commits and (state is None or found.lsn is None):  # a state before any commit is a v3 file's
        say_nothing_to_show(axes, palette, found.history_problem or found.state_problem or why)
        return
    known = [commit for commit in found.commits if commit.saturation is not None]
    marker = "." if len(known) < 50 else None
    lsns = [commit.lsn for commit in found.commits]
    shares = [math.nan if commit.saturation is None else commit.saturation for commit in found.commits]
    if known:
        label = "saturation"
        axes.plot(lsns, shares, color=palette.first, linewidth=1.6, marker=marker, label=label)
    sampled = [commit for commit in found.commits if commit.utilisation is not None]
    label = "utilisation"
    look = {"color": palette.second, "linestyle": "--", "marker": "o", "markersize": 3.5, "linewidth": 1.2}
    if sampled:
        axes.plot([c.lsn for c in sampled], [c.utilisation for c in sampled], label=label, **look)
    elif state is not None and found.lsn is not None:
        if state.saturation is not None:
            axes.plot([found.lsn], [state.saturation], "D", color=palette.first, label="saturation now")
        if state.utilisation is not None:
            axes.plot([found.lsn], [state.utilisation], "o", color=palette.second, label="utilisation now")
    expand_at = found.shape.expand_at if found.shape is not None else 0.0
    if expand_at:
        axes.axhline(expand_at, color=palette.faint, linewidth=1, linestyle=":")
        note = f"expands at {expand_at:g}"
        axes.text(
            0.99,
            expand_at + 0.01,
            note,
            ha="right",
            va="bottom",
            fontsize=8,
            color=palette.ink,
            transform=axes.get_yaxis_transform(),
        )
    checkpoints = [s.lsn for s in found.snapshots if s.lsn is not None and s.lsn > 0]
    if checkpoints:
        axes.plot(checkpoints, [0.012] * len(checkpoints), "^", color=palette.faint, markersize=5, label="checkpoint")
    last = max([*lsns, *checkpoints, found.lsn or 0], default=1)
    first = min([*lsns, *checkpoints], default=0)
    pad = max((last - first) * 0.04, 0.9)
    axes.set_xlim(first - pad, last + pad)
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    if found.history_problem is not None:
        note = textwrap.fill(f"gaps: {found.history_problem}", NOTE_WIDTH)
        axes.set_xlabel(f"commit (LSN)\n{note}", color=palette.ink, fontsize=8, parse_math=False)
    axes.set_ylim(0, 1.17)  # a band above 1, for the legend
    axes.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    legend(axes, palette, loc="upper left", ncols=3, columnspacing=1.2, handletextpad=0.5)
