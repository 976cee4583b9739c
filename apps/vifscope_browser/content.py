"""What the page of a sample shows, from the runs: packed maps, tokens, who looks at a patch, heads, numbers to save."""

from __future__ import annotations

import base64
import csv
import io
from functools import cache
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd
from dash import dcc, html
from plotly.colors import sample_colorscale, unlabel_rgb

from vif_core.errors import UsageError, VifError
from vif_core.vlm.layout import SEGMENTS
from vifscope.figures.interactive import multiples_figure, patch_figure
from vifscope.figures.lights import by_layer
from vifscope.figures.palette import MAP_COLOURS, RUNS
from vifscope.figures.scale import bar_px, token_words
from vifscope.figures.viewer import CURVES
from vifscope.runs.maps import on_grid
from vifscope_browser.catalogue import Browsed, Catalogue, Chosen

MOST = 3
"""Runs whose maps stand side by side."""

COLOURS = (MAP_COLOURS, "viridis", "inferno", "gray")
DIFFERENCE = "RdBu_r"
STOPS = 33
GRAPH = {"displaylogo": False, "displayModeBar": False, "responsive": True}


def pack(catalogue: Catalogue, sample_id: str, chosen: Chosen, said: str = "") -> dict[str, Any]:
    """All that the page needs to step through the layers by itself: each run as a track, and of the first MOST what
    lies under and over the maps.

    What a run lacks is said beside its curves. Raises UsageError where no run has what was chosen.

    said: what became of the choice, for the user to read.
    """
    holders = catalogue.holders(sample_id)
    found: list[tuple[np.ndarray | None, str]] = [run.shown(sample_id, chosen) for run in holders[:MOST]]
    if chosen != Chosen() and all(maps is None for maps, _ in found):
        raise UsageError(found[0][1])
    runs: list[dict[str, Any]] = []
    found += [(None, "")] * (len(holders) - len(found))
    for run, (maps, note) in zip(holders, found, strict=True):
        if maps is None:
            runs.append(track(run, None, run.curves(sample_id)) | {"note": note})
            continue
        grid = run.grid(sample_id, chosen)
        stored = run.store.sample(sample_id)
        boxes = stored["boxes"] if grid["image"] == 0 else None
        size_px = run.store.image_size(sample_id, grid["image"])
        pictured = {
            "note": note,
            "picture": f"/picture/{catalogue.place(run)}/{grid['image']}/{quote(sample_id)}",
            "file": stored["image"][grid["image"]],
            "size_px": size_px,
            "rect_px": grid["rect_px"],
            "bar_px": bar_px(size_px[0]),
            "scale": f"{bar_px(size_px[0])} px   {token_words(grid)}",
            "boxes": boxes or [],
            "spotlights": by_layer(stored, grid["image"]),
        }
        for shown in runs:  # one picture is fetched once
            if shown.get("file") == pictured["file"]:
                pictured["picture"] = shown["picture"]
        runs.append(track(run, maps, run.curves(sample_id)) | pictured)
    asked = {"sample": sample_id, "token": chosen.row, "head": chosen.head, "grid": chosen.grid or None}
    return axis(runs) | {"asked": asked, "said": said}


def axis(tracks: list[dict[str, Any]]) -> dict[str, Any]:
    """What assets/spine.js draws: the runs along the layer axis, the metrics below them, and the scales of colours.

    A scale is STOPS colours [red, green, blue] at even steps.
    """
    return {"runs": tracks, "metrics": CURVES, "colours": _scales()}


@cache
def _scales() -> dict[str, list[Any]]:
    return {name: [unlabel_rgb(stop) for stop in sample_colorscale(name, STOPS)] for name in (*COLOURS, DIFFERENCE)}


def track(run: Browsed, maps: np.ndarray | None, curves: pd.DataFrame) -> dict[str, Any]:
    """One run along the layer axis.

    maps:   [L, rows, cols], sent as the base64 of its float32 values, with its shape; None where there is none to show.
    curves: a row a layer: layer, each metric, and METRIC_low and METRIC_high where there is an interval.
    """
    kept = None if maps is None else base64.b64encode(maps.astype("<f4").tobytes()).decode()
    return {
        "name": run.name,
        "colour": RUNS[run.colour],
        "shape": None if maps is None else maps.shape,
        "maps": kept,
        "curves": curves.to_dict("list"),
    }


def tokens(stored: dict[str, Any], row: int | None) -> list[Any]:
    """The prompt and response after the last visual token, a button for each token whose row is stored."""
    measured = dict(zip(stored["query_rows"], stored["measured"], strict=True))
    first = max(np.flatnonzero(np.equal(stored["segment"], SEGMENTS.index("visual"))), default=-1) + 1
    shown: list[Any] = []
    for position in range(first, len(stored["tokens"])):
        text = str(stored["tokens"][position]).replace("▁", " ").replace("Ġ", " ").replace("\n", "⏎")
        producing = position - 1
        if producing not in measured:
            shown.append(html.Span(text, className="unstored", title="The row that produces it is not stored"))
            continue
        kind = "measured" if measured[producing] else "stored"
        shown.append(
            html.Button(text, id={"type": "token", "row": producing}, className=kind,
                        title=f"row {producing}" + (", measured" if kind == "measured" else ""),
                        **{"aria-pressed": str(producing == row).lower()})
        )  # fmt: skip
    return shown


def patch_view(run: Browsed, sample_id: str, chosen: Chosen, row: int, col: int) -> tuple[Any, str]:
    """Which stored rows look at a patch of a map, and how many rows are not stored. Raises UsageError off the grid."""
    stored = run.store.sample(sample_id)
    grid = run.grid(sample_id, chosen)
    if not (0 <= row < grid["rows"] and 0 <= col < grid["cols"]):
        raise UsageError(f"there is no patch in row {row}, column {col}", expected=f"{grid['rows']} x {grid['cols']}")
    weights = on_grid(run.store.flow(sample_id), grid)[:, :, row, col]  # [L R]
    names = [_produced(stored, position) for position in stored["query_rows"]]
    kept, whole = len(names), int(np.not_equal(stored["segment"], SEGMENTS.index("visual")).sum())
    said = (
        f"{run.name}{_part(chosen.grid)}: patch in row {row}, column {col}. {kept} rows are stored, named by the token "
        f"that they produce; the other {max(whole - kept, 0)} rows of text are not: "
        "vifscope analyze --store-rows text keeps them."
    )
    figure = patch_figure(weights, names)
    return dcc.Graph(figure=figure, config=GRAPH), said


def heads_view(run: Browsed, sample_id: str, grid: int, layer: int) -> html.Div:
    """Every head of a layer; a word where the run has none to show."""
    named = f"{run.name}, layer {layer}{_part(grid)}"
    try:
        figure = multiples_figure(run.head_maps(sample_id, grid, layer), "head")
    except VifError as error:
        return html.Div([html.B(named), html.P(f"No maps of heads: {error}", className="empty")])
    return html.Div([html.B(named), dcc.Graph(figure=figure, config=GRAPH)])


def layers_view(run: Browsed, sample_id: str, chosen: Chosen) -> html.Div:
    """Every layer's map, under what it is of; a word where the run has none to show."""
    maps, note = run.shown(sample_id, chosen)
    of = "mean" if chosen.row is None else f"row {chosen.row}"
    of = of if chosen.head is None else f"head {chosen.head}"
    named = f"{run.name}, {of}{_part(chosen.grid)}"
    if maps is None:
        return html.Div([html.B(named), html.P(note, className="empty")])
    figure = multiples_figure(maps, "layer")
    return html.Div([html.B(f"{named} ({note})" if note else named), dcc.Graph(figure=figure, config=GRAPH)])


def _part(grid: int) -> str:
    return f", map {grid}" if grid else ""


def as_csv(catalogue: Catalogue, sample_id: str, chosen: Chosen) -> str:
    """The maps that are shown, a line a run, layer and patch: run, head and query_row (or mean), grid, layer, row, col,
    weight. A run that has no map to show has no line."""
    buffer = io.StringIO()
    lines = csv.writer(buffer)
    lines.writerow(["run", "head", "query_row", "grid", "layer", "row", "col", "weight"])
    for run in catalogue.holders(sample_id)[:MOST]:
        nearest = run.nearest(sample_id, chosen)
        maps, _ = run.shown(sample_id, nearest)
        if maps is not None:
            of = [run.name, *("mean" if each is None else each for each in (nearest.head, nearest.row)), nearest.grid]
            lines.writerows([*of, *map(int, at), repr(float(maps[at]))] for at in np.ndindex(maps.shape))
    return buffer.getvalue()


def _produced(stored: dict[str, Any], position: int) -> str:
    following = stored["tokens"][position + 1] if position + 1 < len(stored["tokens"]) else "(end)"
    return f"{position + 1} {following}"
