"""Runs against one another, from the tables of `vifscope.comparison.frames`. The caller saves the figures.

A run keeps its colour, by its place, through all of them. A hollow mark is what an injected map gives by construction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from vifscope.figures.palette import shortened
from vifscope.figures.static import curve, layers_axis, shade_deep
from vifscope.figures.theme import LIGHT, TEXT_IN, Drawing, Theme, style

PANELS = {
    "visual_ratio": "visual ratio",
    "visual_entropy": "visual entropy (nats)",
    "box_mass": "box mass",
    "ratio_lift": "ratio lift",
    "relative_entropy": "relative entropy",
    "box_lift": "box lift",
}
NEUTRAL = {"ratio_lift": 1.0, "box_lift": 1.0, "relative_entropy": 1.0}
"""What uniform attention gives."""


def curves_figure(curves: pd.DataFrame, *, theme: Theme = LIGHT, width_in: float = TEXT_IN) -> Figure:
    """Every metric by layer, a line a run with its 95 % band; dashed is uniform attention. curves: `curves_frame`."""
    with style(theme):
        figure, axes_of = _panels(width_in)
        colours = _colours(curves["run"].unique().tolist(), theme)
        for metric, axes in axes_of.items():
            shown = curves[curves["metric"] == metric]
            for run, line in shown.groupby("run", sort=False):
                _line(axes, line, ("mean", "low", "high"), colours[str(run)], theme)
                _triangles(axes, line.loc[line["injected"], "layer"], colours[str(run)])
            _finish(axes, shown, bool(shown["mean"].notna().any()), metric, theme)
            if metric in NEUTRAL:
                axes.axhline(NEUTRAL[metric], color=theme.muted, linewidth=0.8, linestyle="--", zorder=0.5)
            axes.set_ylim(0, 1.08 * max(NEUTRAL.get(metric, 0), *shown[["mean", "high"]].max().fillna(0)) or 1)
        _legend(figure, colours, theme, curves)
    return figure


def differences_figure(differences: pd.DataFrame, *, theme: Theme = LIGHT, width_in: float = TEXT_IN) -> Figure:
    """What changes from the baseline to each other run, every metric by layer with its 95 % band; 0 is no change.

    differences: `differences_frame`; its rows of single layers are drawn.
    """
    by_layer = differences[differences["scope"] == "layer"]
    with style(theme):
        figure, axes_of = _panels(width_in)
        colours = _colours(["", *by_layer["run"].unique()], theme)  # the first colour is the baseline's
        for metric, axes in axes_of.items():
            shown = by_layer[by_layer["metric"] == metric]
            for run, line in shown.groupby("run", sort=False):
                _line(axes, line, ("difference", "low", "high"), colours[str(run)], theme)
                _triangles(axes, line.loc[line["injected"], "layer"], colours[str(run)])
            defined = bool(shown["difference"].notna().any())
            _finish(axes, shown, defined, metric, theme)
            if defined:
                axes.axhline(0, color=theme.muted, linewidth=0.8, linestyle="--", zorder=0.5)
        drawn = {run: colour for run, colour in colours.items() if run}
        _legend(figure, drawn, theme, by_layer)
    return figure


def accuracy_figure(accuracy: pd.DataFrame, *, theme: Theme = LIGHT, width_in: float = TEXT_IN) -> Figure:
    """Paired difference of accuracy in points with its 95 % interval: overall, by kind, by size of the target.

    accuracy: `accuracy_frame`; each group is named with the number of its pairs.
    """
    names = accuracy[["group", "name", "n"]].drop_duplicates(["group", "name"]).reset_index(drop=True)
    with style(theme):
        figure = Drawing(figsize=(width_in, 0.55 + 0.24 * len(names)), layout="constrained")
        axes = figure.subplots()
        runs = accuracy["run"].unique().tolist()
        colours = _colours(["", *runs], theme)
        for number, run in enumerate(runs):
            rows = names.merge(accuracy[accuracy["run"] == run].drop(columns="n"), on=["group", "name"], how="left")
            shift = 0.5 * ((number + 0.5) / len(runs) - 0.5)
            points = 100 * rows[["difference", "low", "high"]]
            axes.hlines(names.index + shift, points["low"], points["high"], color=colours[run], linewidth=1.3)
            axes.plot(points["difference"], names.index + shift, "o", color=colours[run], markersize=4)
        axes.axvline(0, color=theme.muted, linewidth=0.8, linestyle="--", zorder=0.5)
        for place in names.index[names["group"] != names["group"].shift()][1:]:
            axes.axhline(place - 0.5, color=theme.shade, linewidth=0.8)
        labels = [f"{name} ({n})" for name, n in zip(names["name"], names["n"], strict=True)]
        axes.set_yticks(names.index, labels, parse_math=False)
        axes.set(ylim=(len(names) - 0.5, -0.5), xlabel="difference in accuracy, percentage points")
        low, high = axes.get_xlim()
        axes.set_xlim(min(low, -1), max(high, 1))
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        _legend(figure, {run: colours[run] for run in runs}, theme)
    return figure


def _panels(width_in: float) -> tuple[Figure, dict[str, Axes]]:
    figure = Drawing(figsize=(width_in, 3.6), layout="constrained")
    return figure, dict(zip(PANELS, figure.subplots(2, 3, sharex=True).flat, strict=True))


def _colours(runs: Sequence[str], theme: Theme) -> dict[str, str]:
    return {run: theme.runs[place % len(theme.runs)] for place, run in enumerate(runs)}


def _line(axes: Axes, line: pd.DataFrame, columns: tuple[str, str, str], colour: str, theme: Theme) -> None:
    """A curve with its band; hollow marks where it shows no finding."""
    middle, low, high = (line[name] for name in columns)
    curve(axes, line["layer"], middle, low, high, colour)
    if (hollow := line["by_construction"]).any():
        axes.plot(line.loc[hollow, "layer"], middle[hollow], **_hollow(colour, theme))


def _hollow(colour: str, theme: Theme) -> dict[str, Any]:
    return {
        "linestyle": "", "marker": "o", "markersize": 3.5, "markerfacecolor": theme.page, "markeredgecolor": colour,
        "markeredgewidth": 0.9,
    }  # fmt: skip


def _triangles(axes: Axes, layers: pd.Series, colour: str) -> None:
    """Marks of injected layers on the layer axis."""
    if layers.empty:  # a line without points has no place, and the layout would fail
        return
    at: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "clip_on": False, "zorder": 5}
    axes.plot(layers, [0.0] * len(layers), "^", color=colour, markersize=3.5, markeredgewidth=0, **at)


def _finish(axes: Axes, shown: pd.DataFrame, defined: bool, metric: str, theme: Theme) -> None:
    axes.set_title(PANELS[metric], pad=3)
    layers = shown.drop_duplicates("layer").sort_values("layer")
    layers_axis(axes, layers)
    shade_deep([axes], layers, theme, named=False)
    if not axes.get_subplotspec().is_last_row():  # type: ignore[union-attr]
        axes.set_xlabel("")
    if not defined:
        middle: dict[str, Any] = {"ha": "center", "va": "center", "transform": axes.transAxes}
        axes.text(0.5, 0.5, "undefined", color=theme.muted, **middle)
        axes.set_yticks([])


def _legend(figure: Figure, colours: dict[str, str], theme: Theme, by_layer: pd.DataFrame | None = None) -> None:
    """Names of the runs, and of what else is drawn where it is by layer."""
    named: list[tuple[Any, str]] = [
        (Line2D([], [], color=colour), shortened(name, 28)) for name, colour in colours.items()
    ]
    if by_layer is not None:
        named.append((Patch(color=theme.shade), "deep layers"))
        if by_layer["injected"].any():
            triangle: dict[str, Any] = {"linestyle": "", "marker": "^", "markersize": 4, "markeredgewidth": 0}
            named.append((Line2D([], [], color=theme.muted, **triangle), "injected layer"))
        if by_layer["by_construction"].any():
            named.append((Line2D([], [], **_hollow(theme.muted, theme)), "held up by the injected map: no finding"))
    handles, names = zip(*named, strict=True)
    legend = figure.legend(handles, names, loc="outside upper center", ncols=min(len(names), 3), columnspacing=1.4)
    for text in legend.get_texts():
        text.set_parse_math(False)
