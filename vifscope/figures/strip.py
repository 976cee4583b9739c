"""Maps for a few samples beside the image with its target box: over layers (paper Figure 3), of several runs (6)."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Ellipse, Rectangle
from matplotlib.textpath import text_to_path
from PIL import Image

from vifscope.figures.lights import BRANCHES
from vifscope.figures.palette import MAP_COLOURS, shortened
from vifscope.figures.scale import bar_px, grid_lines, token_words
from vifscope.figures.theme import FONT_PT, LIGHT, TEXT_IN, Drawing, Theme, style

_GAP_IN, _EDGE_IN, _HEAD_IN, _LINE_IN, _SCALE_IN, _BAR_IN = 0.05, 0.06, 0.2, 0.135, 0.15, 0.55
_WIDEST_PANEL_IN = 1.35
LIGHTS_UNIT = "density, 1 = uniform; one square-root scale"
_MOST = {"question": 220, "answer": 80, "response": 160}  # characters of a caption


@dataclass(frozen=True)
class StripRow:
    """One sample: its picture with target boxes, its maps from left to right, and the words under them.

    grid:   of the visual tokens on the picture.
    lights: of each map the spotlights over it, [K, 5] (x, y, radii along x and y in pixels, weight); none by default.
    """

    picture: Image.Image
    grid: dict[str, Any]
    boxes: Iterable[Any]
    maps: Sequence[np.ndarray]
    caption: str
    lights: Sequence[np.ndarray] = ()


@dataclass(frozen=True)
class Strip:
    """titles: of the columns of maps.   unit: of the maps.   heads: words over the titles, and over how many each."""

    rows: Sequence[StripRow]
    titles: Sequence[str]
    unit: str = "flow per image area, 1 = uniform; one square-root scale for all maps"
    heads: Sequence[tuple[str, int]] = ()

    @property
    def largest(self) -> float:
        """Where the colours end: the 99.8 % quantile of the values of all maps, at least 1."""
        values = np.concatenate([shown.ravel() for row in self.rows for shown in row.maps])
        values = values[~np.isnan(values)]
        return max(1.0, float(np.quantile(values, 0.998))) if values.size else 1.0


def of_layers(strip: pd.DataFrame) -> Strip:
    """A row a sample: the image with its target boxes, then its map in each layer. strip: `map_strip`."""
    rows = [_strip_row(part, _caption(part.iloc[0])) for _, part in strip.groupby("sample_id", sort=False)]
    return Strip(rows, [f"layer {layer}" for layer in strip["layer"].unique()])


def of_runs(maps: pd.DataFrame) -> Strip:
    """A row a sample: the image with its target boxes, then its maps in the same layers of each run (paper Figure 6).

    maps: `maps_frame` of a comparison.
    """
    rows = []
    for _, part in maps.groupby("sample_id", sort=False):
        first_of_run = [run.iloc[0] for _, run in part.groupby("run", sort=False)]
        rows.append(_strip_row(part, _caption(part.iloc[0], [(row["run"], row) for row in first_of_run])))
    columns = maps[["run", "layer"]].drop_duplicates()
    heads = [(shortened(str(run), 24), len(part)) for run, part in columns.groupby("run", sort=False)]
    return Strip(rows, [f"layer {layer}" for layer in columns["layer"]], heads=heads)


def of_lights(strip: pd.DataFrame) -> Strip:
    """A row a sample: the image with its target boxes, then its spotlights from the question alone and with the answer
    (paper Figure 5), each an ellipse of one spread, the wider its line the larger its weight. strip: `light_strip`.
    """
    rows = [
        replace(_strip_row(part, _caption(part.iloc[0])), lights=part["lights"].tolist())
        for _, part in strip.groupby("sample_id", sort=False)
    ]
    titles = [BRANCHES[branch] for branch in strip["branch"].unique()]
    return Strip(rows, titles, LIGHTS_UNIT)


def strip_figure(strip: Strip, *, theme: Theme = LIGHT, width_in: float = TEXT_IN, grid: bool = True) -> Figure:
    """Images, their maps on one square-root colour scale, and under each row its question and answers.

    Under the image are a scale bar in its pixels and the size of a visual token; `grid` draws the edges of the tokens.
    """
    rows, titles, heads = strip.rows, strip.titles, strip.heads
    panel_in = min((width_in - 2 * _EDGE_IN - len(titles) * _GAP_IN) / (len(titles) + 1), _WIDEST_PANEL_IN)
    captions = [_wrap(_drawable(row.caption), width_in - 2 * _EDGE_IN) for row in rows]
    heights = [panel_in * min(row.picture.height / row.picture.width, 2.0) for row in rows]
    blocks = [
        height + _SCALE_IN + _LINE_IN * len(lines) + 0.12 for height, lines in zip(heights, captions, strict=True)
    ]
    head_in = _HEAD_IN + (_LINE_IN if heads else 0)
    total_in = head_in + sum(blocks) + _BAR_IN
    largest = strip.largest
    norm = PowerNorm(0.5, vmin=0, vmax=largest, clip=True)

    with style(theme):
        figure = Drawing(figsize=(width_in, total_in))

        def place(left_in: float, top_in: float, wide_in: float, high_in: float) -> Axes:
            return figure.add_axes(
                (left_in / width_in, 1 - (top_in + high_in) / total_in, wide_in / width_in, high_in / total_in)
            )

        column = 1
        for words, columns in heads:
            middle = _EDGE_IN + column * (panel_in + _GAP_IN) + (columns * (panel_in + _GAP_IN) - _GAP_IN) / 2
            figure.text(
                middle / width_in, 1 - 0.03 / total_in, _drawable(words), va="top", ha="center", parse_math=False
            )
            column += columns
        top_in = head_in
        for number, (row, height, lines, block) in enumerate(zip(rows, heights, captions, blocks, strict=True)):
            for column, shown in enumerate([row.picture, *row.maps]):
                axes = place(_EDGE_IN + column * (panel_in + _GAP_IN), top_in, panel_in, height)
                _panel(axes, shown, row.picture.size, norm)
                if column == 0 and grid:
                    _draw_grid(axes, row, height)
                _draw_boxes(axes, row.boxes, theme, bold=column == 0)
                if column and row.lights:
                    _draw_lights(axes, row.lights[column - 1], theme)
                if number == 0:
                    axes.set_title(["image", *titles][column], pad=3)
            shown_in = height * row.picture.width / row.picture.height  # in the middle of its panel
            _draw_scale(place(_EDGE_IN + (panel_in - shown_in) / 2, top_in + height, shown_in, _SCALE_IN), row, theme)
            text: dict[str, Any] = {"va": "top", "ha": "left", "linespacing": 1.15, "parse_math": False}
            below = 1 - (top_in + height + _SCALE_IN + 0.03) / total_in
            figure.text(_EDGE_IN / width_in, below, "\n".join(lines), fontsize=FONT_PT - 1, **text)
            top_in += block
        left_in = min(_EDGE_IN + panel_in + _GAP_IN, width_in / 4)  # its words are wider than it
        bar = place(left_in, total_in - _BAR_IN + 0.08, width_in * 0.5, 0.09)
        roots = np.arange(0, largest**0.5 + 1e-9, max(1, round(largest**0.5 / 5)))
        ends: dict[str, Any] = {"orientation": "horizontal", "extend": "max", "ticks": roots**2}
        figure.colorbar(ScalarMappable(norm, MAP_COLOURS), cax=bar, **ends).outline.set_linewidth(0)
        bar.set_xlabel(strip.unit, labelpad=2)
    return figure


def _panel(axes: Axes, shown: Any, size_px: tuple[int, int], norm: PowerNorm) -> None:
    wide, high = size_px
    how: dict[str, Any] = {"extent": (0, wide, high, 0), "interpolation": "nearest"}
    if isinstance(shown, np.ndarray):
        how |= {"cmap": MAP_COLOURS, "norm": norm}
    axes.imshow(shown, **how)
    axes.set(xticks=[], yticks=[], xlim=(0, wide), ylim=(high, 0))
    axes.spines[:].set_visible(False)


def _draw_grid(axes: Axes, row: StripRow, height_in: float) -> None:
    """Edges of the visual tokens, no wider than a tenth of one, light on a dark image and dark on a light one."""
    _, y0, _, y1 = row.grid["rect_px"]
    token_pt = 72 * height_in * (y1 - y0) / row.grid["rows"] / row.picture.height
    colour = "white" if np.asarray(row.picture.convert("L")).mean() < 150 else "black"
    line: dict[str, Any] = {"colors": colour, "linewidths": min(0.3, 0.1 * token_pt), "alpha": 0.4}
    axes.add_collection(LineCollection([*grid_lines(row.grid, row.picture.size)], **line))


def _draw_scale(axes: Axes, row: StripRow, theme: Theme) -> None:
    """A bar of a round number of pixels, as long as on the image over it, and how large a visual token is."""
    length = bar_px(row.picture.width)
    axes.set(xlim=(0, row.picture.width), ylim=(0, 1))
    axes.set_axis_off()
    axes.plot([0, length], [0.4, 0.4], color=theme.ink, linewidth=1.5, solid_capstyle="butt")
    said: dict[str, Any] = {"va": "center", "fontsize": FONT_PT - 1.5, "color": theme.muted}
    words = f"{length} px   {token_words(row.grid)}"
    axes.annotate(words, (length, 0.4), (4, 0), textcoords="offset points", annotation_clip=False, **said)


def _draw_boxes(axes: Axes, boxes: Iterable[Any], theme: Theme, *, bold: bool) -> None:
    """Target boxes; on the image, in bold, a little outside so that the line hides nothing of a tiny target."""
    wide, high = axes.get_xlim()[1], axes.get_ylim()[0]
    out = 0.015 * wide if bold else 0.0
    for box in boxes:
        (x0, x1), (y0, y1) = np.clip(box[0::2], 0, wide), np.clip(box[1::2], 0, high)
        for colour, width in (("white", 1.8), (theme.box, 1.0)) if bold else (("white", 0.7),):
            line: dict[str, Any] = {"edgecolor": colour, "linewidth": width}
            corner, size = (x0 - out, y0 - out), (x1 - x0 + 2 * out, y1 - y0 + 2 * out)
            axes.add_patch(Rectangle(corner, *size, fill=False, clip_on=not bold, **line))


def _draw_lights(axes: Axes, lights: np.ndarray, theme: Theme) -> None:
    for x, y, radius_x, radius_y, weight in lights:
        line: dict[str, Any] = {"edgecolor": theme.box, "linewidth": 0.5 + 1.5 * weight}
        axes.add_patch(Ellipse((x, y), 2 * radius_x, 2 * radius_y, fill=False, **line))


def _strip_row(part: pd.DataFrame, caption: str) -> StripRow:
    return StripRow(part["picture"].iloc[0], part["grid"].iloc[0], part["boxes"].iloc[0], part["map"].tolist(), caption)


def _caption(row: pd.Series, responses: Sequence[tuple[str, pd.Series]] = ()) -> str:
    """Question, answer and responses (each run's, or the row's own) in one line."""
    said = {name: _clip(row[name], most) for name, most in _MOST.items()}
    parts = [said["question"], f"Answer: {said['answer']}" if said["answer"] else ""]
    for who, response in responses or [("Response", row)]:
        words = _clip(response["response"], _MOST["response"]) or "(empty)"
        right = response["correct"]
        verdict = "" if pd.isna(right) else " (right)" if right else " (wrong)"
        parts.append(f"{shortened(who, 24)}: {words}{verdict}")
    return "   ".join(filter(None, parts))


def _clip(text: Any, most: int) -> str:
    line = " ".join(str(text).split()) if isinstance(text, str) else ""
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"


def _drawable(text: str) -> str:
    """With a square for each character that the font lacks."""
    return "".join(char if ord(char) in _glyphs() else "□" for char in text)


def _wrap(text: str, width_in: float) -> list[str]:
    """Lines of a caption, none of them wider than `width_in`."""
    characters = int(len(text) * width_in / _width_in(text)) + 1
    lines = textwrap.wrap(text, characters)
    while max(map(_width_in, lines)) > width_in:
        characters -= 1
        lines = textwrap.wrap(text, characters)
    return lines


def _width_in(text: str) -> float:
    """Width of a line; hinting at low resolution widens it by up to 5 %."""
    font = FontProperties(family="DejaVu Sans", size=FONT_PT - 1)
    return text_to_path.get_text_width_height_descent(text, font, ismath=False)[0] * 1.05 / 72


@cache
def _glyphs() -> frozenset[int]:
    return frozenset(font_manager.get_font(font_manager.findfont("DejaVu Sans")).get_charmap())
