"""The families of transformers' vision-language models, and what was proved of each on a small random model of it."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib.resources import files

FOUND = "families.csv"
"""What the tests found; they fail where it says otherwise."""


@dataclass(frozen=True)
class Family:
    """A family, by its `model_type`.

    rows: "proved" (equal to an eager run's, in left-padded batches of pictures of different sizes), "refused" with the
          reason in `note`, or "untried": not disproved, and `vifscope check` may well prove it.
    map:  "image" (one grid an image), "tiles" (put together, mostly with a thumbnail) or "none" (latent queries,
          without a place); "" where rows are not proved.
    vif:  "trains" (attaches, learns, generates), or "refused" with the reason in `note`; "" where rows are not proved.
    """

    name: str
    rows: str
    map: str
    vif: str
    note: str


def families() -> list[Family]:
    """All of them, by name."""
    lines = (files("vifscope") / FOUND).read_text(encoding="utf-8").splitlines()
    return [Family(**row) for row in csv.DictReader(lines)]
