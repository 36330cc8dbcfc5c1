"""The write history: pairs over time, and how surprising they were.

Purpose: tell the life of a memory. Invariants: time in UTC where every commit's clock lies in one lifetime, else the
commit's number, and the axis says which; long histories are thinned to `POINTS_MAX` points, evenly.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import matplotlib.dates as dates
import numpy as np

from emm_tools.exits import counted
from emm_tools.pictures.style import Palette, legend, say_nothing_to_show, style_axes

POINTS_MAX = 4000
NUMBERED = "commit (LSN)"
SPAN_US_MIN = 10_000_000  # a shorter life is told by commit
CLOCK_US = (
    int(datetime(1990, 1, 1, tzinfo=UTC).timestamp() * 1e6),
    int(datetime(2150, 1, 1, tzinfo=UTC).timestamp() * 1e6),
)
DATE_FORMATS = ["%Y", "%b %Y", "%d %b", "%H:%M", "%H:%M", "%H:%M:%S"]
OTHERS = (("unlearn", "v"), ("forget", "s"), ("expand", "^"))


def history(
    upper: Any, lower: Any, commits: Sequence[Any], palette: Palette, why: str = "no commit in the journal"
) -> None:
    """Pairs so far on the upper axes, mean surprise of each commit on the lower."""
    style_axes(upper, palette, _title(commits), "", "pairs written so far")
    style_axes(lower, palette, "Mean surprise ‖e‖ of each commit (low: already known)", "", "‖e‖")
    if not commits:
        for axes in (upper, lower):
            say_nothing_to_show(axes, palette, why)
        return
    every = max(-(-len(commits) // POINTS_MAX), 1)
    total = np.cumsum([commit.n_pairs if "write" in commit.action else 0 for commit in commits])
    x, label = _axis(commits)
    by_number = label == NUMBERED
    marker = "o" if len(commits) < 30 else None
    upper.step(
        x[::every], total[::every], where="post", color=palette.first, linewidth=1.6, marker=marker, markersize=3.5
    )
    upper.fill_between(x[::every], total[::every], step="post", color=palette.first, alpha=0.15, linewidth=0)
    for action, marker in OTHERS:
        at = [i for i, commit in enumerate(commits) if action in commit.action][:POINTS_MAX]
        if at:
            few = len(at) <= 30
            look = {"color": palette.second, "markersize": 6 if few else 3, "markeredgewidth": 0.8 if few else 0}
            upper.plot(x[at], total[at], marker, markeredgecolor=palette.ink, label=f"{action} ({len(at)})", **look)
    if upper.get_legend_handles_labels()[0]:
        legend(upper, palette, loc="upper left")
    upper.set_ylim(0, max(float(total[-1]) * 1.12, 1))
    surprise = np.array([commit.surprise for commit in commits])
    lower.plot(x[::every], surprise[::every], ".", color=palette.second, markersize=5 if len(commits) < 300 else 2.5)
    if len(commits) >= 20:
        middle = _moving_median(surprise, max(len(commits) // 40, 5))
        lower.plot(x[::every], middle[::every], color=palette.first, linewidth=1.4, label="moving median")
        legend(lower, palette, loc="upper left")
    lower.set_ylim(0, max(float(surprise.max()) * 1.4, 1e-6))
    if by_number:
        pad = max((commits[-1].lsn - commits[0].lsn) * 0.03, 0.9)
        lower.set_xlim(commits[0].lsn - pad, commits[-1].lsn + pad)
        lower.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    lower.set_xlabel(label, color=palette.ink, fontsize=9)
    upper.tick_params(labelbottom=False)


def _title(commits: Sequence[Any]) -> str:
    pairs = sum(commit.n_pairs for commit in commits)
    if not commits:
        return "Write history"
    return f"Write history: {counted(len(commits), 'commit')} with {counted(pairs, 'pair')}"


def _axis(commits: Sequence[Any]) -> tuple[Any, str]:
    """The x of each commit and its label; the axis shows times where they can be believed and differ."""
    times = np.array([commit.time_us for commit in commits], object)
    believable = all(CLOCK_US[0] <= time <= CLOCK_US[1] for time in times) and all(times[:-1] <= times[1:])
    if not believable or times[-1] - times[0] < SPAN_US_MIN:
        return np.array([commit.lsn for commit in commits]), NUMBERED
    first = datetime.fromtimestamp(int(times[0]) // 1_000_000, UTC).strftime("%Y-%m-%d %H:%M")
    return times.astype(np.int64).astype("datetime64[us]"), f"time (UTC), from {first}"


def concise(axes: Any) -> None:
    """Short date labels, where the axis shows dates."""
    if isinstance(axes.xaxis.get_major_formatter(), dates.AutoDateFormatter):
        locator: Any = dates.AutoDateLocator(maxticks=7)  # type: ignore[no-untyped-call]
        axes.xaxis.set_major_locator(locator)
        formatter: Any = dates.ConciseDateFormatter(locator, formats=DATE_FORMATS, show_offset=False)  # type: ignore[no-untyped-call]
        axes.xaxis.set_major_formatter(formatter)


def _moving_median(values: Any, width: int) -> Any:
    """The median of each value's neighbourhood of `width` values."""
    half = width // 2
    padded = np.pad(values, (half, width - 1 - half), mode="edge")
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, width), axis=1)
