"""The singular spectrum of M, with its effective rank.

Purpose: how many directions a memory really uses. Invariants: values on a logarithmic axis that ends where binary32 is
noise; what could not be computed is said in the picture.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from emm.inspection import SpectrumView
from emm_tools.pictures.style import Palette, legend, say_nothing_to_show, style_axes

COUNTS = 1e-5  # of the largest value: below it there is only the rounding of float32
FLOOR = 1e-8  # of the largest value: below it the eigenvalue problem knows nothing


def singular(axes: Any, found: SpectrumView | None, palette: Palette, why: str = "") -> None:
    """Draw the spectrum, or the reason why there is none."""
    title = "Singular values of M"
    if found is None or found.effective_rank is None:
        style_axes(axes, palette, title)
        say_nothing_to_show(axes, palette, (found.limit if found is not None else why) or "no state")
        return
    title += f": effective rank {found.effective_rank:.1f} of {found.rank}"
    if found.rank_holding_99 is not None:
        title += f", 99 % of the energy in the first {found.rank_holding_99}"
    left_out = f"; {found.n_rows_left_out} damaged rows left out" if found.n_rows_left_out else ""
    style_axes(axes, palette, f"{title} ({found.source}{left_out})", f"index (of {len(found.values)})", "σ (log scale)")
    values = np.asarray(found.values)
    if not len(values) or values[0] <= 0:
        say_nothing_to_show(axes, palette, "M is zero")
        return
    shown = np.where(values > FLOOR * values[0], values, np.nan)
    index = np.arange(1, len(values) + 1)
    marker = "." if _last_index(values) <= 128 else None
    axes.semilogy(index, shown, color=palette.first, linewidth=1.6, marker=marker, markersize=4, label="σ")
    span = max(float(values[0] / np.nanmin(shown)), 2.0)
    axes.set_ylim(values[0] / span**1.05, values[0] * span**0.2)  # a band above the curve, for the legend
    axes.set_xlim(0, _last_index(values) + 1)
    axes.axvspan(0, found.effective_rank, color=palette.first, alpha=0.10, linewidth=0)
    axes.axvline(found.effective_rank, color=palette.second, linestyle="--", linewidth=1.4, label="effective rank")
    legend(axes, palette, loc="upper right", ncols=2)


def _last_index(values: Any) -> int:
    """Where the axis ends: all values where many of them count, else a stretch beyond the last one that does."""
    counting = int((values >= COUNTS * values[0]).sum())
    return len(values) if 3 * counting >= len(values) else min(2 * counting + 8, len(values))
