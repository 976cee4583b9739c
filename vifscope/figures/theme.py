"""Sizes and colours of the figures, and how they are saved.

Colours are after Okabe and Ito's, which stay apart in every kind of colour blindness; maps use cividis, whose lightness
rises evenly.
"""

from __future__ import annotations

import io
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import seaborn as sns
from matplotlib.figure import Figure

COLUMN_IN = 3.33
TEXT_IN = 6.9
FONT_PT = 8.0


@dataclass(frozen=True)
class Theme:
    """Colours of one figure. runs: of the runs that are compared, by their place; the first is the baseline's."""

    ink: str
    muted: str
    page: str
    shade: str
    ratio: str
    lift: str
    violin: str
    focus: str
    box: str
    shares: tuple[str, ...]
    runs: tuple[str, ...]


LIGHT = Theme(
    ink="#1f2328",
    muted="#6b7280",
    page="#ffffff",
    shade="#e9ebee",
    ratio="#d55e00",
    lift="#0072b2",
    violin="#7fb3d5",
    focus="#009e73",
    box="#ff5a1f",
    shares=("#d55e00", "#4d4d4d", "#a6a6a6", "#56b4e9", "#009e73"),
    runs=("#4d4d4d", "#d55e00", "#0072b2", "#009e73", "#b3548c", "#a67c00"),
)
DARK = Theme(
    ink="#e6e8eb",
    muted="#9aa3ad",
    page="#16191d",
    shade="#262b31",
    ratio="#f28e4b",
    lift="#62b5ea",
    violin="#3f6f94",
    focus="#3cc79f",
    box="#ff7a45",
    shares=("#f28e4b", "#c8c8c8", "#7d7d7d", "#62b5ea", "#3cc79f"),
    runs=("#c8c8c8", "#f28e4b", "#62b5ea", "#3cc79f", "#e5a0c6", "#f0c04f"),
)


class Drawing(Figure):
    """A figure that a notebook shows by itself, at its size on paper; without pyplot and its global state."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        width, height = (round(96 * inches) for inches in self.get_size_inches())
        return render(self, "png"), {"width": width, "height": height}


def style(theme: Theme) -> AbstractContextManager[Any]:
    """matplotlib settings of a figure, valid inside the `with` block."""
    settings = sns.axes_style("ticks") | {
        "font.family": ["DejaVu Sans"],  # ships with matplotlib: the same figure on every machine
        "font.size": FONT_PT,
        "axes.titlesize": FONT_PT,
        "axes.labelsize": FONT_PT,
        "xtick.labelsize": FONT_PT - 1,
        "ytick.labelsize": FONT_PT - 1,
        "legend.fontsize": FONT_PT - 1,
        "legend.frameon": False,
        "axes.linewidth": 0.6,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "xtick.major.size": 2.5,
        "ytick.major.size": 2.5,
        "ytick.minor.size": 0,
        "xtick.bottom": True,
        "ytick.left": True,
        "lines.linewidth": 1.3,
        "figure.facecolor": theme.page,
        "axes.facecolor": theme.page,
        "savefig.facecolor": theme.page,
        **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), theme.ink),
    }
    return mpl.rc_context(settings)


def render(figure: Figure, suffix: str) -> bytes:
    """`figure` as "png" at 300 dpi, "pdf" with embedded TrueType (type 42) fonts, or "svg" with text as outlines.

    The same figure gives the same bytes.
    """
    dates: dict[str, Any] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
    buffer = io.BytesIO()
    with mpl.rc_context({"pdf.fonttype": 42, "svg.fonttype": "path", "svg.hashsalt": "vifscope"}):
        figure.savefig(buffer, format=suffix, dpi=300, metadata=dates.get(suffix))
    return buffer.getvalue()


def save(figure: Figure, path: str | Path) -> Path:
    """Writes `figure` to `path` in the format of its suffix (see `render`), and returns `path`."""
    path = Path(path)
    path.write_bytes(render(figure, path.suffix.removeprefix(".")))
    return path
