"""The figures of the paper, from the tables of `vifscope.figures.frames`. Each returns a Figure; the caller saves it.

Figures are made without pyplot: no global state, no window, nothing to close.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from vifscope.figures.frames import SHARES, weight_quantiles
from vifscope.figures.palette import MAP_COLOURS
from vifscope.figures.theme import COLUMN_IN, LIGHT, TEXT_IN, Drawing, Theme, style

SHARE_NAMES = ("visual tokens", "first token", "template", "question", "earlier response")


def attenuation_figure(frame: pd.DataFrame, *, theme: Theme = LIGHT, width_in: float = COLUMN_IN) -> Figure:
    """Visual ratio by layer with its 95 % band, the ratio lift under it, deep layers shaded (paper Figure 1, right).

    frame: `attenuation_frame`. A lift of 1, dashed, is what uniform attention would give.
    """
    with style(theme):
        figure = Drawing(figsize=(width_in, 2.7), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(1.6, 1))
        _curve(upper, frame, "visual_ratio", theme.ratio, "visual ratio")
        upper.set_ylim(0, _top(frame, "visual_ratio"))
        _curve(lower, frame, "ratio_lift", theme.lift, "ratio lift")
        lower.axhline(1, color=theme.muted, linewidth=0.8, linestyle="--")
        lower.set_ylim(0, max(1.15, _top(frame, "ratio_lift")))
        layers_axis(lower, frame)
        shade_deep((upper, lower), frame, theme)
        figure.align_ylabels()
    return figure


def focus_figure(frame: pd.DataFrame, *, theme: Theme = LIGHT, width_in: float = COLUMN_IN) -> Figure:
    """Relative entropy and box lift by layer with 95 % bands, deep layers shaded; frame: `focus_frame`.

    Without boxes the lower panel says so.
    """
    with style(theme):
        figure = Drawing(figsize=(width_in, 2.7), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True)
        _curve(upper, frame, "relative_entropy", theme.focus, "relative entropy")
        upper.set_ylim(0, 1.05)
        if frame["box_lift"].notna().any():
            _curve(lower, frame, "box_lift", theme.lift, "box lift")
            lower.axhline(1, color=theme.muted, linewidth=0.8, linestyle="--")
            lower.set_ylim(0, max(1.15, _top(frame, "box_lift")))
        else:
            lower.set(yticks=[], ylabel="box lift")
            middle: dict[str, Any] = {"ha": "center", "va": "center", "transform": lower.transAxes}
            lower.text(0.5, 0.5, "undefined: no target boxes", color=theme.muted, **middle)
        layers_axis(lower, frame)
        shade_deep((upper, lower), frame, theme)
        figure.align_ylabels()
    return figure


def shares_figure(frame: pd.DataFrame, *, theme: Theme = LIGHT, width_in: float = COLUMN_IN) -> Figure:
    """Where each layer's attention goes, stacked: visual tokens, first token, template, question, earlier response.

    frame: `shares_frame`. What is missing to 1 went to an attention sink outside the sequence.
    """
    with style(theme):
        figure = Drawing(figsize=(width_in, 2.4), layout="constrained")
        axes = figure.subplots()
        floor = np.zeros(len(frame))
        for name, colour in zip(SHARES, theme.shares, strict=True):
            share = frame[name].fillna(0).to_numpy()
            axes.bar(frame["layer"], share, bottom=floor, width=0.86, color=colour, linewidth=0)
            floor = floor + share
        axes.set(ylim=(0, 1), ylabel="share of attention")
        layers_axis(axes, frame)
        handles = [Patch(color=colour) for colour in theme.shares]
        legend: dict[str, Any] = {"ncols": 3, "handlelength": 1, "handleheight": 0.8, "columnspacing": 1.2}
        figure.legend(handles, SHARE_NAMES, loc="outside upper center", **legend)
    return figure


def video_figure(frame: pd.DataFrame, *, theme: Theme = LIGHT, width_in: float = COLUMN_IN) -> Figure:
    """Visual ratio and entropy by frame of the videos and layer, each a heat map of means over samples.

    frame: `video_frame`. A video without a frame of that number does not enter its mean; undefined means are blank.
    """
    with style(theme):
        figure = Drawing(figsize=(width_in, 3.4), layout="constrained")
        panels = figure.subplots(2, 1, sharex=True)
        names = {"visual_ratio": "visual ratio", "visual_entropy": "entropy (nats)"}
        for axes, (metric, label) in zip(panels, names.items(), strict=True):
            means = frame.pivot_table(index="frame", columns="layer", values=metric, aggfunc="mean", dropna=False)
            shown = axes.imshow(means, aspect="auto", cmap=MAP_COLOURS, vmin=0, interpolation="nearest")
            rows = np.unique(np.linspace(0, len(means) - 1, min(len(means), 6)).round().astype(int))
            axes.set(ylabel="frame", yticks=rows, yticklabels=means.index[rows])
            figure.colorbar(shown, ax=axes, label=label)
        layers_axis(panels[-1], means.T)
        panels[0].set_xlabel("")
    return figure


def violin_figure(
    violins: pd.DataFrame, attenuation: pd.DataFrame, *, theme: Theme = LIGHT, width_in: float = TEXT_IN
) -> Figure:
    """Visual ratio over violins of the weight of single visual tokens, by layer (paper Figure 2).

    violins:     `violin_frame`; each is drawn equally wide, up to its largest weight, with a bar over the middle half
                 and a dot at the median, on a log axis that leaves out the smallest 0.1 % of each layer.
    attenuation: `attenuation_frame`, on the right axis.
    """
    with style(theme):
        figure = Drawing(figsize=(width_in, 2.6), layout="constrained")
        axes = figure.subplots()
        pitch_pt = 72 * 0.8 * width_in / len(attenuation)
        lowest = []
        for layer in violins["layer"].unique().tolist():
            violin = violins[violins["layer"] == layer]
            held = np.flatnonzero(violin["share"])
            body = violin.iloc[held[0] : held[-1] + 1]
            half = 0.44 * body["density"] / body["density"].max()
            place: dict[str, Any] = {"color": theme.violin, "edgecolor": theme.violin, "linewidth": 0.4}
            axes.fill_betweenx(body["weight"], layer - half, layer + half, **place)
            least, low, middle, high = weight_quantiles(violin, (0.001, 0.25, 0.5, 0.75))
            lowest.append(least)
            bar_pt, dot_pt = min(1.8, 0.15 * pitch_pt), min(1.9, 0.17 * pitch_pt)
            axes.plot([layer, layer], [low, high], color=theme.ink, linewidth=bar_pt, solid_capstyle="butt")
            axes.plot(layer, middle, marker="o", markersize=dot_pt, color=theme.page, markeredgewidth=0)
        largest = violins.loc[violins["share"] > 0, "weight"].max()
        axes.set(yscale="log", ylabel="weight of a visual token", ylim=(min(lowest) / 1.3, largest * 1.5))
        layers_axis(axes, attenuation)
        right = axes.twinx()
        dots: dict[str, Any] = {"marker": "o", "markersize": min(3.0, 0.25 * pitch_pt), "markeredgewidth": 0}
        _curve(right, attenuation, "visual_ratio", theme.ratio, "visual ratio", **dots)
        right.spines["right"].set_visible(True)
        right.spines["right"].set_color(theme.ratio)
        right.tick_params(axis="y", colors=theme.ratio)
        right.yaxis.label.set_color(theme.ratio)
        right.set_ylim(0, _top(attenuation, "visual_ratio"))
        shade_deep((axes,), attenuation, theme)
    return figure


def _curve(axes: Axes, frame: pd.DataFrame, metric: str, colour: str, label: str, **line: Any) -> None:
    middle, low, high = (frame[name] for name in (metric, f"{metric}_low", f"{metric}_high"))
    curve(axes, frame["layer"], middle, low, high, colour, **line)
    axes.set_ylabel(label)


def curve(
    axes: Axes, layer: pd.Series, middle: pd.Series, low: pd.Series, high: pd.Series, colour: str, **line: Any
) -> None:
    """A curve by layer over the band of its interval; a gap where undefined, a dot where a layer stands alone."""
    if middle.isna().any() or len(middle) == 1:
        line = {"marker": "o", "markersize": 3, "markeredgewidth": 0, **line}
        axes.vlines(layer, low, high, color=colour, alpha=0.25, linewidth=3)
    axes.plot(layer, middle, color=colour, **line)  # seaborn would bridge the gaps
    axes.fill_between(layer.to_numpy(dtype=float), low, high, color=colour, alpha=0.25, linewidth=0)


def _top(frame: pd.DataFrame, metric: str) -> float:
    """Upper end of an axis that starts at 0 and leaves air over the band; 1 where nothing is defined."""
    highest = frame[[metric, f"{metric}_high"]].max().max()
    return 1.12 * highest if highest > 0 else 1.0


def layers_axis(axes: Axes, frame: pd.DataFrame) -> None:
    """The horizontal axis of a figure by layer; frame: a row a layer."""
    axes.set_xlim(-0.6, len(frame) - 0.4)
    axes.set_xlabel("decoder layer")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8 if len(frame) > 8 else len(frame), min_n_ticks=1))


def shade_deep(panels: Sequence[Axes], frame: pd.DataFrame, theme: Theme, *, named: bool = True) -> None:
    """A grey ground under the deep layers of each panel, named over the first; frame: layer and deep, a row a layer."""
    first = int(frame.loc[frame["deep"], "layer"].min())
    for axes in panels:
        axes.axvspan(first - 0.5, len(frame) - 0.4, color=theme.shade, zorder=-1, linewidth=0)
    if not named:
        return
    label: dict[str, Any] = {"ha": "center", "va": "bottom", "color": theme.muted, "fontsize": "small"}
    middle = (first - 0.5 + len(frame) - 0.4) / 2
    panels[0].text(middle, 1.01, "deep layers", transform=panels[0].get_xaxis_transform(), **label)
