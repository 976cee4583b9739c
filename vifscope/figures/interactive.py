"""The figures of the browser and of HTML exports, in plotly. Colours suit a light and a dark page alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from vifscope.figures.palette import MAP_COLOURS, RUNS

INK = "#7d8894"
RULE = "rgba(125,136,148,.25)"
LABELS = {"visual_ratio": "visual ratio", "visual_entropy": "entropy (nats)", "box_lift": "box lift"}
CURVE_PX = 104


@dataclass(frozen=True)
class Track:
    """One run along the layer axis.

    curves: a row a layer: layer, each metric, and METRIC_low and METRIC_high where there is an interval.
    """

    name: str
    curves: pd.DataFrame


def curves_figure(tracks: Sequence[Track], metrics: Sequence[str]) -> go.Figure:
    """The metrics of some runs above each other, the layers across."""
    figure = make_subplots(len(metrics), 1, shared_xaxes=True, vertical_spacing=0.025)
    for row, metric in enumerate(metrics, 1):
        for number, track in enumerate(tracks):
            frame = track.curves.rename(columns={f"{metric}_low": "low", f"{metric}_high": "high"})
            for trace in _lines(frame, metric, RUNS[number % len(RUNS)], track.name):
                figure.add_trace(trace, row, 1)
        figure.update_yaxes(title_text=LABELS.get(metric, metric), rangemode="tozero", row=row, col=1)
    depth = max(len(track.curves) for track in tracks)
    figure.update_xaxes(range=[-0.6, depth - 0.4], fixedrange=True, dtick=1 if depth <= 24 else 4, tick0=0)
    figure.update_xaxes(title_text="layer", row=len(metrics), col=1)
    figure.update_yaxes(fixedrange=True)
    figure.update_layout(
        height=CURVE_PX * len(metrics) + 110, hovermode="x", margin={"l": 62, "r": 14, "t": 10, "b": 44},
        showlegend=False,
    )  # fmt: skip
    return quiet(figure)


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

    violins: `frames.violin_frame` of each run.     ratios: `frames.attenuation_frame` of each run.
    """
    figure = make_subplots(specs=[[{"secondary_y": True}]])
    for number, (violin, ratio, name) in enumerate(zip(violins, ratios, names, strict=True)):
        colour = RUNS[number % len(RUNS)]
        offset = 0.0 if len(names) == 1 else (number - (len(names) - 1) / 2) * 0.8 / len(names)
        for layer in violin["layer"].unique().tolist():
            part = violin[violin["layer"] == layer]
            part = part[part["density"] > part["density"].max() / 200]
            half = 0.4 / len(names) * part["density"] / part["density"].max()
            figure.add_trace(
                go.Scatter(
                    x=[*(layer + offset - half), *(layer + offset + half)[::-1]],
                    y=[*part["weight"], *part["weight"][::-1]],
                    fill="toself", mode="lines", line={"width": 0.5, "color": colour}, opacity=0.45,
                    showlegend=False, hoverinfo="skip",
                )
            )  # fmt: skip
        renamed = ratio.rename(columns={"visual_ratio_low": "low", "visual_ratio_high": "high"})
        for trace in _lines(renamed, "visual_ratio", colour, name):
            figure.add_trace(trace, secondary_y=True)
    figure.update_yaxes(type="log", title_text="weight of a visual token", exponentformat="power", secondary_y=False)
    figure.update_yaxes(
        title_text="visual ratio", rangemode="tozero", showgrid=False, tickmode="linear", dtick=0.2, secondary_y=True
    )
    figure.update_xaxes(title_text="layer", dtick=1 if len(ratios[0]) <= 24 else 4)
    figure.update_layout(
        height=380, margin={"l": 70, "r": 60, "t": 14, "b": 44}, legend={"orientation": "h", "y": -0.2}
    )
    return quiet(figure)


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


def _lines(frame: pd.DataFrame, metric: str, colour: str, name: str) -> list[go.Scatter]:
    """A curve, over the band of its interval where it has one."""
    layers = frame["layer"].tolist()
    traces = []
    if "low" in frame and frame["low"].notna().any():
        band = [*frame["high"], *frame["low"][::-1]]
        traces.append(
            go.Scatter(
                x=layers + layers[::-1], y=band, fill="toself", mode="none", fillcolor=colour, opacity=0.25,
                showlegend=False, hoverinfo="skip",
            )
        )  # fmt: skip
    traces.append(
        go.Scatter(
            x=layers, y=frame[metric].tolist(), mode="lines+markers", name=name, line={"color": colour, "width": 2},
            marker={"size": 5}, hovertemplate=f"{name}: %{{y:.4g}}<extra></extra>",
        )
    )  # fmt: skip
    return traces
