"""Pictures of ordinary and of odd memories: all text lies on the paper and no text lies on other text.

Red when: a label is cut off at the edge, a title, legend or label covers another, a panel fails on one commit, one
block, a flat spectrum or a clock that no calendar holds, or a dark picture keeps the ink of the light one.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import emm
from emm.inspection import HeatMap, SpectrumView, spectrum_of
from emm.inspection.values import BlockInfo, CommitInfo, ShapeInfo, SnapshotInfo
from emm.verify.finding import Span
from emm_tools.pictures import sheet
from emm_tools.pictures.style import DARK, LIGHT, new_figure

START_US = 1_795_577_897_039_807


def commits(count: int, *, step_us: int = 7_200_000_000, start_us: int = START_US) -> tuple[CommitInfo, ...]:
    rng = np.random.default_rng(count)
    actions = ["write"] * 6 + ["unlearn", "forget", "write+expand"]
    return tuple(
        CommitInfo(
            i + 1,
            start_us + i * step_us,
            actions[i % len(actions)],
            3,
            float(abs(rng.standard_normal()) * 10),
            1,
            128,
            saturation=None if i < count // 3 else min(0.9, i / count),
            utilisation=0.5 * i / count if i % 7 == 0 and i >= count // 3 else None,
        )
        for i in range(count)
    )


def blocks(count: int, damaged: tuple[int, ...] = ()) -> tuple[BlockInfo, ...]:
    return tuple(
        BlockInfo(i, 0, (Span("M" if i < 0.8 * count else "P", (0, 1), None),), "", "", "bad" if i in damaged else None)
        for i in range(count)
    )


def spectrum(values: Any, rank: int) -> SpectrumView:
    found = spectrum_of(np.diag(np.asarray(values, np.float32)))
    source = "generation 7 as stored, commit 64"
    energy = found.rank_holding(0.9), found.rank_holding(0.99)
    return SpectrumView(
        "m", source, rank, rank, 192, found.values, found.effective_rank, 0.4, 0.5, *energy, "x", None, 4
    )


def sources(**changes: Any) -> sheet.Sources:
    shape = ShapeInfo(768, 384, 256, "preconditioned", "hadamard", 1, 0.015625, (), 0.85)
    snapshots = tuple(SnapshotInfo(f"{n}", 10, n, 20 * n) for n in (1, 2, 3))
    given: dict[str, Any] = {"commits": commits(60), "blocks": blocks(40, (3, 17)), "snapshots": snapshots}
    given |= {key: value for key, value in changes.items() if key in given}
    found = emm.Inspection(
        url="a folder with a long name, " * 6,
        kind="memory",
        uuid=None,
        shape=shape,
        generation=7,
        lsn=60,
        chain=None,
        parent_uuid=None,
        parent_sha256=None,
        metadata={},
        regions=(),
        segments=(),
        history_problem="commits 1–20 cannot be replayed on a generation that is still there",
        **given,
    )
    cells = HeatMap(np.random.default_rng(1).random((64, 64)), 12, 4, 768, 256)
    values = changes.get("values", np.geomspace(100, 1e-4, 64))
    title = "Heat map of M, 768 × 256 (generation 7 as stored, commit 64, 192 damaged rows hatched)"
    return sheet.Sources(
        found, spectrum(values, len(values)), changes.get("heat", cells), title, "nothing to show, " * 12
    )


CASES: dict[str, dict[str, Any]] = {
    "ordinary": {},
    "one commit, one block": {"commits": commits(1), "blocks": blocks(1), "values": [1.0]},
    "nothing": {"commits": (), "blocks": (), "snapshots": (), "heat": None, "values": [0.0]},
    "a long life": {"commits": commits(9000), "blocks": blocks(5000, (1, 2, 900, 4999)), "values": np.ones(300)},
    "no calendar": {"commits": commits(40, start_us=2**62), "values": [*np.ones(4), *np.full(400, 1e-9)]},
    "one second": {"commits": commits(40, step_us=1000), "blocks": blocks(3, (0, 1, 2))},
}


def texts(figure: Any) -> list[tuple[str, Any]]:
    """(text, extent in pixels) of every title, label, legend and remark of a drawn figure."""
    found = []
    renderer = figure.canvas.get_renderer()
    for axes in figure.get_axes() if hasattr(figure, "get_axes") else figure.axes:
        parts = [axes.title, axes._left_title, axes.xaxis.label, axes.yaxis.label, *axes.texts]
        parts += [axes.get_legend()] if axes.get_legend() is not None else []
        for part in parts:
            text = part.get_text() if hasattr(part, "get_text") else "legend"
            if text:
                found.append((text, part.get_window_extent(renderer)))
    if figure._suptitle is not None:
        found.append((figure._suptitle.get_text(), figure._suptitle.get_window_extent(renderer)))
    return found


def check(figure: Any) -> None:
    figure.canvas.draw()
    width, height = figure.canvas.get_width_height()
    found = texts(figure)
    for text, box in found:
        assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1, (text, box)
    for (one, a), (two, b) in itertools.combinations(found, 2):
        across, down = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert across <= 1 or down <= 1, (one, two, across, down)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("panel", sheet.PANELS)
def test_no_text_is_cut_off_or_covered(panel: str, case: str) -> None:
    given = sources(**CASES[case])
    sizes = [sheet.PAGE_SIZES.get(panel, sheet.PAGE_SIZE)]
    if case == "ordinary":
        sizes.append(sheet.SIZES.get(panel, sheet.SIZE))
    for size in sizes:
        figure = new_figure(*size, LIGHT)
        sheet._panel(figure, panel, given, LIGHT)
        check(figure)


@pytest.mark.parametrize("case", ["ordinary", "nothing"])
def test_the_sheet_has_room_for_all(case: str) -> None:
    check(sheet._sheet(sources(**CASES[case]), LIGHT))


def test_dark_pictures_keep_nothing_of_the_light_paper() -> None:
    for panel in sheet.PANELS:
        light, dark = (each.decode() for each in sheet.svgs(panel, sources()))
        assert LIGHT.ink in light and DARK.ink in dark and DARK.paper in dark
        assert not any(colour in dark for colour in (LIGHT.ink, LIGHT.paper, LIGHT.faint))
