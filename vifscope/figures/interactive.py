"""The figures of the browser and of HTML exports, in plotly. Colours suit a light and a dark page alike."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from PIL import Image
from plotly.subplots import make_subplots

from vifscope.figures.frames import weight_quantiles
from vifscope.figures.palette import MAP_COLOURS, shortened
from vifscope.figures.scale import bar_px, grid_lines, token_words

INK = "#737d88"
RULE = "rgba(125,136,148,.25)"
BOX = "#ff5a1f"
RUNS = ("#7d8894", "#d55e00", "#2a8fcf", "#009e73", "#b3548c", "#a67c00")
"""Colours of the runs by their place; the first is the baseline's."""

RATIO, VIOLIN = "#d55e00", "#7fb3d5"
"""Of a run's visual ratio and weights where it stands alone."""

LABELS = {"visual_ratio": "visual ratio", "visual_entropy": "entropy (nats)", "box_lift": "box lift"}
STRIP_PX, CURVE_PX = 74, 104
SPINE_MARGINS = {"l": 62, "r": 14, "t": 10, "b": 44}
FILLED = 0.94
"""Share of a layer's width on the axis that its map fills in the filmstrip."""


@dataclass(frozen=True)
class Track:
    """One run along the layer axis.

    maps:   [L, rows, cols], or None where there is none to show.
    curves: a row a layer: layer, each metric, and METRIC_low and METRIC_high where there is an interval.
    """

    name: str
    maps: np.ndarray | None
    curves: pd.DataFrame


def spine_figure(tracks: Sequence[Track], metrics: Sequence[str]) -> go.Figure:
    """The layer axis: a filmstrip a run, each layer's map over its own maximum, and below it the metrics, on the same
    horizontal positions, from -0.6 to depth - 0.4 between SPINE_MARGINS."""
    strips = [(number, track) for number, track in enumerate(tracks) if track.maps is not None]
    heights = [STRIP_PX] * len(strips) + [CURVE_PX] * len(metrics)
    figure = make_subplots(len(heights), 1, shared_xaxes=True, vertical_spacing=0.025, row_heights=heights)
    for row, (number, track) in enumerate(strips, 1):
        figure.add_trace(_filmstrip(track), row, 1)
        title = {"text": shortened(track.name, 14), "font": {"size": 11, "color": RUNS[number % len(RUNS)]}}
        figure.update_yaxes(showticklabels=False, ticks="", title=title, row=row, col=1)
        figure.update_xaxes(ticks="", showgrid=False, row=row, col=1)
    for row, metric in enumerate(metrics, len(strips) + 1):
        for number, track in enumerate(tracks):
            frame = track.curves.rename(columns={f"{metric}_low": "low", f"{metric}_high": "high"})
            for trace in curve(frame, metric, RUNS[number % len(RUNS)], track.name):
                figure.add_trace(trace, row, 1)
        figure.update_yaxes(title_text=LABELS.get(metric, metric), rangemode="tozero", row=row, col=1)
    depth = max(len(track.curves) for track in tracks)
    figure.update_xaxes(range=[-0.6, depth - 0.4], fixedrange=True, dtick=1 if depth <= 24 else 4, tick0=0)
    figure.update_xaxes(title_text="layer", row=len(heights), col=1)
    figure.update_yaxes(fixedrange=True)
    figure.update_layout(
        height=sum(heights) + 110, hovermode="x", margin=SPINE_MARGINS, showlegend=False,
    )  # fmt: skip
    return quiet(figure)


def overlay_figure(
    picture: str, size_px: tuple[int, int], grid: dict[str, Any], weights: np.ndarray, boxes: Sequence[Any] = ()
) -> go.Figure:
    """A map over its picture, in the picture's pixels, with the edges of its cells and a scale bar under the picture.
    A second trace without points is there for spotlights.

    picture: address of the image.      grid: of the run's grids: rect_px is where it lies on the image.
    weights: [rows, cols].              boxes: xyxy in pixels.
    """
    wide, high = size_px
    x0, y0, x1, y1 = (float(edge) for edge in grid["rect_px"])
    rows, cols = weights.shape
    dx, dy = (x1 - x0) / cols, (y1 - y0) / rows
    cells = {"rows": rows, "cols": cols, "rect_px": (x0, y0, x1, y1)}
    figure = go.Figure(
        go.Heatmap(
            z=weights.astype(float).tolist(), x0=x0 + dx / 2, dx=dx, y0=y0 + dy / 2, dy=dy, opacity=0.6,
            colorscale=MAP_COLOURS, zmin=0, showscale=True, colorbar={"thickness": 8, "tickformat": ".2g"},
            customdata=ranks(weights).tolist(),
            hovertemplate="weight %{z:.4g}<br>rank %{customdata}<extra></extra>",
        )
    )  # fmt: skip
    figure.add_scatter(
        x=[], y=[], mode="markers", showlegend=False, marker={"size": 7, "line": {"color": "#111", "width": 1}},
        hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip
    figure.update_layout(
        images=[{"source": picture, "xref": "x", "yref": "y", "x": 0, "y": 0, "sizex": wide, "sizey": high,
                 "sizing": "stretch", "layer": "below"}],
        shapes=[*box_shapes(boxes), *scale_shapes(size_px, cells)], annotations=[scale_words(size_px, cells)],
        margin={"l": 4, "r": 4, "t": 4, "b": 22}, uirevision="map",
    )  # fmt: skip
    figure.update_xaxes(visible=False, range=[0, wide], constrain="domain")
    figure.update_yaxes(visible=False, range=[high, 0], scaleanchor="x", constrain="domain")
    return quiet(figure)


def box_shapes(boxes: Iterable[Any], panel: str = "", colour: str = BOX) -> list[dict[str, Any]]:
    """Target boxes (xyxy in pixels) on the axes xPANEL and yPANEL."""
    line: dict[str, Any] = {"type": "rect", "xref": f"x{panel}", "yref": f"y{panel}"}
    line["line"] = {"color": colour, "width": 2}
    return [
        {**line, "x0": x0, "y0": y0, "x1": x1, "y1": y1}
        for x0, y0, x1, y1 in np.array(list(boxes), dtype=float).tolist()
    ]


def scale_shapes(size_px: tuple[int, int], grid: dict[str, Any], panel: str = "") -> list[dict[str, Any]]:
    """On a picture's axes: the edges of a grid's cells as one path, and a scale bar under the picture."""
    path = "".join(f"M{x0:g},{y0:g}L{x1:g},{y1:g}" for (x0, y0), (x1, y1) in grid_lines(grid, size_px).tolist())
    edges: dict[str, Any] = {"type": "path", "path": path, "xref": f"x{panel}", "yref": f"y{panel}"}
    edges |= {"line": {"color": "rgba(255,255,255,.35)", "width": 0.5}}
    bar: dict[str, Any] = {"type": "line", "xref": f"x{panel}", "x0": 0, "x1": bar_px(size_px[0])}
    bar |= {"yref": f"y{panel} domain", "ysizemode": "pixel", "yanchor": 0, "y0": -9, "y1": -9}
    return [edges, bar | {"line": {"color": INK, "width": 3}}]


def scale_words(size_px: tuple[int, int], grid: dict[str, Any], panel: str = "") -> dict[str, Any]:
    """What stands beside the scale bar: its length, and how large a visual token is."""
    length = bar_px(size_px[0])
    words: dict[str, Any] = {"text": f"{length} px   {token_words(grid)}", "font": {"size": 11}, "showarrow": False}
    place = {"x": length, "xref": f"x{panel}", "xanchor": "left", "xshift": 4}
    return words | place | {"y": 0, "yref": f"y{panel} domain", "yanchor": "middle", "yshift": -9}


def patch_figure(weights: np.ndarray, tokens: Sequence[str]) -> go.Figure:
    """Which stored rows look at one patch: weights [L, R], the layers across, a line a row, named by its token."""
    figure = go.Figure(
        go.Heatmap(
            z=weights.T.astype(float).tolist(), colorscale=MAP_COLOURS, zmin=0,
            colorbar={"thickness": 8, "tickformat": ".2g"},
            hovertemplate="layer %{x}<br>%{text}<br>weight %{z:.4g}<extra></extra>",
            text=[[token] * weights.shape[0] for token in tokens],
        )
    )  # fmt: skip
    figure.update_yaxes(
        tickvals=list(range(len(tokens))), ticktext=list(tokens), autorange="reversed", tickfont={"size": 9}
    )
    figure.update_xaxes(title_text="layer", range=[-0.5, len(weights) - 0.5])
    height = 110 + 13 * len(tokens)
    figure.update_layout(height=height, margin={"l": 90, "r": 10, "t": 10, "b": 40})
    return quiet(figure)


def multiples_figure(maps: np.ndarray, word: str) -> go.Figure:
    """Small multiples of one map each: maps [N, rows, cols] over their own maxima, named by `word` and their place."""
    across = min(8, len(maps))
    down = -(-len(maps) // across)
    figure = make_subplots(
        down, across, horizontal_spacing=0.01, vertical_spacing=0.12 / down,
        subplot_titles=[f"{word} {place}" for place in range(len(maps))],
    )  # fmt: skip
    for place, weights in enumerate(maps):
        trace = go.Heatmap(
            z=_over_maximum(weights).tolist(), colorscale=MAP_COLOURS, showscale=False, zmin=0, zmax=1,
            hovertemplate=f"{word} {place}<br>over its maximum %{{z:.3f}}<extra></extra>",
        )  # fmt: skip
        figure.add_trace(trace, place // across + 1, place % across + 1)
        anchor = "x" if place == 0 else f"x{place + 1}"
        figure.update_yaxes(scaleanchor=anchor, row=place // across + 1, col=place % across + 1)
    figure.update_xaxes(visible=False, constrain="domain")
    figure.update_yaxes(visible=False, autorange="reversed", constrain="domain")
    figure.update_annotations(font_size=11)
    figure.update_layout(height=40 + 130 * down, margin={"l": 4, "r": 4, "t": 24, "b": 4})
    return quiet(figure)


def violins_figure(violins: Sequence[pd.DataFrame], ratios: Sequence[pd.DataFrame], names: Sequence[str]) -> go.Figure:
    """Weights of single visual tokens by layer, log axis (paper Figure 2), under the visual ratio with its interval.

    A bar over each violin's middle half, a dot at its median.

    violins: `frames.violin_frame` of each run.     ratios: `frames.attenuation_frame` of each run.
    """
    figure = make_subplots(specs=[[{"secondary_y": True}]])
    for number, (violin, ratio, name) in enumerate(zip(violins, ratios, names, strict=True)):
        colour, body = (RATIO, VIOLIN) if len(names) == 1 else (RUNS[number % len(RUNS)],) * 2
        offset = 0.0 if len(names) == 1 else (number - (len(names) - 1) / 2) * 0.8 / len(names)
        for layer in violin["layer"].unique().tolist():
            part = violin[violin["layer"] == layer]
            part = part[part["density"] > part["density"].max() / 200]
            half = 0.4 / len(names) * part["density"] / part["density"].max()
            figure.add_trace(
                go.Scatter(
                    x=[*(layer + offset - half), *(layer + offset + half)[::-1]],
                    y=[*part["weight"], *part["weight"][::-1]],
                    fill="toself", mode="lines", line={"width": 0.5, "color": body}, fillcolor=body, opacity=0.6,
                    showlegend=False, hoverinfo="skip",
                )
            )  # fmt: skip
        middles = pd.DataFrame(
            [weight_quantiles(part, (0.25, 0.5, 0.75)) for _, part in violin.groupby("layer")],
            columns=["low", "middle", "high"], index=violin["layer"].unique() + offset,
        )  # fmt: skip
        figure.add_scatter(
            x=middles.index, y=middles["middle"], mode="markers", showlegend=False, marker={"size": 4, "color": INK},
            customdata=middles[["low", "high"]], error_y={
                "type": "data", "symmetric": False, "array": middles["high"] - middles["middle"],
                "arrayminus": middles["middle"] - middles["low"], "width": 0, "thickness": 2,
            },
            hovertemplate="median %{y:.3g} (middle half %{customdata[0]:.3g} to %{customdata[1]:.3g})<extra></extra>",
        )  # fmt: skip
        renamed = ratio.rename(columns={"visual_ratio_low": "low", "visual_ratio_high": "high"})
        for trace in curve(renamed, "visual_ratio", colour, name):
            figure.add_trace(trace, secondary_y=True)
    shade_deep(figure, ratios[0], named=True)
    figure.update_yaxes(type="log", title_text="weight of a visual token", exponentformat="power", secondary_y=False)
    figure.update_yaxes(
        title_text="visual ratio", rangemode="tozero", showgrid=False, tickmode="linear", dtick=0.2, secondary_y=True
    )
    figure.update_xaxes(title_text="decoder layer", dtick=1 if len(ratios[0]) <= 24 else 4)
    figure.update_layout(
        height=380,
        margin={"l": 70, "r": 60, "t": 22, "b": 44},
        legend={"orientation": "h", "y": -0.2},
        showlegend=len(names) > 1,
    )
    return quiet(figure)


def ranks(weights: np.ndarray) -> np.ndarray:
    """Place of each weight among all of them: 1 is the largest.

    >>> ranks(np.array([[0.1, 0.7], [0.2, 0.0]])).tolist()
    [[3, 1], [2, 4]]
    """
    order = np.argsort(-weights, axis=None, kind="stable")
    found = np.empty(weights.size, dtype=np.int64)
    found[order] = np.arange(1, weights.size + 1)
    return found.reshape(weights.shape)


def shade_deep(figure: go.Figure, frame: pd.DataFrame, *, named: bool = False) -> None:
    """A ground under the deep layers of every panel; frame: layer and deep, a row a layer. named: say so over it."""
    first, last = frame.loc[frame["deep"], "layer"].min(), frame["layer"].max()
    ground: dict[str, Any] = {"fillcolor": RULE, "opacity": 0.6, "line_width": 0, "layer": "below"}
    panels = {"row": "all", "col": "all"} if figure._grid_ref else {}
    figure.add_vrect(first - 0.5, last + 0.6, **panels, **ground)
    if named:
        words: dict[str, Any] = {"text": "deep layers", "showarrow": False, "font": {"size": 11}}
        figure.add_annotation(x=(first + last) / 2, y=1, yref="paper", yanchor="bottom", **words)


def quiet(figure: go.Figure) -> go.Figure:
    """The figure without a ground of its own, so that the page's shows."""
    figure.update_layout(
        template="none", paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)",
        font={"color": INK, "size": 12, "family": "system-ui, sans-serif"},
    )  # fmt: skip
    figure.update_xaxes(gridcolor=RULE, zeroline=False, linecolor=RULE)
    figure.update_yaxes(gridcolor=RULE, zeroline=False, linecolor=RULE)
    return figure


def _filmstrip(track: Track) -> go.Heatmap:
    assert track.maps is not None
    num_layers, rows, cols = track.maps.shape
    gap = np.full((num_layers, rows, 1), np.nan)
    shown = np.concatenate([np.stack([_over_maximum(each) for each in track.maps]), gap], 2)  # [L rows cols+1]
    within = (np.arange(cols) + 0.5) / cols * FILLED - FILLED / 2
    across = np.append(within, 0.5)
    z = shown.transpose(1, 0, 2).reshape(rows, -1)[::-1]
    return go.Heatmap(
        z=z.tolist(),
        x=(np.arange(num_layers)[:, None] + across).ravel().tolist(),
        colorscale=MAP_COLOURS, zmin=0, zmax=1, showscale=False, hoverongaps=False,
        hovertemplate=f"{track.name}<extra></extra>",
    )  # fmt: skip


def _over_maximum(weights: np.ndarray) -> np.ndarray:
    top = weights.max()
    return weights.astype(float) / top if top > 0 else weights.astype(float)


def curve(frame: pd.DataFrame, metric: str, colour: str, name: str, **how: Any) -> list[go.Scatter]:
    """A curve by layer, over the band of its interval where it has one; a gap where undefined.

    frame: columns layer, the metric, and low and high where there is an interval.   how: of the curve's trace.
    """
    layers = frame["layer"].tolist()
    traces, interval, how = [], "", {"marker": {"size": 5}, **how}
    if "low" in frame and frame["low"].notna().any():
        x, y = _band(frame)
        shape: dict[str, Any] = {"fill": "toself", "mode": "none", "fillcolor": colour, "opacity": 0.25}
        traces.append(go.Scatter(x=x, y=y, showlegend=False, hoverinfo="skip", **shape))
        how = {"customdata": frame[["low", "high"]].to_numpy(float), **how}
        interval = " (%{customdata[0]:.4g} to %{customdata[1]:.4g})"
    traces.append(
        go.Scatter(
            x=layers, y=frame[metric].tolist(), mode="lines+markers", name=name, line={"color": colour, "width": 2},
            hovertemplate=f"{name}: %{{y:.4g}}{interval}<extra></extra>", **how,
        )
    )  # fmt: skip
    return traces


def _band(frame: pd.DataFrame) -> tuple[list[float | None], list[float | None]]:
    """Outline of the intervals, x and y: a polygon for each stretch of layers that have one, None between them."""
    x: list[float | None] = []
    y: list[float | None] = []
    known = frame["low"].notna()
    for _, part in frame[known].groupby((~known).cumsum()[known]):
        layers = part["layer"].tolist()
        x += [*layers, *layers[::-1], None]
        y += [*part["high"], *part["low"][::-1], None]
    return x[:-1], y[:-1]


def picture_source(picture: Image.Image, longest_px: int) -> str:
    """A picture as an address that holds it, made smaller where its longest side is longer."""
    shown = picture.copy()
    shown.thumbnail((longest_px, longest_px))
    encoded = io.BytesIO()
    shown.save(encoded, "PNG")
    return f"data:image/png;base64,{base64.b64encode(encoded.getvalue()).decode()}"
