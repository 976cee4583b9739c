"""An evaluation in a terminal: shares of right answers with intervals, and the finding in words."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

SCORES = {"grounding": "IoU", "describe": "F1"}
"""What the score of a kind is; of the others it is 0 or 1."""


def evaluation_view(found: dict[str, Any]) -> Group:
    """What `vifscope eval` prints of an `Evaluation.summary_dict`; at most 80 columns wide."""
    blind = [name for name in ("blank", "majority") if name in found["accuracy"]]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), show_edge=False)
    table.add_column("%")
    for heading in ("n", "exact", "right", "95 % interval", "score", *blind):
        table.add_column(heading, justify="right", no_wrap=True)
    both = {f"{kind}, {size}": row for kind, sizes in found["by_kind_and_size"].items() for size, row in sizes.items()}
    for group in ({"all": found["accuracy"]}, found["by_kind"], found["by_size"], both):
        for name, measured in group.items():
            label = f"{name} ({SCORES[name]})" if name in SCORES else name
            table.add_row(Text(label), *_cells(measured, blind))
        table.add_section()
    return Group(table, Text(), Text(found["sentence"]))


def _cells(measured: dict[str, Any], blind: list[str]) -> list[str]:
    right = measured["correct"]
    bounds = "-" if right["low"] is None else f"{100 * right['low']:.1f} to {100 * right['high']:.1f}"
    shares = [_percent(measured[name]["mean"]) for name in ("exact", "correct", "score", *blind)]
    return [str(measured["n"]), *shares[:2], bounds, *shares[2:]]


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"
