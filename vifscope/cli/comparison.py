"""A comparison in a terminal: what changes in every layer and in accuracy, and the findings in words."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from vifscope.comparison.words import p_value

COLUMNS = {
    "visual_ratio": "ratio",
    "ratio_lift": "lift",
    "visual_entropy": "entropy",
    "relative_entropy": "relative",
    "box_mass": "box mass",
    "box_lift": "box lift",
}
LEVEL = 0.05


def comparison_view(found: dict[str, Any]) -> Group:
    """What `vifscope compare` prints of a `comparison_dict`; at most 80 columns wide."""
    parts: list[RenderableType] = []
    for other in found["others"]:
        head = f"{other['name']} less {found['baseline']['name']}"
        parts += [Text(head, style="bold"), _layers(other), Text(_legend(other), style="dim"), Text()]
        parts += [_accuracy(other), Text(), Text(other["sentence"])]
        if other["paper"]:
            parts.append(Text(other["paper"]["line"]))
        parts.append(Text())
    return Group(*parts, Text(found["samples"]))


def _layers(other: dict[str, Any]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False)
    table.add_column("layer", justify="right")
    for heading in COLUMNS.values():
        table.add_column(heading, justify="right", no_wrap=True)
    for layer in other["layers"]:
        table.add_row(f"{layer['layer']}{'i' if layer['injected'] else ' '}", *_changes(layer))
    table.add_section()
    for scope, metrics in other["deep"].items():
        table.add_row(scope.removeprefix("deep "), *_changes(metrics))
    return table


def _changes(metrics: dict[str, Any]) -> list[str]:
    """Differences; in brackets what is so by construction, with a star what the corrected test tells from no change."""
    cells = []
    for metric in COLUMNS:
        change = metrics[metric]
        p = change.get("p_holm", change["p"])
        value = _number(change["difference"])
        star = "*" if p is not None and p < LEVEL else " "
        cells.append(f"({value}) " if change["by_construction"] else f"{value}{star}")
    return cells


def _legend(other: dict[str, Any]) -> str:
    stars = f"*: p < {LEVEL:g}, Wilcoxon signed-rank over images, Holm over layers."
    if not any(layer["injected"] for layer in other["layers"]):
        return stars
    return f"{stars} i: injected; there the ratio, in brackets, is held up by the map and no finding."


def _accuracy(other: dict[str, Any]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False)
    table.add_column("accuracy, %")
    for heading in ("n", "baseline", "this run", "difference", "95 % interval", "p"):
        table.add_column(heading, justify="right", no_wrap=True)
    for group in ({"all": other["accuracy"]}, other["accuracy_by_kind"], other["accuracy_by_size"]):
        for name, change in group.items():
            table.add_row(Text(name), *_accuracy_cells(change))
        table.add_section()
    return table


def _accuracy_cells(change: dict[str, Any]) -> list[str]:
    if not change["n"]:
        return ["0", *["-"] * 5]
    values = {key: 100 * change[key] for key in ("baseline", "other", "difference")}
    return [
        str(change["n"]),
        f"{values['baseline']:.1f}",
        f"{values['other']:.1f}",
        f"{values['difference']:+.1f}",
        "-" if change["low"] is None else f"{100 * change['low']:+.1f} to {100 * change['high']:+.1f}",
        p_value(change["p"]),
    ]


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:+.0f}" if abs(value) >= 100 else f"{value:+.3f}" if abs(value) < 1 else f"{value:+.2f}"
