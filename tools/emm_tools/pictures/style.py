"""Colours, text and files that all pictures share.

Purpose: one look, on white and on black. Invariants: series colours are Okabe and Ito's, which people with any common
colour blindness tell apart; damage also has a mark, so colour never speaks alone; text is never parsed; files hold no
time stamp and no random identifiers.
"""

from __future__ import annotations

import io
import re
import textwrap
import warnings
from dataclasses import dataclass, fields
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

BLUE, ORANGE, SKY, GREEN = "#0072b2", "#e69f00", "#56b4e9", "#009e73"
PURPLE, DAMAGED = "#cc79a7", "#d55e00"
TITLE_WIDTH = 58  # characters: what the narrowest panel of the sheet holds


@dataclass(frozen=True, slots=True)
class Palette:
    """What depends on the paper: text, lines that only guide the eye, and the two leading series colours."""

    paper: str
    ink: str
    faint: str
    first: str
    second: str


LIGHT = Palette("#ffffff", "#22303c", "#76838f", BLUE, "#c47f00")
DARK = Palette("#14191f", "#e6ebf0", "#8d99a5", SKY, ORANGE)


def new_figure(width: float, height: float, palette: Palette) -> Figure:
    """An empty figure of that many inches."""
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained", facecolor=palette.paper)
    FigureCanvasAgg(figure)
    return figure


def style_axes(axes: Any, palette: Palette, title: str, x: str = "", y: str = "") -> None:
    """Title, labels, ticks and a faint grid."""
    axes.set_facecolor(palette.paper)
    axes.set_title(textwrap.fill(title, TITLE_WIDTH), color=palette.ink, fontsize=10, loc="left", parse_math=False)
    axes.set_xlabel(x, color=palette.ink, fontsize=9, parse_math=False)
    axes.set_ylabel(y, color=palette.ink, fontsize=9, parse_math=False)
    axes.tick_params(labelsize=8, colors=palette.ink, which="both")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(palette.faint)
    axes.grid(alpha=0.25, color=palette.faint, linewidth=0.6)


def legend(axes: Any, palette: Palette, **where: Any) -> None:
    """A legend without a frame, in the ink of the paper."""
    axes.legend(frameon=False, fontsize=8, labelcolor=palette.ink, **where)


def say_nothing_to_show(axes: Any, palette: Palette, why: str) -> None:
    """The reason, in place of data."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    axes.text(
        0.5,
        0.5,
        why,
        ha="center",
        va="center",
        wrap=True,
        fontsize=9,
        color=palette.faint,
        transform=axes.transAxes,
        parse_math=False,
    )


def encoded(figure: Figure, kind: str) -> bytes:
    """The figure as "png" or "svg"."""
    metadata: dict[str, Any] = (
        {"Date": None, "Creator": "emm-inspect"} if kind == "svg" else {"Software": "emm-inspect"}
    )
    buffer = io.BytesIO()
    with warnings.catch_warnings(), matplotlib.rc_context({"svg.hashsalt": "emm-inspect", "svg.fonttype": "path"}):
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a name in a script that the font lacks
        figure.savefig(buffer, format=kind, metadata=metadata, facecolor=figure.get_facecolor())
    return buffer.getvalue()


def recoloured(svg: bytes, before: Palette, after: Palette) -> bytes:
    """An SVG drawn with one palette, in another: the same drawing, without laying it out again."""
    colours = {getattr(before, each.name): getattr(after, each.name) for each in fields(Palette)}
    pattern = re.compile("|".join(map(re.escape, colours)))
    return pattern.sub(lambda match: colours[match[0]], svg.decode("utf-8")).encode("utf-8")
