"""The figures of `static`, `contrast` and `strip` in plotly: the same tables, titles, units and legends.

Numbers show under the pointer. Colours suit a light and a dark page alike; a run keeps its colour, by its place.
"""

from __future__ import annotations

import textwrap
from typing import Any
from unicodedata import east_asian_width

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.colors import sample_colorscale
from plotly.subplots import make_subplots

from vifscope.figures.contrast import NEUTRAL, PANELS
from vifscope.figures.frames import SHARES
from vifscope.figures.interactive import BOX, INK, RATIO, RULE, curve, picture_source, plain, quiet, shade_deep
from vifscope.figures.palette import MAP_COLOURS, RUNS, shortened
from vifscope.figures.scale import bar_px, grid_lines, token_words
from vifscope.figures.static import SHARE_NAMES
from vifscope.figures.strip import Strip, StripRow

LIFT, FOCUS = "#2a8fcf", "#009e73"
SHARE_COLOURS = ("#d55e00", "#66707a", "#a6a6a6", "#56b4e9", "#009e73")
COLUMN_PX, TEXT_PX = 460, 940
"""Widths of figures of maps, of a column and of the text."""

_GAP_PX, _LINE_PX, _SCALE_PX, _BAR_PX = 6, 17, 20, 62
_WIDEST_PANEL_PX = 190
_MOST_CELLS = 120  # a side of a map; of a finer one every second or third is drawn


def attenuation_figure(frame: pd.DataFrame) -> go.Figure:
    """Visual ratio by layer, and the ratio lift under it (`static.attenuation_figure`). frame: `attenuation_frame`."""
    return _two_panels(frame, {"visual_ratio": RATIO, "ratio_lift": LIFT}, (1.6, 1))


def focus_figure(frame: pd.DataFrame) -> go.Figure:
    """Relative entropy and box lift by layer (`static.focus_figure`). frame: `focus_frame`."""
    figure = _two_panels(frame, {"relative_entropy": FOCUS, "box_lift": LIFT}, (1, 1))
    if frame["box_lift"].isna().all():
        _say(figure, "undefined: no target boxes", 2)
    return figure


def shares_figure(frame: pd.DataFrame) -> go.Figure:
    """Where each layer's attention goes, stacked (`static.shares_figure`). frame: `shares_frame`."""
    figure = go.Figure()
    for share, name, colour in zip(SHARES, SHARE_NAMES, SHARE_COLOURS, strict=True):
        figure.add_bar(
            x=frame["layer"], y=frame[share], name=name, marker={"color": colour, "line": {"width": 0}},
            hovertemplate=f"{name}: %{{y:.4g}}<extra></extra>",
        )  # fmt: skip
    figure.update_layout(barmode="stack", bargap=0.14, legend={**_LEGEND, "traceorder": "normal"})
    figure.update_yaxes(title_text="share of attention", range=[0, 1])
    return _by_layer(figure, len(frame), 340)


def video_figure(frame: pd.DataFrame) -> go.Figure:
    """Visual ratio and entropy by frame of the videos and layer (`static.video_figure`). frame: `video_frame`."""
    figure = make_subplots(2, 1, shared_xaxes=True, vertical_spacing=0.08)
    for row, (metric, label) in enumerate(
        {"visual_ratio": "visual ratio", "visual_entropy": "entropy (nats)"}.items(), 1
    ):
        means = frame.pivot_table(index="frame", columns="layer", values=metric, aggfunc="mean", dropna=False)
        figure.add_heatmap(
            z=means.to_numpy(), x=means.columns, y=means.index, zmin=0, colorscale=MAP_COLOURS, row=row, col=1,
            colorbar={"title": {"text": label, "side": "right"}, "thickness": 10, "len": 0.46, "y": 1.25 - 0.5 * row},
            hovertemplate=f"layer %{{x}}, frame %{{y}}: {label} %{{z:.4g}}<extra></extra>",
        )  # fmt: skip
        figure.update_yaxes(title_text="frame", autorange="reversed", dtick=max(1, len(means) // 6), row=row, col=1)
    return _by_layer(figure, frame["layer"].nunique(), 400)


def curves_figure(curves: pd.DataFrame) -> go.Figure:
    """Every metric by layer, a line a run with its 95 % band (`contrast.curves_figure`). curves: `curves_frame`."""
    tops = {
        metric: np.nanmax([*shown["mean"], *shown["high"], NEUTRAL.get(metric, 0)])
        for metric, shown in _by_metric(curves)
    }
    ends = {metric: (0.0, 1.08 * top if top > 0 else 1.0) for metric, top in tops.items()}
    figure = _panels(curves, "mean", ends)
    for place, metric in enumerate(PANELS):
        if metric in NEUTRAL:
            _dashed(figure, NEUTRAL[metric], row=place // 3 + 1, col=place % 3 + 1)
    return figure


def differences_figure(differences: pd.DataFrame) -> go.Figure:
    """What changes from the baseline to each other run, by layer, with its 95 % band (`contrast.differences_figure`).

    differences: `differences_frame`; its rows of single layers are drawn.
    """
    by_layer = differences[differences["scope"] == "layer"]
    ends = {}
    for metric, shown in _by_metric(by_layer):
        known = [0, *shown[["difference", "low", "high"]].to_numpy(float).ravel()]
        low, high = np.nanmin(known), np.nanmax(known)
        air = 0.08 * (high - low) or 1.0
        ends[metric] = (low - air, high + air)
    figure = _panels(by_layer, "difference", ends, first=1)
    _dashed(figure, 0, row="all", col="all")
    return figure


def accuracy_figure(accuracy: pd.DataFrame) -> go.Figure:
    """Paired difference of accuracy in points with its 95 % interval, overall, by kind, by size of the target
    (`contrast.accuracy_figure`). accuracy: `accuracy_frame`; each group is named with the number of its pairs."""
    names = accuracy[["group", "name", "n"]].drop_duplicates(["group", "name"]).reset_index(drop=True)
    figure = go.Figure()
    runs = accuracy["run"].unique().tolist()
    for number, run in enumerate(runs):
        rows = names.merge(accuracy[accuracy["run"] == run].drop(columns="n"), on=["group", "name"], how="left")
        points = 100 * rows[["difference", "low", "high"]].to_numpy(float)
        name = plain(shortened(run, 28))
        bounds = np.where(np.isnan(points[:, 1]), "no interval", "%{customdata[0]:.3g} to %{customdata[1]:.3g}")
        figure.add_scatter(
            x=points[:, 0], y=names.index + 0.5 * ((number + 0.5) / len(runs) - 0.5), mode="markers", name=name,
            marker={"size": 8, "color": RUNS[(number + 1) % len(RUNS)]}, customdata=points[:, 1:], showlegend=True,
            error_x={"type": "data", "symmetric": False, "array": points[:, 2] - points[:, 0],
                     "arrayminus": points[:, 0] - points[:, 1], "width": 0, "thickness": 2},
            hovertemplate=[f"{name}: %{{x:.3g}} ({each})<extra></extra>" for each in bounds],
        )  # fmt: skip
    figure.add_vline(0, line={"color": INK, "width": 1, "dash": "dash"})
    for place in names.index[names["group"] != names["group"].shift()][1:]:
        figure.add_hline(place - 0.5, line={"color": RULE, "width": 1})
    labels = [plain(f"{name} ({n})") for name, n in zip(names["name"], names["n"], strict=True)]
    figure.update_yaxes(tickvals=names.index, ticktext=labels, range=[len(names) - 0.5, -0.5], showgrid=False)
    figure.update_xaxes(title_text="difference in accuracy, percentage points")
    figure.update_layout(
        height=110 + 30 * len(names), margin={"l": 20, "r": 14, "t": 40, "b": 44}, legend=_LEGEND, hovermode="closest"
    )
    figure.update_yaxes(automargin=True)
    return quiet(figure)


def strip_figure(strip: Strip, width_px: int = TEXT_PX) -> go.Figure:
    """Images, their maps on one square-root colour scale, and under each row its question and answers
    (`strip.strip_figure`), on axes whose unit is a pixel of the screen."""
    panel = min((width_px - len(strip.titles) * _GAP_PX) / (len(strip.titles) + 1), _WIDEST_PANEL_PX)
    step = panel + _GAP_PX
    figure = go.Figure()
    words: list[dict[str, Any]] = []
    shapes: list[dict[str, Any]] = []  # set at once: plotly checks all that it holds each time one is added
    top = float(_LINE_PX * (2 if strip.heads else 1) + 4)
    for column, title in enumerate(["image", *strip.titles]):
        words.append(_words(plain(title), column * step + panel / 2, top - 4, xanchor="center", yanchor="bottom"))
    column = 1
    for head, columns in strip.heads:
        middle = column * step + (columns * step - _GAP_PX) / 2
        words.append(_words(plain(head), middle, top - 4 - _LINE_PX, xanchor="center", yanchor="bottom"))
        column += columns
    for row in strip.rows:
        scale = min(panel / row.picture.width, 2 * panel / row.picture.height)
        shown_px = scale * row.picture.width
        for column in range(len(row.maps) + 1):
            left = column * step + (panel - shown_px) / 2
            if column == 0:
                _add_image(figure, row, (left, top), scale)
            else:
                size = (shown_px, scale * row.picture.height)
                _add_map(figure, row.maps[column - 1], strip.titles[column - 1], (left, top), size)
            shapes += _panel_shapes(row, column, (left, top), scale)
        left = (panel - shown_px) / 2
        below = top + scale * row.picture.height
        length = bar_px(row.picture.width)
        bar: dict[str, Any] = {"type": "line", "line": {"color": INK, "width": 3}}
        shapes.append(bar | {"x0": left, "x1": left + length * scale, "y0": below + 9, "y1": below + 9})
        said = f"{length} px   {token_words(row.grid)}"
        words.append(_words(said, left + length * scale + 5, below + 9, xanchor="left", yanchor="middle", size=11))
        lines = _wrapped(row.caption, width_px)
        words.append(_words("<br>".join(lines), 0, below + _SCALE_PX, xanchor="left", yanchor="top", align="left"))
        top = below + _SCALE_PX + _LINE_PX * len(lines) + 14
    height = top + _BAR_PX
    figure.update_layout(
        width=width_px, height=height, margin={"l": 0, "r": 0, "t": 0, "b": 0}, annotations=words, shapes=shapes,
        hovermode="closest",
        coloraxis={
            "colorscale": _root_colours(), "cmin": 0, "cmax": strip.largest,
            "colorbar": {"orientation": "h", "thickness": 10, "len": 0.5, "x": step / width_px, "xanchor": "left",
                         "y": 0, "yanchor": "bottom", "title": {"text": strip.unit, "side": "bottom"}},
        },
    )  # fmt: skip
    figure.update_xaxes(visible=False, range=[0, width_px], fixedrange=True)
    figure.update_yaxes(visible=False, range=[height, 0], fixedrange=True)
    return quiet(figure)


_LEGEND: dict[str, Any] = {"orientation": "h", "x": 0.5, "xanchor": "center", "y": 1.02, "yanchor": "bottom"}


def _two_panels(frame: pd.DataFrame, colours: dict[str, str], heights: tuple[float, float]) -> go.Figure:
    figure = make_subplots(2, 1, shared_xaxes=True, vertical_spacing=0.06, row_heights=heights)
    for row, (metric, colour) in enumerate(colours.items(), 1):
        columns = {f"{metric}_low": "low", f"{metric}_high": "high"}
        for trace in curve(frame.rename(columns=columns), metric, colour, PANELS[metric], showlegend=False):
            figure.add_trace(trace, row, 1)
        figure.update_yaxes(title_text=PANELS[metric], rangemode="tozero", row=row, col=1)
    shade_deep(figure, frame, named=True)
    _dashed(figure, 1, row=2, col=1)
    return _by_layer(figure, len(frame), 400)


def _panels(table: pd.DataFrame, middle: str, ends: dict[str, tuple[float, float]], first: int = 0) -> go.Figure:
    """A panel a metric, from one of its ends to the other, a line a run: `middle` by layer, hollow where held up by an
    injected map, triangles under the layers that are injected. first: place of the table's first run among all."""
    runs = table["run"].unique().tolist()
    figure = make_subplots(
        2, 3, shared_xaxes=True, subplot_titles=[*PANELS.values()], horizontal_spacing=0.06, vertical_spacing=0.12
    )
    for place, (metric, shown) in enumerate(_by_metric(table)):
        where: dict[str, int] = {"row": place // 3 + 1, "col": place % 3 + 1}
        figure.update_yaxes(range=ends[metric], **where)
        for number, run in enumerate(runs, first):
            line = shown[shown["run"] == run]
            colour, name = RUNS[number % len(RUNS)], plain(shortened(run, 28))
            symbols = np.where(line["by_construction"], "circle-open", "circle").tolist()
            how = {"legendgroup": name, "showlegend": place == 0, "marker": {"size": 6, "symbol": symbols}}
            for trace in curve(line, middle, colour, name, **how):
                figure.add_trace(trace, **where)
            injected = line.loc[line["injected"], "layer"]
            figure.add_scatter(
                x=injected, y=[ends[metric][0]] * len(injected), mode="markers", cliponaxis=False, showlegend=False,
                marker={"symbol": "triangle-up", "size": 8, "color": colour}, hoverinfo="skip", **where,
            )  # fmt: skip
        if shown[middle].isna().all():
            _say(figure, "undefined", place + 1)
    depth = table["layer"].nunique()
    shade_deep(figure, table.drop_duplicates("layer"))
    _name(figure, "deep layers", {"symbol": "square", "size": 12, "color": RULE})
    if table["injected"].any():
        _name(figure, "injected layer", {"symbol": "triangle-up", "size": 8, "color": INK})
    if table["by_construction"].any():
        _name(figure, "held up by the injected map: no finding", {"symbol": "circle-open", "size": 6, "color": INK})
    figure.update_layout(legend={**_LEGEND, "y": 1.08})
    figure.update_annotations(font_size=12)
    return _by_layer(figure, depth, 560)


def _by_metric(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    return [(metric, table[table["metric"] == metric].sort_values("layer")) for metric in PANELS]


def _dashed(figure: go.Figure, at: float, **where: Any) -> None:
    """What uniform attention gives, or no change."""
    figure.add_hline(at, line={"color": INK, "width": 1, "dash": "dash"}, **where)


def _name(figure: go.Figure, words: str, marker: dict[str, Any]) -> None:
    """An entry of the legend for what is not a trace of its own."""
    figure.add_scatter(x=[None], y=[None], mode="markers", name=words, marker=marker, showlegend=True)


def _say(figure: go.Figure, words: str, panel: int) -> None:
    """Words in the middle of a panel that has nothing to show."""
    number = "" if panel == 1 else panel
    place: dict[str, Any] = {"x": 0.5, "y": 0.5, "xref": f"x{number} domain", "yref": f"y{number} domain"}
    figure.add_annotation(text=words, showarrow=False, **place)
    figure.update_layout({f"yaxis{number}": {"showticklabels": False}})


def _by_layer(figure: go.Figure, depth: int, height_px: int) -> go.Figure:
    """The figure with its layer axes."""
    figure.update_xaxes(range=[-0.6, depth - 0.4], tick0=0, dtick=2 if depth <= 16 else 4)
    grid = figure._grid_ref
    figure.update_xaxes(title_text="decoder layer", **({"row": len(grid)} if grid else {}))
    figure.update_layout(height=height_px, margin={"l": 60, "r": 14, "t": 44, "b": 44}, hovermode="x")
    return quiet(figure)


def _add_image(figure: go.Figure, row: StripRow, corner: tuple[float, float], scale: float) -> None:
    wide, high = (scale * side for side in row.picture.size)
    place: dict[str, Any] = {"xref": "x", "yref": "y", "x": corner[0], "y": corner[1], "sizex": wide, "sizey": high}
    figure.add_layout_image(source=picture_source(row.picture, 640), sizing="stretch", layer="below", **place)


def _add_map(
    figure: go.Figure, shown: np.ndarray, title: str, corner: tuple[float, float], size: tuple[float, float]
) -> None:
    z, x, y = _cells(shown)
    figure.add_heatmap(
        z=z, x=corner[0] + size[0] * x, y=corner[1] + size[1] * y, coloraxis="coloraxis", hoverongaps=False,
        hovertemplate=f"{title}: %{{z:.3g}}<extra></extra>",
    )  # fmt: skip


def _panel_shapes(row: StripRow, column: int, corner: tuple[float, float], scale: float) -> list[dict[str, Any]]:
    """Over a sample's image the edges of its visual tokens, over a map its spotlights, and boxes over either."""
    shapes: list[dict[str, Any]] = []
    if column == 0:
        lines = grid_lines(row.grid, row.picture.size) * scale + corner
        path = "".join(f"M{x0:.1f},{y0:.1f}L{x1:.1f},{y1:.1f}" for (x0, y0), (x1, y1) in lines.tolist())
        shapes.append({"type": "path", "path": path, "line": {"color": "rgba(255,255,255,.35)", "width": 0.5}})
    line = {"color": BOX, "width": 2} if column == 0 else {"color": "white", "width": 1}
    for box in row.boxes:
        x0, y0, x1, y1 = (np.array(box, dtype=float) * scale + [*corner, *corner]).tolist()
        shapes.append({"type": "rect", "x0": x0, "y0": y0, "x1": x1, "y1": y1, "line": line})
    for x, y, radius_x, radius_y, weight in row.lights[column - 1].tolist() if column and row.lights else ():
        x0, x1 = (corner[0] + scale * (x + by) for by in (-radius_x, radius_x))
        y0, y1 = (corner[1] + scale * (y + by) for by in (-radius_y, radius_y))
        line = {"color": BOX, "width": 0.7 + 2 * weight}
        shapes.append({"type": "circle", "x0": x0, "y0": y0, "x1": x1, "y1": y1, "line": line})
    return shapes


def _cells(shown: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A map without rows and columns that are as the one before them, and the edges of what is left over its sides.

    Exact for a map of at most 120 cells a side.
    """
    kept = [_changes(shown), _changes(shown.T)]
    kept = [places[:: -(-len(places) // _MOST_CELLS)] for places in kept]
    edges = [np.append(places, side) / side for places, side in zip(kept, shown.shape, strict=True)]
    return shown[np.ix_(*kept)].astype(np.float32), edges[1], edges[0]


def _changes(rows: np.ndarray) -> np.ndarray:
    """Places of the rows that differ from the one before, the first among them."""
    filled = np.nan_to_num(rows, nan=-1.0)
    return np.flatnonzero(np.append(True, (filled[1:] != filled[:-1]).any(1)))


def _root_colours() -> list[list[Any]]:
    """The colours of maps on a square-root scale."""
    places = np.linspace(0, 1, 33)
    return [
        [float(place**2), colour] for place, colour in zip(places, sample_colorscale(MAP_COLOURS, places), strict=True)
    ]


def _words(text: str, x: float, y: float, *, size: int = 12, **how: Any) -> dict[str, Any]:
    return {"text": text, "x": x, "y": y, "showarrow": False, "font": {"size": size}, "borderpad": 0, **how}


def _wrapped(caption: str, width_px: float) -> list[str]:
    """Lines of a caption, as plotly writes them, by the width of a middling letter; those of East Asia count twice."""
    wide = sum(east_asian_width(letter) in "WF" for letter in caption) / max(1, len(caption))
    return [plain(line) for line in textwrap.wrap(caption, int(width_px / 6.9 / (1 + wide)))]
