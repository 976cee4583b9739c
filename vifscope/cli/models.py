"""The list of families in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from vifscope.families import Family

MAP_WORDS = {"image": "one grid an image", "tiles": "tiles put together", "none": "none: latent queries"}


def families_view(families: Sequence[Family]) -> Group:
    """What `vifscope models` prints: proved families in a table, the others named; at most 80 columns wide."""
    proved, refused, untried = (
        [family for family in families if family.rows == rows] for rows in ("proved", "refused", "untried")
    )
    table = _table("family", "map", "VIF")
    for family in proved:
        vif = family.vif if family.vif == "trains" else family.note.removeprefix("VIF: ") or "needs a map"
        table.add_row(family.name, MAP_WORDS[family.map], Text(vif))
    reasons = _table("refused", "because")
    for family in refused:
        reasons.add_row(family.name, Text(family.note.replace(f"model family {family.name!r}", "the model")))
    return Group(
        Text(f"{len(proved)} families proved: rows equal an eager run's, in batches of pictures of different sizes.\n"),
        table,
        Text(),
        reasons,
        Text(f"\nNot tried: {', '.join(family.name for family in untried)}."),
        Text("Of any model, whatever its family, the same is proved by: vifscope check MODEL"),
    )


def _table(*headings: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), show_edge=False)
    for number, heading in enumerate(headings):
        table.add_column(heading, no_wrap=number == 0)
    return table
