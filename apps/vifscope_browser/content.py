"""What the page of a sample shows, from the runs: packed maps, tokens, who looks at a patch, heads, numbers to save."""

from __future__ import annotations

import csv
import io
from typing import Any
from urllib.parse import quote

import numpy as np
from dash import dcc, html
from plotly.colors import get_colorscale

from vif_core.vlm.layout import SEGMENTS
from vifscope.figures.interactive import multiples_figure, overlay_figure, patch_figure
from vifscope.figures.lights import by_layer
from vifscope.runs.maps import on_grid
from vifscope_browser.catalogue import Browsed, Catalogue, Chosen

MOST = 3
"""Runs whose maps stand side by side."""

COLOURS = ("cividis", "viridis", "inferno", "gray")
GRAPH = {"displaylogo": False, "displayModeBar": False, "responsive": True}


def pack(catalogue: Catalogue, sample_id: str, chosen: Chosen) -> dict[str, Any]:
    """All that the page needs to step through the layers by itself: runs, and for each its base figure, its maps
    [L, rows, cols] and its metrics by layer."""
    runs = []
    for run in catalogue.holders(sample_id)[:MOST]:
        maps, note = run.maps_or_mean(sample_id, chosen)
        place = catalogue.place(run)
        grid = run.grid(sample_id, chosen)
        stored = run.store.sample(sample_id)
        size = run.store.image(sample_id, grid["image"]).size
        address = f"/picture/{place}/{grid['image']}/{quote(sample_id)}"
        boxes = stored["boxes"] if grid["image"] == 0 else []
        figure = overlay_figure(address, size, grid, maps[0], boxes if boxes is not None else [])
        shown = {"figure": figure.to_plotly_json(), "maps": maps.tolist()}
        shown |= {
            "name": run.name,
            "note": note,
            "colour": run.colour,
            "spotlights": by_layer(stored, grid["image"]),
        }
        runs.append(shown | {"curves": run.curves(sample_id).to_dict("list")})
    scales = {name: get_colorscale(name) for name in (*COLOURS, "RdBu_r")}
    return {"sample": sample_id, "runs": runs, "colourscales": scales}


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
    """Which stored rows look at a patch of a map, and how many rows are not stored."""
    stored = run.store.sample(sample_id)
    weights = on_grid(run.store.flow(sample_id), run.grid(sample_id, chosen))[:, :, row, col]  # [L R]
    names = [_produced(stored, position) for position in stored["query_rows"]]
    kept, whole = len(names), int(np.not_equal(stored["segment"], SEGMENTS.index("visual")).sum())
    said = (
        f"{run.name}: patch in row {row}, column {col}. {kept} rows are stored, named by the token that they produce; "
        f"the other {max(whole - kept, 0)} rows of text are not: vifscope analyze --store-rows text keeps them."
    )
    figure = patch_figure(weights, names)
    return dcc.Graph(figure=figure, config=GRAPH), said


def heads_view(run: Browsed, sample_id: str, grid: int, layer: int) -> html.Div:
    heads = run.heads(sample_id)
    if not heads:
        return html.P(f"{run.name} keeps no maps of single heads.", className="empty")
    maps = np.stack([run.maps(sample_id, Chosen(head=head, grid=grid))[layer] for head in range(heads)])
    figure = multiples_figure(maps, "head")
    return html.Div([html.B(f"{run.name}, layer {layer}"), dcc.Graph(figure=figure, config=GRAPH)])


def layers_view(run: Browsed, sample_id: str, chosen: Chosen) -> html.Div:
    maps, note = run.maps_or_mean(sample_id, chosen)
    named = f"{run.name} ({note})" if note else run.name
    return html.Div([html.B(named), dcc.Graph(figure=multiples_figure(maps, "layer"), config=GRAPH)])


def as_csv(catalogue: Catalogue, sample_id: str, chosen: Chosen) -> str:
    """The maps that are shown, a line a run, layer and patch: run, layer, row, col, weight."""
    buffer = io.StringIO()
    lines = csv.writer(buffer)
    lines.writerow(["run", "layer", "row", "col", "weight"])
    for run in catalogue.holders(sample_id)[:MOST]:
        maps, _ = run.maps_or_mean(sample_id, chosen)
        lines.writerows([run.name, *map(int, at), repr(float(maps[at]))] for at in np.ndindex(maps.shape))
    return buffer.getvalue()


def _produced(stored: dict[str, Any], position: int) -> str:
    following = stored["tokens"][position + 1] if position + 1 < len(stored["tokens"]) else "(end)"
    return f"{position + 1} {following}"
