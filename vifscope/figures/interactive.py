"""The figures of the browser and of HTML exports, in plotly. Colours suit a light and a dark page alike."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from PIL import Image
from plotly.subplots import make_subplots

from vifscope.figures.frames import weight_quantiles
from vifscope.figures.palette import MAP_COLOURS, RUNS

INK = "#737d88"
RULE = "rgba(125,136,148,.25)"
BOX = "#ff5a1f"

RATIO, VIOLIN = "#d55e00", "#7fb3d5"
"""Of a run's visual ratio and weights where it stands alone."""


def patch_figure(weights: np.ndarray, tokens: Sequence[str]) -> go.Figure:
    """Which stored rows look at one patch: weights [L, R], the layers across, a line a row, named by its token."""
    tokens = [plain(token) for token in tokens]
    figure = go.Figure(
        go.Heatmap(
            z=weights.T.astype(float).tolist(), colorscale=MAP_COLOURS, zmin=0,
            colorbar={"thickness": 8, "tickformat": ".2g"},
            hovertemplate="layer %{x}<br>%{text}<br>weight %{z:.4g}<extra></extra>",
            text=[[token] * weights.shape[0] for token in tokens],
        )
    )  # fmt: skip
    figure.update_yaxes(tickvals=list(range(len(tokens))), ticktext=tokens, autorange="reversed", tickfont={"size": 9})
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
    names = [plain(name) for name in names]
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
    last = max(int(ratio["layer"].max()) for ratio in ratios)
    figure.update_xaxes(title_text="decoder layer", dtick=1 if last < 24 else 4, range=[-0.6, last + 0.6])
    figure.update_layout(
        height=380,
        margin={"l": 70, "r": 60, "t": 22, "b": 44},
        legend={"orientation": "h", "y": -0.2},
        showlegend=len(names) > 1,
    )
    return quiet(figure)


def shade_deep(figure: go.Figure, frame: pd.DataFrame, *, named: bool = False) -> None:
    """A ground under the deep layers of every panel; frame: layer and deep, a row a layer. named: say so over it."""
    first, last = frame.loc[frame["deep"], "layer"].min(), frame["layer"].max()
    ground: dict[str, Any] = {"fillcolor": RULE, "opacity": 0.6, "line_width": 0, "layer": "below"}
    panels = {"row": "all", "col": "all"} if figure._grid_ref else {}
    figure.add_vrect(first - 0.5, last + 0.6, **panels, **ground)
    if named:
        words: dict[str, Any] = {"text": "deep layers", "showarrow": False, "font": {"size": 11}}
        figure.add_annotation(x=(first + last) / 2, y=1, yref="paper", yanchor="bottom", **words)


def plain(text: str) -> str:
    """Text of data for plotly, which takes tags for markup and knows few entities."""
    return escape(text, quote=False)


def quiet(figure: go.Figure) -> go.Figure:
    """The figure without a ground of its own, so that the page's shows."""
    figure.update_layout(
        template="none", paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)",
        font={"color": INK, "size": 12, "family": "system-ui, sans-serif"},
    )  # fmt: skip
    figure.update_xaxes(gridcolor=RULE, zeroline=False, linecolor=RULE)
    figure.update_yaxes(gridcolor=RULE, zeroline=False, linecolor=RULE)
    return figure


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
