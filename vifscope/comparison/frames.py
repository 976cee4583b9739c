"""The exact tables of a comparison: what is drawn, printed and written.

Intervals are 95 % bootstrap intervals over images. Layers count from 0.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from vif_core.errors import UsageError
from vifscope.comparison.pairs import METRICS, Side
from vifscope.figures.frames import ALL, has_map, map_strip
from vifscope.figures.scale import finest
from vifscope.runs.manifest import BY_CONSTRUCTION
from vifscope.stats import PairedDifference, bootstrap_mean, holm, paired_difference, sign_test
from vifscope.summary import groups

SCOPES = ("deep", "deep injected", "deep uninjected")
"""Means over the last quarter of the layers, and over those of them that are injected and that are not."""

PATCH_EDGES = (0, 0.5, 1, 2, 4, np.inf)
PIXEL_EDGES = (0, 8, 16, 32, 64, np.inf)
"""Sides of targets by which `gains_frame` groups them."""

CANDIDATES = 16
"""Samples of a kind that are drawn, and of which the one is shown whose entropy changes most."""


def curves_frame(sides: Sequence[Side]) -> pd.DataFrame:
    """Each metric of each run by layer, over the shared samples.

    Columns run, metric, layer, deep, injected (into that run's layer), by_construction (the ratio of such a layer: no
    finding), mean, low, high, n (samples with a value).
    """
    frames = []
    for side in sides:
        for metric in METRICS:
            mean, low, high = bootstrap_mean(side.values[metric], side.units)
            columns = {"layer": range(side.num_layers), "mean": mean, "low": low, "high": high}
            frame = pd.DataFrame(columns | {"n": (~np.isnan(side.values[metric])).sum(0)})
            held_up = frame["layer"].isin(side.held_up) & (metric in BY_CONSTRUCTION)
            marks = {"injected": frame["layer"].isin(side.injected), "by_construction": held_up}
            frames.append(frame.assign(run=side.name, metric=metric, **marks))
    table = pd.concat(frames, ignore_index=True)
    table["deep"] = table["layer"].isin(sides[0].deep)
    return table[["run", "metric", "layer", "deep", "injected", "by_construction", "mean", "low", "high", "n"]]


def differences_frame(sides: Sequence[Side]) -> pd.DataFrame:
    """What changes from the baseline to each other run: every metric by layer, then its mean over the deep layers.

    Columns run, scope ("layer" or one of SCOPES), layer (empty for a scope of several), deep, injected (on either
    side), by_construction (the ratio of an injected layer: no finding), metric, n (pairs), baseline, other, difference,
    low, high, percent, percent_low, percent_high, p (Wilcoxon signed-rank), p_holm (corrected over the layers).
    A scope without layers has no rows.
    """
    baseline = sides[0]
    frames = []
    for other in sides[1:]:
        touched = {*baseline.injected, *other.injected}
        held_up = {*baseline.held_up, *other.held_up}
        first, second = (np.stack([side.values[metric] for metric in METRICS], axis=-1) for side in (baseline, other))
        by_layer = _change(first, second, baseline.units)  # a row a layer and metric
        by_layer.insert(0, "layer", np.repeat(np.arange(baseline.num_layers), len(METRICS)))
        by_layer["p_holm"] = by_layer.groupby("metric")["p"].transform(lambda p: holm(p.to_numpy()))
        marks = {"injected": by_layer["layer"].isin(touched), "by_construction": by_layer["layer"].isin(held_up)}
        parts = [by_layer.assign(scope="layer", **marks)]
        for scope, layers in zip(SCOPES, _deep_layers(baseline, touched), strict=True):
            if layers:
                before, after = _mean_where_both(first[:, layers], second[:, layers])
                part = _change(before, after, baseline.units)
                marked = {"injected": bool(touched & {*layers}), "by_construction": bool(held_up & {*layers})}
                parts.append(part.assign(scope=scope, **marked))
        frame = pd.concat(parts, ignore_index=True).astype({"layer": "Int64"})
        frame["deep"] = frame["layer"].isin(baseline.deep) | (frame["scope"] != "layer")
        frame["by_construction"] &= frame["metric"].isin(BY_CONSTRUCTION)
        frames.append(frame.assign(run=other.name))
    first_columns = ["run", "scope", "layer", "deep", "injected", "by_construction", "metric"]
    table = pd.concat(frames, ignore_index=True)
    return table[[*first_columns, *(name for name in table.columns if name not in first_columns)]]


def accuracy_frame(sides: Sequence[Side]) -> pd.DataFrame:
    """Accuracy of each other run against the baseline's: overall, by kind of question, by size of the target.

    Columns run, group ("all", "kind" or "size"), name, n (pairs with an answer), baseline, other, difference, low, high
    (shares of 1), baseline_only, other_only (pairs that one side alone has right), p (`sign_test` over images,
    whose several questions are no observations of their own).
    """
    baseline = sides[0]
    kinds, sizes = groups(baseline.samples, "kind"), groups(baseline.samples, "size")
    chosen = [("all", ALL, list(range(len(baseline.samples))))]
    chosen += [("kind", name, places) for name, places in kinds.items()]
    chosen += [("size", name, places) for name, places in sizes.items()]
    before = _correct(baseline)
    rows: list[dict[str, Any]] = []
    for other in sides[1:]:
        after = _correct(other)
        known = ~(np.isnan(before) | np.isnan(after))
        for group, name, places in chosen:
            at = np.array(places)[known[places]]
            change = paired_difference(before[at], after[at], baseline.units[at])
            lost, gained, p = sign_test(before[at], after[at], baseline.units[at])
            row = {"run": other.name, "group": group, "name": name, "n": len(at)}
            row |= {"baseline": float(change.first), "other": float(change.second)}
            row |= {
                key: float(value) for key, value in zip(("difference", "low", "high"), change.difference, strict=True)
            }
            rows.append(row | {"baseline_only": lost, "other_only": gained, "p": p})
    return pd.DataFrame(rows)


def targets_frame(baseline: Side, other: Side) -> pd.DataFrame:
    """How large each pair's target is, and what the other run gains on it. Pairs with an answer, boxes and a grid.

    Columns sample_id, image (what the bootstrap draws), side_px (square root of the target's area, mean over its
    boxes), side_patches (the same in patches of the baseline's finest grid on the image), gain (1, 0 or -1).
    """
    gains = _correct(other) - _correct(baseline)
    rows = []
    for sample, image, gain in zip(baseline.samples, baseline.units, gains, strict=True):
        boxes = np.array([list(box) for box in sample["boxes"]] if sample["boxes"] is not None else [])
        grid = finest(sample["images"])
        if not len(boxes) or grid is None or not any(sample["measured"]) or np.isnan(gain):
            continue
        x0, y0, x1, y1 = grid["rect_px"]
        side_px = float(np.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).mean())
        patch_px = np.sqrt((x1 - x0) * (y1 - y0) / (grid["rows"] * grid["cols"]))
        row = {"sample_id": sample["sample_id"], "image": image, "side_px": side_px}
        rows.append(row | {"side_patches": side_px / patch_px, "gain": gain})
    return pd.DataFrame(rows, columns=["sample_id", "image", "side_px", "side_patches", "gain"])


def gains_frame(targets: pd.DataFrame) -> pd.DataFrame:
    """Gain in accuracy by the size of the target, in patches and in pixels. targets: `targets_frame`.

    Columns unit ("patches" or "pixels"), size (the interval of sides), n, gain, low, high (shares of 1).
    """
    rows = []
    for unit, column, edges in (("patches", "side_patches", PATCH_EDGES), ("pixels", "side_px", PIXEL_EDGES)):
        for low, high in pairwise(edges):
            own = targets[(targets[column] >= low) & (targets[column] < high)]
            if len(own):
                gain = bootstrap_mean(own["gain"].to_numpy(float), own["image"].to_numpy())
                size = f"{low:g} and more" if np.isinf(high) else f"{low:g} to {high:g}"
                columns = dict(zip(("gain", "low", "high"), map(float, gain), strict=True))
                rows.append({"unit": unit, "size": size, "n": len(own)} | columns)
    return pd.DataFrame(rows)


def maps_frame(baseline: Side, other: Side, most: int = 4, seed: int = 0) -> pd.DataFrame:
    """Maps of both runs side by side in two deep layers, for a sample of each of the most frequent kinds (Figure 6).

    layers:  the middle one and the last of the deep layers that are injected, or of all deep layers where fewer than
             two are: 27 and 31 of the paper's 32.
    samples: of 16 of each kind, drawn by `seed`, the one whose visual entropy in these layers changes most.
    Columns as of `map_strip`, and run. Raises UsageError where no sample has a map in both runs.
    """
    layers = shown_layers(baseline, other)
    ids = _most_changed(baseline, other, layers, most, seed)
    strips = [map_strip(side.run, ids, layers).assign(run=side.name) for side in (baseline, other)]
    return pd.concat(strips, ignore_index=True)


def shown_layers(baseline: Side, other: Side) -> list[int]:
    """The two deep layers whose maps are shown; one where there is only one."""
    both = [layer for layer in baseline.deep if layer in {*baseline.injected, *other.injected}]
    deep = both if len(both) > 1 else baseline.deep
    return sorted({deep[(len(deep) - 1) // 2], deep[-1]})


def _change(first: np.ndarray, second: np.ndarray, units: np.ndarray) -> pd.DataFrame:
    """`paired_difference` of [N, layers, metrics] as a table, a row a layer and metric."""
    change: PairedDifference = paired_difference(first, second, units)
    columns = {"n": change.n, "baseline": change.first, "other": change.second}
    columns |= dict(zip(("difference", "low", "high"), change.difference, strict=True))
    columns |= dict(zip(("percent", "percent_low", "percent_high"), change.percent, strict=True))
    frame = pd.DataFrame({name: values.reshape(-1) for name, values in (columns | {"p": change.p}).items()})
    frame.insert(0, "metric", METRICS * first.shape[1])
    return frame


def _mean_where_both(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means over layers of [N, layers, metrics], of those that are defined on both sides: [N, 1, metrics]."""
    known = ~(np.isnan(first) | np.isnan(second))
    counts = np.where(known.any(1, keepdims=True), known.sum(1, keepdims=True), np.nan)
    means = [np.where(known, values, 0).sum(1, keepdims=True) / counts for values in (first, second)]
    return means[0], means[1]


def _deep_layers(side: Side, touched: set[int]) -> list[list[int]]:
    """The deep layers of each of SCOPES; of the first alone where no layer is injected."""
    if not touched:
        return [side.deep, [], []]
    return [side.deep, *([layer for layer in side.deep if (layer in touched) is wanted] for wanted in (True, False))]


def _correct(side: Side) -> np.ndarray:
    """1 for right, 0 for wrong, NaN without an answer."""
    return np.array([np.nan if sample["correct"] is None else float(sample["correct"]) for sample in side.samples])


def _most_changed(baseline: Side, other: Side, layers: Sequence[int], most: int, seed: int) -> list[str]:
    drawable = [
        place for place, pair in enumerate(zip(baseline.samples, other.samples, strict=True)) if all(map(has_map, pair))
    ]
    if not drawable:
        expected = "measured samples whose visual tokens lie on a grid"
        raise UsageError(f"{baseline.name} and {other.name} share no sample with maps to draw", expected=expected)
    entropy = [side.values["visual_entropy"][:, layers] for side in (baseline, other)]
    change = np.nan_to_num(np.abs(entropy[1] - entropy[0])).sum(1)  # [N]
    kinds = pd.Series([baseline.samples[place]["kind"] or "" for place in drawable], index=drawable)
    rng = random.Random(seed)
    chosen = []
    for kind in kinds.value_counts().index[:most]:
        places = kinds.index[kinds == kind].tolist()
        drawn = rng.sample(places, min(CANDIDATES, len(places)))
        ranked = sorted(drawn, key=lambda place: -change[place])
        chosen += ranked[: most if kinds.nunique() == 1 else 1]
    return [baseline.samples[place]["sample_id"] for place in chosen]
