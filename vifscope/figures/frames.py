"""From a run to the exact tables that are drawn and printed.

Layers count from 0; intervals are 95 % bootstrap intervals over images.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd

from vif_core.errors import UsageError, VifError
from vifscope.figures.scale import finest
from vifscope.metrics.attenuation import deep_layers
from vifscope.runs import RunStore
from vifscope.runs.maps import on_grid
from vifscope.stats import bootstrap_mean

ALL = "all"
"""The `group` that pools every sample."""

ATTENUATION = ("visual_ratio", "ratio_lift")
FOCUS = ("relative_entropy", "box_lift")
SHARES = ("visual_ratio", "share_bos", "share_template", "share_question", "share_response")

BINS_PER_DECADE = 25
DECADES = 8  # a violin's weights go from 1e-8 to 1; smaller ones are counted at 1e-8
LEAST_RATIO = 1e-6  # as in vifscope.metrics.distribution, which needs torch
MAP_SIDE_PX = 240  # longest side of a drawn map: a multiple of 12, 16, 20 and 24 patches


def summary_frame(
    run: RunStore, map_kind: str = "raw", metrics: Collection[str] | None = None, *, by_kind: bool = True
) -> pd.DataFrame:
    """Layer metrics, by default all, with their intervals: pooled (group "all"), then by question kind.

    Columns group, layer, metric, mean, low, high, n: n counts the samples in which the metric is defined; the rest is
    NaN where n is 0. Raises UsageError if no sample of the run has maps of this kind.
    """
    layers = run.layers()
    layers = layers[layers["map"] == map_kind]
    if layers.empty:
        raise _nothing(run, map_kind)
    known = [name for name in layers.columns if name not in ("sample_id", "layer", "map")]
    chosen = known if metrics is None else [name for name in known if name in metrics]
    values = layers.pivot(index="sample_id", columns="layer", values=chosen)  # [N, (metric, layer)]
    samples = {sample["sample_id"]: sample for sample in measured_samples(run, ("sample_id", "image", "kind"))}
    units = image_units([samples[sample_id] for sample_id in values.index])
    kinds = np.array([samples[sample_id]["kind"] or "" for sample_id in values.index])
    groups = {ALL: np.ones(len(kinds), dtype=bool)}
    groups |= {str(kind): kinds == kind for kind in np.unique(kinds) if kind not in ("", ALL) and by_kind}
    index = values.columns.set_names(["metric", "layer"])
    frames = []
    for group, among in groups.items():
        mean, low, high = bootstrap_mean(values.to_numpy()[among], units[among])
        frame = pd.DataFrame({"mean": mean, "low": low, "high": high}, index=index).reset_index()
        frame["n"] = values[among].notna().sum().to_numpy()
        frames.append(frame.assign(group=group))
    return pd.concat(frames, ignore_index=True)[["group", "layer", "metric", "mean", "low", "high", "n"]]


def attenuation_frame(run: RunStore, map_kind: str = "raw") -> pd.DataFrame:
    """Visual ratio and ratio lift by layer (paper Figure 1, right).

    Columns layer, deep, visual_ratio, visual_ratio_low, visual_ratio_high, and the same three for ratio_lift.
    """
    return wide(summary_frame(run, map_kind), ATTENUATION)


def focus_frame(run: RunStore, map_kind: str = "raw") -> pd.DataFrame:
    """Relative entropy and box lift by layer; columns as in `attenuation_frame`."""
    return wide(summary_frame(run, map_kind), FOCUS)


def shares_frame(run: RunStore, map_kind: str = "raw") -> pd.DataFrame:
    """Where each layer's attention goes: the visual ratio and the other shares; columns as in `attenuation_frame`."""
    return wide(summary_frame(run, map_kind), SHARES)


def video_frame(run: RunStore, map_kind: str = "raw") -> pd.DataFrame:
    """Visual ratio and entropy of each frame of the videos that a run holds, in each layer.

    Columns sample_id, layer, frame (the first, where the model merges consecutive frames), visual_ratio (the row's flow
    on that frame's tokens, in [0, 1]), visual_entropy (nats, of the flow renormalised over them; NaN where the ratio is
    under 1e-6), both of the head-mean row and then averaged over the measured rows. Tokens between frames (newlines,
    class tokens) belong to none; with them the ratios add up to the layer's. From the stored maps, within 2^-11 of each
    row's largest weight. Raises UsageError where no measured sample is a video.
    """
    tables = []
    for sample in measured_samples(run):
        grids = [grid for grid in sample["images"] if grid["frame"] == "frame"]
        measured = np.asarray(sample["measured"], dtype=bool)
        if not grids or not measured.any():
            continue
        flow = run.flow(sample["sample_id"], map_kind)[:, measured]  # [L R V]
        for grid in grids:
            own = on_grid(flow, grid).reshape(*flow.shape[:2], -1)
            ratio = own.sum(-1)
            with np.errstate(divide="ignore", invalid="ignore"):
                p = own / np.where(ratio >= LEAST_RATIO, ratio, np.nan)[..., None]
                entropy = -np.where(p == 0, 0, p * np.log(p)).sum(-1)  # [L R]
            known = ~np.isnan(entropy)
            total = np.where(known, entropy, 0).sum(1)
            columns = {
                "sample_id": sample["sample_id"],
                "layer": np.arange(len(flow)),
                "frame": grid["image"],
                "visual_ratio": ratio.mean(1),
                "visual_entropy": np.where(known.any(1), total / np.maximum(known.sum(1), 1), np.nan),
            }
            tables.append(pd.DataFrame(columns))
    if not tables:
        raise UsageError(f"run {run.path} holds no measured video", expected="samples with frames")
    return pd.concat(tables, ignore_index=True)


def has_videos(run: RunStore) -> bool:
    """Whether any measured sample of a run is a video."""
    return any(grid["frame"] == "frame" for sample in measured_samples(run) for grid in sample["images"])


def wide(summary: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """The pooled rows of `summary_frame` with a row a layer: METRIC, METRIC_low, METRIC_high for each metric."""
    pooled = summary[summary["group"] == ALL].set_index(["layer", "metric"])
    columns: dict[str, Any] = {}
    for metric in metrics:
        table = pooled.xs(metric, level="metric").sort_index()
        columns |= {metric: table["mean"], f"{metric}_low": table["low"], f"{metric}_high": table["high"]}
    frame = pd.DataFrame(columns).reset_index()
    frame.insert(1, "deep", frame["layer"].isin(deep_layers(len(frame))))
    return frame


def violin_frame(run: RunStore, map_kind: str = "raw") -> pd.DataFrame:
    """How the weights of single visual tokens are distributed in each layer (violins of paper Figure 2).

    A weight is a token's flow, not renormalised, mean over heads and the measured rows. Every sample counts the same.
    Columns layer, weight (centre of a bin, 25 bins a decade from 1e-8 to 1), share (of the weights in that bin; sums to
    1 a layer), density (the share a decade, smoothed by a Gaussian of Scott's width). Undefined layers have no rows.
    """
    from scipy.ndimage import gaussian_filter1d  # for this alone

    counted: np.ndarray | None = None  # [L, bins]
    samples, tokens = 0, 0
    for sample in measured_samples(run):
        weights = _measured_flow(run, sample, map_kind)  # [L, V]
        if np.isnan(weights).all():
            continue
        counted = np.zeros((len(weights), DECADES * BINS_PER_DECADE)) if counted is None else counted
        with np.errstate(divide="ignore"):
            place = (np.log10(weights) + DECADES) * BINS_PER_DECADE
        for layer, places in enumerate(place):
            if not np.isnan(places).any():
                bins = places.clip(0, counted.shape[1] - 1).astype(np.int64)
                counted[layer] += np.bincount(bins, minlength=counted.shape[1]) / len(bins)
        samples, tokens = samples + 1, tokens + weights.shape[1]
    if counted is None:
        raise _nothing(run, map_kind)
    centres = (np.arange(counted.shape[1]) + 0.5) / BINS_PER_DECADE - DECADES  # log10
    frames = []
    for layer in np.flatnonzero(counted.sum(1)).tolist():
        share = counted[layer] / counted[layer].sum()
        spread = np.sqrt(share @ (centres - share @ centres) ** 2)
        smooth = gaussian_filter1d(share, max(1.0, spread * tokens**-0.2 * BINS_PER_DECADE), mode="constant")
        columns = {"weight": 10**centres, "share": share, "density": smooth * BINS_PER_DECADE}
        frames.append(pd.DataFrame({"layer": layer, **columns}))
    return pd.concat(frames, ignore_index=True)


def weight_quantiles(violin: pd.DataFrame, at: Sequence[float]) -> list[float]:
    """Quantiles of one layer's weights, exact to a bin of `violin_frame`."""
    reached = np.searchsorted(violin["share"].cumsum() - 1e-9, at)
    return violin["weight"].iloc[reached].tolist()


def map_strip(
    run: RunStore, sample_ids: Sequence[str] | None = None, layers: Sequence[int] | None = None, map_kind: str = "raw"
) -> pd.DataFrame:
    """The maps of a few samples over a choice of layers, laid over the first image (paper Figure 3).

    sample_ids: by default the first sample of each of the four most frequent kinds.
    layers:     by default six of those with attention, evenly spaced, the first and the last among them.
    Columns sample_id, layer, map (array over the image: flow per area, 1 = uniform, NaN off the grid), picture, grid
    (its finest), boxes (xyxy in its pixels), question, answer, response, correct. Raises UsageError where a sample has
    no map.
    """
    drawable = {sample["sample_id"]: sample for sample in measured_samples(run) if has_map(sample)}
    if not drawable:
        expected = "measured samples whose visual tokens lie on a grid"
        raise UsageError(f"run {run.path} has no maps to draw", expected=expected)
    rows: list[dict[str, Any]] = []
    for sample_id in _first_of_each_kind(drawable) if sample_ids is None else sample_ids:
        if sample_id not in drawable:
            expected = "a measured sample whose visual tokens lie on a grid"
            raise UsageError(f"run {run.path} has no map of sample {sample_id}", expected=expected)
        sample = drawable[sample_id]
        weights = _measured_flow(run, sample, map_kind)
        picture = run.image(sample_id, 0)
        if layers is None:
            read = np.flatnonzero(~np.isnan(weights).all(1))  # [L V]; the others have no attention over the image
            layers = read[np.unique(np.linspace(0, len(read) - 1, 6).round().astype(int))].tolist()
        kept = {name: sample[name] for name in ("sample_id", "boxes", "question", "answer", "response", "correct")}
        grid = finest(sample["images"])
        for layer in layers:
            shown = map_on_image(weights[layer], sample["images"], picture.size)
            rows.append({**kept, "picture": picture, "grid": grid, "layer": layer, "map": shown})
    return pd.DataFrame(rows)


def map_on_image(weights: np.ndarray, grids: Sequence[dict[str, Any]], size_px: tuple[int, int]) -> np.ndarray:
    """Weights of V visual tokens as a picture of their density on the first image, 240 px on its longest side.

    size_px: (width, height) of the image. A token's weight is spread over its footprint; tiles and thumbnail add up;
    newline tokens are left out. The mean over the covered area is 1; NaN off it, and everywhere if no token has weight.
    """
    shrink = MAP_SIDE_PX / max(size_px)
    wide, high = (max(1, round(side * shrink)) for side in size_px)
    x, y = (np.arange(wide) + 0.5) / shrink, (np.arange(high) + 0.5) / shrink
    density, covered = np.zeros((high, wide)), np.zeros((high, wide), dtype=bool)
    for grid in grids:
        if grid["image"] != 0:
            continue
        x0, y0, x1, y1 = grid["rect_px"]
        col = np.floor((x - x0) / (x1 - x0) * grid["cols"]).astype(np.int64)
        row = np.floor((y - y0) / (y1 - y0) * grid["rows"]).astype(np.int64)
        in_row, in_col = (row >= 0) & (row < grid["rows"]), (col >= 0) & (col < grid["cols"])
        inside = np.ix_(in_row, in_col)
        cell_area = (x1 - x0) * (y1 - y0) / (grid["rows"] * grid["cols"])
        density[inside] += on_grid(weights, grid)[np.ix_(row[in_row], col[in_col])] / cell_area
        covered[inside] = True
    mean = density[covered].mean()
    return np.where(covered & (mean > 0), density / (mean or 1), np.nan)


def measured_samples(run: RunStore, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """The rows of samples/ that have no error, by default whole; None where a value is missing."""
    samples = run.samples()
    samples = samples.loc[samples["error"].isna(), samples.columns if columns is None else list(columns)].astype(object)
    samples = samples.where(samples.notna(), None)
    columns = samples.columns.tolist()  # to_dict("records") takes three times as long
    return [dict(zip(columns, row, strict=True)) for row in zip(*(samples[name] for name in columns), strict=True)]


def image_units(samples: Sequence[dict[str, Any]]) -> np.ndarray:
    """What the bootstrap draws, by sample: its images, or the sample itself where it has none."""
    return np.array([" ".join(sample["image"]) or sample["sample_id"] for sample in samples])


def has_map(sample: dict[str, Any]) -> bool:
    """Whether a row of samples/ has measured rows and visual tokens that lie on its first image."""
    return any(grid["image"] == 0 for grid in sample["images"]) and any(sample["measured"])


def _measured_flow(run: RunStore, sample: dict[str, Any], map_kind: str) -> np.ndarray:
    """A sample's flow on its visual tokens, mean over its measured rows: [L, V], NaN without such rows."""
    flow = run.flow(sample["sample_id"], map_kind)
    measured = np.asarray(sample["measured"], dtype=bool)
    return flow[:, measured].mean(1) if measured.any() else np.full_like(flow[:, 0], np.nan)


def _first_of_each_kind(samples: dict[str, dict[str, Any]], most: int = 4) -> list[str]:
    """Ids of the first sample of each of the most frequent kinds, or of the first samples where there is one kind."""
    kinds = pd.Series({sample_id: sample["kind"] or "" for sample_id, sample in samples.items()})
    frequent = kinds.value_counts(sort=True).index[:most]
    return kinds.index[:most].tolist() if len(frequent) == 1 else [kinds.index[kinds == kind][0] for kind in frequent]


def _nothing(run: RunStore, map_kind: str) -> VifError:
    if run.problems:
        return VifError(run.problems[0])
    return UsageError(
        f"run {run.path} holds no measured sample with map {map_kind!r} on visual tokens",
        expected="at least one",
        next_step="Look at the errors in its samples, mend their cause and run the same command again",
    )
