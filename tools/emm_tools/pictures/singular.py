"""The singular spectrum of M, with its effective rank.

Purpose: how many directions a memory really uses. Invariants: values on a logarithmic axis that ends where binary32 is
noise; what could not be computed is said in the picture.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from emm.inspection import SpectrumView
from emm_tools.pictures.style import Palette, say_nothing_to_show, style_axes

FLOOR = 1e-8  # of the largest value: below it the eigenvalue problem knows nothing


def singular(axes: Any, found: SpectrumView | None, palette: Palette, why: str = "") -> None:
    """Draw the spectrum, or the reason why there is none."""
    title = "Singular values of M"
    if found is None or found.effective_rank is None:
        style_axes(axes, palette, title)
        say_nothing_to_show(axes, palette, (found.limit if found is not None else why) or "no state")
        return
    left_out = f", {found.n_rows_left_out} damaged rows left out" if found.n_rows_left_out else ""
    style_axes(axes, palette, f"{title} ({found.source}{left_out})", "index", "σ (log scale)")
    values = np.asarray(found.values)
    if not len(values) or values[0] <= 0:
        say_nothing_to_show(axes, palette, "M is zero")
        return
    shown = np.where(values > FLOOR * values[0], values, np.nan)
    index = np.arange(1, len(values) + 1)
    marker = "." if len(values) <= 128 else None
    axes.semilogy(index, shown, color=palette.first, linewidth=1.6, marker=marker, markersize=4)
    bottom = float(np.nanmin(shown))
    axes.set_ylim(bottom / 1.5, values[0] * 1.6)
    axes.set_xlim(0, len(values) + 1)
    axes.axvspan(0, found.effective_rank, color=palette.first, alpha=0.10, linewidth=0)
    axes.axvline(found.effective_rank, color=palette.second, linestyle="--", linewidth=1.4)
    right = found.effective_rank > 0.55 * len(values)
    text = f"effective rank {found.effective_rank:.1f} of {found.rank}"
    if found.rank_holding_99 is not None:
        text += f"\n99 % of the energy in {found.rank_holding_99}"
    axes.annotate(
        text,
        (found.effective_rank, 0.04),
        xycoords=("data", "axes fraction"),
        xytext=(-5 if right else 5, 0),
        textcoords="offset points",
        ha="right" if right else "left",
        va="bottom",
        fontsize=8,
        color=palette.ink,
    )
