"""Where VIF's spotlights lie: as maps on the patches, as densities over the picture, and how the answer moves them.

The prior's come from the question alone, the posterior's from question and answer (paper Figure 5).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from vif_core.errors import UsageError
from vif_core.vlm.layout import ImageGrid, box_weights
from vifscope.figures.frames import MAP_SIDE_PX, has_map, measured_samples
from vifscope.figures.scale import finest
from vifscope.runs import RunStore

COLUMNS = ["mid", "deep", "branch", "row", "col", "spread", "weight"]
PLACED = ["x_px", "y_px", "radius_x_px", "radius_y_px", "weight"]
BRANCHES = {"prior": "question alone", "posterior": "with the answer"}
AMBIGUOUS = 1 / 3
"""Share of the samples, those with the broadest prior maps, that count as ambiguous."""
LEAST_WEIGHT = 0.01
"""Spotlights of less weight are not drawn."""


def has_spotlights(run: RunStore) -> bool:
    """Whether any sample of a run has: not without VIF, and not of runs from before they were kept."""
    return any(lights is not None and len(lights) for lights in run.samples()["spotlights"])


def spotlight_frame(sample: dict[str, Any], image: int = 0) -> pd.DataFrame:
    """A sample's spotlights in pixels of one of its images; empty for a model without VIF, and without a map of it.

    Columns mid, deep (layers of the pair), branch, x_px, y_px (centre), radius_x_px, radius_y_px (one spread along each
    axis: a spotlight that is round on the grid's cells is oblong on a picture that was stretched to them), weight.
    """
    own = [grid for grid in sample["images"] if grid["image"] == image]
    if not own:
        return pd.DataFrame(columns=["mid", "deep", "branch", *PLACED])
    # Places and the unit of spreads are those of vif_core.vif.turns.grid_places.
    whole = next((grid for grid in own if grid["frame"] == "thumbnail"), own[0])
    x0, y0, x1, y1 = whole["rect_px"]
    wide, high = x1 - x0, y1 - y0
    if whole["frame"] == "thumbnail":
        unit = max(wide, high), max(wide, high)
    else:
        cells = max(whole["rows"], whole["cols"])
        unit = cells * wide / whole["cols"], cells * high / whole["rows"]
    listed = sample.get("spotlights")
    frame = pd.DataFrame([] if listed is None else list(listed), columns=COLUMNS)
    frame["x_px"], frame["y_px"] = x0 + frame["col"] * wide, y0 + frame["row"] * high
    frame["radius_x_px"], frame["radius_y_px"] = frame["spread"] * unit[0], frame["spread"] * unit[1]
    return frame[["mid", "deep", "branch", *PLACED]]


def by_layer(sample: dict[str, Any], image: int = 0) -> dict[str, dict[str, Any]]:
    """For pages, by injected layer: mid (the layer they were made from), and each branch's [x, y, radius_x, radius_y,
    weight] in pixels of the image. Spotlights of little weight are left out."""
    found: dict[str, dict[str, Any]] = {}
    for light in spotlight_frame(sample, image).to_dict("records"):
        if light["weight"] >= LEAST_WEIGHT:
            pair = found.setdefault(str(light["deep"]), {"mid": light["mid"]})
            pair.setdefault(light["branch"], []).append([round(float(light[name]), 4) for name in PLACED])
    return found


def density(lights: pd.DataFrame, x_px: np.ndarray, y_px: np.ndarray) -> np.ndarray:
    """The mixture of spotlights (paper equations 3 and 4) at every pair of places: [Y, X], sum 1.

    In logs, so that a narrow spotlight between two places is not lost.
    """
    x, y, radius_x, radius_y, weight = lights[PLACED].to_numpy(float).T  # [K]
    away = ((x_px[None, :, None] - x) / radius_x) ** 2 + ((y_px[:, None, None] - y) / radius_y) ** 2  # [Y X K]
    values = np.logaddexp.reduce(np.log(weight.clip(1e-30)) - away / 2, axis=-1)
    shares = np.exp(values - values.max())
    return shares / shares.sum()


def branch_frame(run: RunStore) -> pd.DataFrame:
    """A row a sample, layer pair and branch: what the map of its spotlights on the first grid is like.

    Columns sample_id, kind, image (what the bootstrap draws), mid, deep, branch, entropy (nats), box_lift (NaN without
    boxes), ambiguous (whether the prior's maps, mean over pairs, are among the broadest third). Raises UsageError for a
    run without spotlights.
    """
    rows = []
    for sample in measured_samples(run):
        if not has_map(sample):
            continue
        grid = sample["images"][0]
        lights = spotlight_frame(sample)
        laid = ImageGrid(**{**grid, "offset": 0, "stride": grid["cols"], "rect_px": tuple(grid["rect_px"])})
        x0, y0, x1, y1 = laid.boxes_px.reshape(laid.rows, laid.cols, 4).transpose(2, 0, 1)
        boxes = [tuple(box) for box in sample["boxes"]] if sample["boxes"] is not None else []
        covered = box_weights([laid], laid.n_tokens, boxes) if boxes else np.zeros(laid.n_tokens)
        for (mid, deep, branch), own in lights.groupby(["mid", "deep", "branch"], sort=False):
            shares = density(own, (x0 + x1)[0] / 2, (y0 + y1)[:, 0] / 2).ravel()
            entropy = -(shares * np.log(shares.clip(1e-30))).sum()
            lift = shares @ covered / covered.mean() if covered.any() else np.nan
            kept = {name: sample[name] for name in ("sample_id", "kind")}
            kept["image"] = " ".join(sample["image"]) or sample["sample_id"]
            rows.append(kept | {"mid": mid, "deep": deep, "branch": branch, "entropy": entropy, "box_lift": lift})
    if not rows:
        raise UsageError(
            f"run {run.path} holds no spotlights",
            expected="a run of a model with VIF, of this version",
            next_step="Measure it anew: vifscope analyze --model mini-llava-vif --overwrite",
        )
    frame = pd.DataFrame(rows)
    prior = frame[frame["branch"] == "prior"].groupby("sample_id")["entropy"].mean()
    broad = prior.index[prior >= prior.quantile(1 - AMBIGUOUS)]
    return frame.assign(ambiguous=frame["sample_id"].isin(broad))


def light_strip(run: RunStore, sample_ids: Sequence[str] | None = None, deep: int | None = None) -> pd.DataFrame:
    """A few samples' spotlights, from the question alone and with the answer, over the first image (paper Figure 5).

    sample_ids: by default the four whose map the answer changes most in entropy, among the ambiguous, with boxes first.
    deep:       the injected layer; by default the last.
    Columns sample_id, branch, map (array over the image: density, mean 1), lights (a row of PLACED
    each), picture, grid, boxes, question, answer, response, correct. Raises UsageError for a run without spotlights.
    """
    frame = branch_frame(run)
    deep = int(frame["deep"].max()) if deep is None else deep
    if sample_ids is None:
        known = frame[frame["ambiguous"] & (frame["deep"] == deep)]
        entropy = known.pivot(index="sample_id", columns="branch", values="entropy").reindex(columns=[*BRANCHES])
        change = (entropy["posterior"] - entropy["prior"]).abs().fillna(0)
        boxed = known.groupby("sample_id")["box_lift"].count() > 0
        ranked = pd.DataFrame({"boxed": boxed, "change": change}).sort_values(["boxed", "change"], ascending=False)
        sample_ids = ranked.index[:4].tolist()
    samples = {sample["sample_id"]: sample for sample in measured_samples(run)}
    rows = []
    for sample_id in sample_ids:
        sample = samples[sample_id]
        lights = spotlight_frame(sample)
        picture = run.image(sample_id, 0)
        shrink = MAP_SIDE_PX / max(picture.size)
        wide, high = (max(1, round(side * shrink)) for side in picture.size)
        kept = {name: sample[name] for name in ("sample_id", "boxes", "question", "answer", "response", "correct")}
        for branch in BRANCHES:
            own = lights[(lights["deep"] == deep) & (lights["branch"] == branch)]
            if own.empty:
                continue
            shown = density(own, (np.arange(wide) + 0.5) / shrink, (np.arange(high) + 0.5) / shrink)
            listed = own[own["weight"] >= LEAST_WEIGHT][PLACED].to_numpy(float)
            row = {"branch": branch, "map": shown * shown.size, "lights": listed}
            rows.append({**kept, **row, "picture": picture, "grid": finest(sample["images"])})
    return pd.DataFrame(rows)
