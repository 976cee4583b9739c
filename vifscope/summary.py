"""A run in numbers and in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vifscope.figures.frames import image_units, measured_samples, summary_frame, wide
from vifscope.metrics.attenuation import attenuation_index, nothing_else_seen
from vifscope.runs import RunStore
from vifscope.runs.manifest import BY_CONSTRUCTION, held_up_layers, vif_facts
from vifscope.stats import CHUNK, bootstrap_mean, times_drawn, unit_sums

_WRITTEN = ("index.html", "summary.csv", "figures/*.png", "figures/*.pdf")
_SIZES = ("tiny", "small", "large")
_READ = ("sample_id", "image", "kind", "size", "correct", "score")  # of samples
TOLD = ("visual_ratio", "ratio_lift", "relative_entropy", "box_lift")
"""Metrics of which the sentence tells."""
NO_INTERVAL = "no interval: one image"


def summary_dict(run: RunStore, map_kind: str = "raw", frame: pd.DataFrame | None = None) -> dict[str, Any]:
    """What a run found, ready for JSON; None stands for what is undefined. `frame`: its `summary_frame`, if at hand.

    run, status, model, data, map, n (measured samples), failed;
    accuracy: {n, mean, low, high, score}, n counting the samples with an answer; accuracy_by_kind, accuracy_by_size;
    attenuation_index: {mean, low, high}, of the layers that no injected map holds up; attenuation_index_by_kind;
    layers: a dict a layer: layer, deep, held_up (its ratio and ratio lift are no finding), and METRIC, METRIC_low,
    METRIC_high for every metric;
    sentence; files (paths in the run). Raises UsageError if no sample of the run has maps of this kind.
    """
    frame = summary_frame(run, map_kind) if frame is None else frame
    samples = measured_samples(run, _READ)
    kinds, sizes = groups(samples, "kind"), groups(samples, "size")
    ratio, units = _ratio_by_sample(run, samples, map_kind), image_units(samples)
    by_group = {
        "accuracy_by_kind": {kind: _accuracy([samples[i] for i in chosen]) for kind, chosen in kinds.items()},
        "accuracy_by_size": {size: _accuracy([samples[i] for i in chosen]) for size, chosen in sizes.items()},
        "attenuation_index_by_kind": {kind: _attenuation(ratio[c], units[c]) for kind, c in kinds.items()},
    }
    return pooled_dict(run, map_kind, frame) | plain_numbers(by_group) | {"files": written_files(run, frame)}


def pooled_dict(run: RunStore, map_kind: str = "raw", frame: pd.DataFrame | None = None) -> dict[str, Any]:
    """Of `summary_dict` what pools all samples, with its sentence. `frame`: a `summary_frame` with the metrics TOLD."""
    frame = summary_frame(run, map_kind, TOLD, by_kind=False) if frame is None else frame
    samples = measured_samples(run, _READ)
    configuration = run.manifest.get("configuration", {})
    layers = wide(frame, frame["metric"].unique().tolist())
    layers.insert(2, "held_up", layers["layer"].isin(held_up_layers(vif_facts(run.manifest))))
    summary = {
        "run": str(run.path),
        "status": run.manifest.get("status"),
        "model": shown_name(run.manifest.get("model") or configuration.get("model")),
        "data": shown_name(run.manifest.get("dataset") or configuration.get("data")),
        "map": map_kind,
        "n": len(samples),
        "failed": int(run.samples()["error"].notna().sum()),
        "accuracy": _accuracy(samples),
        "attenuation_index": _attenuation(_ratio_by_sample(run, samples, map_kind), image_units(samples)),
        "layers": layers.to_dict("records"),
    }
    summary = plain_numbers(summary)
    return summary | {"sentence": summary_sentence(summary)}


def written_files(run: RunStore, frame: pd.DataFrame) -> list[str]:
    """Paths in the run of the figures and tables that were written of it; none where they are of other samples, as of
    fewer before it grew. frame: its `summary_frame`."""
    table = run.path / "summary.csv"
    if not table.exists() or pd.read_csv(table)["n"].tolist() != frame["n"].tolist():
        return []
    return sorted(file.relative_to(run.path).as_posix() for pattern in _WRITTEN for file in run.path.glob(pattern))


def summary_sentence(summary: dict[str, Any]) -> str:
    """The finding of a `summary_dict` in plain words; what is undefined is said to be so."""
    model, data = summary["model"] or "the model", f" of {summary['data']}" if summary["data"] else ""
    words = [_ratio_words(summary), *_focus_words(summary["layers"]), _accuracy_words(summary["accuracy"])]
    if summary["failed"]:
        words.append(f"Left out: {count(summary['failed'], 'sample')} that failed.")
    return f"{model} on {count(summary['n'], 'sample')}{data}: {' '.join(words)}"


def _ratio_words(summary: dict[str, Any]) -> str:
    index, layers = summary["attenuation_index"], summary["layers"]
    peak = best_layer(layers, "visual_ratio", max)
    if peak is None or not peak["visual_ratio"]:
        return "no attention on visual tokens was measured, so the attenuation index is undefined."
    if nothing_else_seen(np.array([layer["visual_ratio"] for layer in layers], dtype=np.float64)):
        return "its layers see nothing but the image, by cross-attention: the visual ratio is 1 by construction."
    lift = "" if peak["ratio_lift"] is None else f" ({short(peak['ratio_lift'])} times uniform attention)"
    top = f"the visual ratio peaks at {short(peak['visual_ratio'])} in layer {peak['layer']}{lift}"
    deep = [layer for layer in layers if layer["deep"]]
    known = [layer["visual_ratio"] for layer in deep if layer["visual_ratio"] is not None and not layer["held_up"]]
    held = [str(layer["layer"]) for layer in layers if layer["held_up"]]
    but = (
        f" Not counted: layer{'s' * (len(held) > 1)} {', '.join(held)}, where the injected map holds the ratio up."
        if held
        else ""
    )
    if not known:
        return f"{top}. It is undefined in the deep {_places(deep)}, and so is the attenuation index.{but}"
    mean = short(sum(known) / len(known))
    return f"{top} and averages {mean} over the deep {_places(deep)}: attenuation index {interval(index)}.{but}"


def _focus_words(layers: Sequence[dict[str, Any]]) -> list[str]:
    focused, lifted = best_layer(layers, "relative_entropy", min), best_layer(layers, "box_lift", max)
    words = []
    if focused is not None:
        entropy = f"relative entropy {short(focused['relative_entropy'])}, 1 being uniform"
        words.append(f"Attention over the image is most focused in layer {focused['layer']} ({entropy}).")
    if lifted is None:
        words.append("Box lift is undefined: no measured sample has a target box on a grid.")
    else:
        lift = {key: lifted[f"box_lift{suffix}"] for key, suffix in (("mean", ""), ("low", "_low"), ("high", "_high"))}
        words.append(f"Attention lies most on the target in layer {lifted['layer']}: box lift {interval(lift)}.")
    return words


def _accuracy_words(accuracy: dict[str, Any]) -> str:
    if accuracy["mean"] is None:
        return "Accuracy is unknown: no sample has an answer."
    return f"Accuracy {interval(accuracy, percent=True)} on {count(accuracy['n'], 'sample')} with an answer."


def interval(value: dict[str, Any], *, percent: bool = False) -> str:
    """A mean with its 95 % interval, in words.

    >>> interval({"mean": 0.5, "low": 0.4, "high": 0.6})
    '0.5 (95 % interval 0.4 to 0.6)'
    >>> interval({"mean": 0.5, "low": None, "high": None})
    '0.5 (no interval: one image)'
    """
    known = [value[key] for key in ("mean", "low", "high") if value[key] is not None]
    if not known:
        return "undefined"
    mean, *ends = (f"{100 * number:.1f}" if percent else short(number) for number in known)
    unit = " %" if percent else ""
    return f"{mean}{unit} ({f'95 % interval {ends[0]} to {ends[1]}{unit}' if ends else NO_INTERVAL})"


def best_layer(layers: Sequence[dict[str, Any]], metric: str, which: Any) -> dict[str, Any] | None:
    """The layer with the largest (which=max) or smallest (min) metric; None where it is undefined in all. A layer that
    an injected map holds up has no ratio of its own."""
    known = [layer for layer in layers if layer[metric] is not None]
    known = [layer for layer in known if not (layer["held_up"] and metric in BY_CONSTRUCTION)]
    return which(known, key=lambda layer: layer[metric]) if known else None


def short(value: float) -> str:
    """Three significant digits."""
    return f"{value:.3g}"


def count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _places(layers: Sequence[dict[str, Any]]) -> str:
    first, last = layers[0]["layer"], layers[-1]["layer"]
    return f"layer {first}" if first == last else f"layers {first} to {last}"


def groups(samples: Sequence[dict[str, Any]], column: str) -> dict[str, list[int]]:
    """Places of the samples of each kind or size, unnamed ones left out; sizes from tiny to large, names sorted."""
    names = {sample[column] for sample in samples if sample[column]}
    ordered = sorted(names, key=lambda name: (_SIZES.index(name) if name in _SIZES else len(_SIZES), name))
    return {name: [i for i, sample in enumerate(samples) if sample[column] == name] for name in ordered}


def _accuracy(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Share of right responses among the samples with an answer, and their mean score."""
    answered = [sample for sample in samples if sample["correct"] is not None]
    mean, low, high = bootstrap_mean(np.array([float(s["correct"]) for s in answered]), image_units(answered))
    scores = [sample["score"] for sample in answered if sample["score"] is not None]
    score = sum(scores) / len(scores) if scores else math.nan
    return {"n": len(answered), "mean": float(mean), "low": float(low), "high": float(high), "score": score}


def _ratio_by_sample(run: RunStore, samples: Sequence[dict[str, Any]], map_kind: str) -> np.ndarray:
    """Visual ratio [N, L], NaN where undefined and where an injected map holds it up."""
    layers = run.layers()
    ratio = layers[layers["map"] == map_kind].pivot(index="sample_id", columns="layer", values="visual_ratio")
    values = ratio.reindex([sample["sample_id"] for sample in samples]).to_numpy(dtype=np.float64, copy=True)
    values[:, held_up_layers(vif_facts(run.manifest))] = np.nan
    return values


def _attenuation(ratio: np.ndarray, units: np.ndarray, n_boot: int = 2000, seed: int = 0) -> dict[str, float]:
    """Attenuation index of the mean curve of [N, L], with the 95 % percentile interval of resampled images, if any."""
    totals, counts = unit_sums(ratio, units)
    several = counts.any(1).sum() > 1
    step = max(1, CHUNK // max(1, len(totals)))
    rng = np.random.default_rng(seed)
    drawn = (times_drawn(rng, len(totals), min(step, n_boot - start)) for start in range(0, n_boot, step))
    with np.errstate(invalid="ignore"):
        indices = np.concatenate([attenuation_index((each @ totals) / (each @ counts)) for each in drawn])
        mean = attenuation_index(totals.sum(0) / counts.sum(0))
    indices = indices[~np.isnan(indices)]
    low, high = np.percentile(indices, (2.5, 97.5)) if several and len(indices) else (math.nan, math.nan)
    return {"mean": float(mean), "low": float(low), "high": float(high)}


def shown_name(value: Any) -> str | None:
    """Name of a model or a data set in the manifest: a text, or a dict with its id or name; of a path, its end."""
    if isinstance(value, dict):
        value = value.get("id") or value.get("name")
    return None if value is None else Path(value).name if Path(value).is_absolute() else str(value)


def plain_numbers(value: Any) -> Any:
    """`value` with plain numbers, and None for NaN."""
    if isinstance(value, dict):
        return {key: plain_numbers(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain_numbers(inner) for inner in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and math.isnan(value) else value
