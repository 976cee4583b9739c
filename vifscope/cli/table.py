"""The summary of a run in a terminal: a compact table of its layers, sparklines, and the finding in words."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from vifscope.runs.manifest import BY_CONSTRUCTION

COLUMNS = {
    "visual_ratio": "ratio",
    "ratio_lift": "lift",
    "visual_entropy": "entropy",
    "relative_entropy": "relative",
    "box_lift": "box lift",
}
_BLOCKS, _PLAIN = "▁▂▃▄▅▆▇█", "_.-=+*%#"
_WIDEST = 48  # characters of a sparkline


class Sparkline:
    """Values over layers as one line of blocks, from the least to the largest; a gap where undefined.

    More than 48 layers are drawn as means of neighbours. A terminal without block characters gets plain ones.
    """

    def __init__(self, values: Sequence[float | None]) -> None:
        self._values = _pooled(values)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(self.line(_PLAIN if options.ascii_only else _BLOCKS))

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(len(self._values), len(self._values))

    def line(self, marks: str = _BLOCKS) -> str:
        """The line, drawn with `marks` from low to high.

        >>> Sparkline([0.0, 0.5, None, 1.0]).line()
        '▁▅ █'
        """
        known = [value for value in self._values if value is not None]
        low, high = min(known, default=0.0), max(known, default=0.0)
        scale = (len(marks) - 1) / (high - low) if high > low else 0.0
        return "".join(" " if value is None else marks[int((value - low) * scale + 0.5)] for value in self._values)


def summary_view(summary: dict[str, Any]) -> Group:
    """What `vifscope analyze` and `vifscope summary` print of a `summary_dict`; at most 80 columns wide."""
    layers = summary["layers"]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False)
    table.add_column("layer", justify="right")
    for heading in COLUMNS.values():
        table.add_column(heading, justify="right")
    for layer, before in zip(layers, [layers[0], *layers], strict=False):
        if layer["deep"] and not before["deep"]:
            table.add_section()
        held_up = BY_CONSTRUCTION if layer["held_up"] else ()  # which are no finding, and so in brackets
        cells = (f"({_cell(layer[name])})" if name in held_up else _cell(layer[name]) for name in COLUMNS)
        table.add_row(str(layer["layer"]), *cells)
    curves = Table.grid(padding=(0, 2))
    for name, heading in COLUMNS.items():
        values = [layer[name] for layer in layers]
        known = [value for value in values if value is not None]
        span = f"{_cell(min(known))} to {_cell(max(known))}" if known else "undefined"
        curves.add_row(Text(heading, style="bold"), Sparkline(values), span)
    found = [Text(summary["sentence"]), *_by_name(summary)]
    return Group(table, Text(), curves, Text(), *found)


def _by_name(summary: dict[str, Any]) -> list[Text]:
    """Accuracy by kind and by size, a line each where they are known."""
    lines = []
    for what, named in (("kind", summary["accuracy_by_kind"]), ("size", summary["accuracy_by_size"])):
        known = [f"{name} {100 * a['mean']:.0f} %" for name, a in named.items() if a["mean"] is not None]
        if known:
            lines.append(Text(f"Accuracy by {what}: {', '.join(known)}."))
    return lines


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}" if value >= 0.1 or value == 0 else f"{value:.2g}"


def _pooled(values: Sequence[float | None]) -> list[float | None]:
    if len(values) <= _WIDEST:
        return list(values)
    edges = [len(values) * i // _WIDEST for i in range(_WIDEST + 1)]
    pools = ([v for v in values[a:b] if v is not None] for a, b in itertools.pairwise(edges))
    return [sum(pool) / len(pool) if pool else None for pool in pools]
