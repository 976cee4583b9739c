"""Samples as one HTML file that needs nothing else: maps over the picture, layer by layer, and their metrics."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import pandas as pd
from plotly.colors import sample_colorscale

from vif_core.errors import UsageError
from vifscope.figures.interactive import picture_source
from vifscope.figures.lights import by_layer
from vifscope.figures.palette import MAP_COLOURS
from vifscope.figures.scale import bar_px, grid_lines, token_words
from vifscope.runs import RunStore
from vifscope.runs.maps import on_grid

CURVES = {"visual_ratio": "visual ratio", "visual_entropy": "entropy (nats)", "box_lift": "box lift"}
PARTS = {"tile": "tiles"}
"""What a grid lies on, where its kind is not the word for it."""

LONGEST_PX = 640
"""Pictures are made smaller to this."""


class View:
    """A viewer that a notebook shows in a frame of its own, and that `html` gives as a file."""

    def __init__(self, page: str, height_px: int = 680) -> None:
        self.html, self._height_px = page, height_px

    def _repr_html_(self) -> str:
        framed = html.escape(self.html, quote=True)
        return f'<iframe srcdoc="{framed}" style="width: 100%; height: {self._height_px}px; border: 0"></iframe>'


def viewer_html(shown: Sequence[tuple[RunStore, str]]) -> str:
    """The page that steps through samples, each of a run, and all of their layers.

    shown: runs and ids of their samples. Raises UsageError for none, and for samples that a run did not measure.
    """
    if not shown:
        raise UsageError("no sample to view", expected="one at least")
    layers: dict[Path, pd.DataFrame] = {}
    samples = []
    for run, sample_id in shown:
        if run.path not in layers:
            own = run.layers()
            layers[run.path] = own[own["map"] == "raw"]
        mine = layers[run.path]
        samples.append(_told(run, sample_id, mine[mine["sample_id"] == sample_id]))
    colours = sample_colorscale(MAP_COLOURS, 64)
    data = json.dumps({"colours": colours, "samples": samples}, allow_nan=False, separators=(",", ":"))
    template = Template((files("vifscope.figures") / "viewer.html").read_text(encoding="utf-8"))
    return template.substitute(title="vifscope", data=data.replace("<", "\\u003c"))


def _told(run: RunStore, sample_id: str, layers: pd.DataFrame) -> dict[str, Any]:
    flow = run.flow(sample_id)  # [L R V]; refuses what was not measured
    sample = run.sample(sample_id)
    layers = layers.set_index("layer").reindex(range(len(flow)))
    measured = np.asarray(sample["measured"], dtype=bool)
    laid = [grid for grid in run.grids(sample_id) if grid["image"] == 0] if measured.any() else []
    picture = run.image(sample_id, 0)
    wide, high = picture.size
    bar, pictures = f"{bar_px(wide)} px", len(sample["image"])
    right = {True: " (right)", False: " (wrong)"}.get(sample["correct"], "")
    return {
        "run": run.path.resolve().name,
        "id": sample_id,
        "question": sample["question"],
        "told": f"Answer: {sample['answer'] or 'not known'}. Response: {sample['response']}{right}",
        "picture": picture_source(picture, LONGEST_PX),
        "wide": wide,
        "high": high,
        "of": f" of picture 1 of {pictures}" if pictures > 1 else "",
        "bar": bar_px(wide),
        "scale": bar,
        "boxes": [list(box) for box in sample["boxes"]] if sample["boxes"] is not None else [],
        "depth": len(flow),
        "grids": [
            {
                "name": f"{PARTS.get(grid['frame'], grid['frame'])}, {grid['rows']} × {grid['cols']} visual tokens",
                "rect": list(grid["rect_px"]),
                "lines": grid_lines(grid, (wide, high)).round(3).tolist(),
                "scale": f"{bar}   {token_words(grid)}",
                "maps": _over_maximum(on_grid(flow[:, measured].mean(1), grid)),
            }
            for grid in sorted(laid, key=lambda grid: -grid["rows"] * grid["cols"])  # the finest is shown first
        ],
        "curves": {
            words: [None if np.isnan(value) else float(f"{value:.6g}") for value in layers[name]]
            for name, words in CURVES.items()
            if layers[name].notna().any()
        },
        "spotlights": by_layer(sample),
    }


def _over_maximum(maps: np.ndarray) -> list[Any]:
    """Each layer of [L, rows, cols] over its own maximum, so that rounding leaves as much of a faint one as of others;
    None for a layer without attention."""
    most = maps.max((1, 2), keepdims=True)
    shares = (maps / np.where(most > 0, most, 1)).astype(float).round(4)  # of float32 each would take 20 letters
    return [None if np.isnan(shown).any() else shown.tolist() for shown in shares]
