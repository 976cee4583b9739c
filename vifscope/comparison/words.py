"""A comparison as JSON and in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from vifscope.comparison.frames import SCOPES
from vifscope.comparison.pairs import Side
from vifscope.summary import NO_INTERVAL, count, plain_numbers, short, shown_name

PAPER = {"baseline": 5.3561, "other": 3.2335, "percent": -39.6}
"""Visual attention entropy in nats of LLaVA-v1.5-7B without and with VIF (paper section 5.3.4)."""

_SAID = {"visual_entropy": "visual entropy", "box_lift": "box lift", "visual_ratio": "visual ratio"}
_CHANGE = ("difference", "low", "high", "percent", "percent_low", "percent_high", "p")


def comparison_dict(
    sides: Sequence[Side], differences: pd.DataFrame, accuracy: pd.DataFrame, files: Sequence[str] = ()
) -> dict[str, Any]:
    """What a comparison found, ready for JSON; None stands for what is undefined.

    data, n (samples that all runs measured), baseline: {name, run, model, vif, left_out};
    others: a dict a run: the same fields, and
      accuracy: {n, baseline, other, difference, low, high, baseline_only, other_only, p}, shares of 1;
      accuracy_by_kind, accuracy_by_size: the same by name;
      layers: a dict a layer: layer, deep, injected, and for each metric {n, baseline, other, difference, low, high,
      percent, percent_low, percent_high, p, p_holm, by_construction};   deep: the same a metric, by scope;
      paper: {line, ours, paper}, entropy beside the paper's figures, where this run has VIF and the baseline has not;
      sentence;
    samples (a sentence); sentence (all of them); files.
    """
    others = []
    for side in sides[1:]:
        of_run, rows = differences[differences["run"] == side.name], accuracy[accuracy["run"] == side.name]
        by_layer = of_run[of_run["scope"] == "layer"]
        found = _side(side) | {
            "accuracy": _accuracy(rows, "all")["all"],
            "accuracy_by_kind": _accuracy(rows, "kind"),
            "accuracy_by_size": _accuracy(rows, "size"),
            "layers": [
                {"layer": layer, "deep": part["deep"].iloc[0], "injected": part["injected"].iloc[0]} | _metrics(part)
                for layer, part in by_layer.groupby("layer")
            ],
            "deep": {
                scope: _metrics(of_run[of_run["scope"] == scope]) for scope in SCOPES if scope in set(of_run["scope"])
            },
        }
        found = plain_numbers(found)
        found["paper"] = _paper(sides[0], side, found["deep"])
        others.append(found | {"sentence": _sentence(sides, side, found)})
    first = sides[0].run.manifest
    summary = {
        "data": shown_name(first.get("dataset") or first["configuration"].get("data")),
        "n": len(sides[0].samples),
        "baseline": _side(sides[0]),
        "others": others,
        "files": list(files),
    }
    words = _left_out(sides)
    return plain_numbers(summary) | {"samples": words, "sentence": " ".join([words, *(o["sentence"] for o in others)])}


def _side(side: Side) -> dict[str, Any]:
    model = shown_name(side.run.manifest.get("model") or side.run.manifest["configuration"].get("model"))
    return {
        "name": side.name,
        "run": str(side.run.path),
        "model": model,
        "vif": side.vif or None,
        "left_out": side.left_out,
    }


def _metrics(part: pd.DataFrame) -> dict[str, Any]:
    names = ["n", "baseline", "other", *_CHANGE, "p_holm", "by_construction"]
    names = [name for name in names if name != "p_holm" or part["scope"].iloc[0] == "layer"]
    return {row["metric"]: {name: row[name] for name in names} for row in part.to_dict("records")}


def _accuracy(rows: pd.DataFrame, group: str) -> dict[str, Any]:
    named = rows[rows["group"] == group].drop(columns=["run", "group"]).to_dict("records")
    return {row.pop("name"): row for row in named}


def _paper(baseline: Side, other: Side, deep: dict[str, Any]) -> dict[str, Any] | None:
    """Our entropy beside the paper's, where the baseline has no VIF and the other run has."""
    ours = deep.get("deep injected", {}).get("visual_entropy")
    if baseline.vif or not other.vif or not ours or ours["difference"] is None:
        return None
    line = (
        f"Visual entropy in nats without and with VIF: the paper {PAPER['baseline']} to {PAPER['other']} "
        f"({PAPER['percent']} %), LLaVA-v1.5-7B; here {baseline.name} {ours['baseline']:.4f}, {other.name} "
        f"{ours['other']:.4f} ({ours['percent']:+.1f} %), the injected deep layers."
    )
    return {"line": line, "ours": ours, "paper": PAPER}


def _left_out(sides: Sequence[Side]) -> str:
    missing = [f"{side.left_out} of {side.name}" for side in sides if side.left_out]
    samples = f"{count(len(sides[0].samples), 'sample')} in every run"
    return f"{samples}; left out, for want of a partner: {', '.join(missing)}." if missing else f"{samples}."


def _sentence(sides: Sequence[Side], other: Side, found: dict[str, Any]) -> str:
    """The visual ratio of layers that are injected is no finding and is left unsaid."""
    deep = found["deep"]
    words = []
    for scope in [scope for scope in SCOPES[1:] if scope in deep] or [SCOPES[0]]:
        said = {metric: name for metric, name in _SAID.items() if not deep[scope][metric]["by_construction"]}
        changes = [_change_words(name, deep[scope][metric]) for metric, name in said.items()]
        words.append(f"in the {' '.join(reversed(scope.split()))} layers {', '.join(changes)}")
    accuracy = [_accuracy_words("accuracy", found["accuracy"])]
    if found["accuracy_by_size"].get("tiny", {}).get("n"):
        accuracy.append(_accuracy_words("accuracy on tiny objects", found["accuracy_by_size"]["tiny"]))
    return f"{other.name} against {sides[0].name}: {'; '.join([*words, *accuracy])}."


def _change_words(name: str, change: dict[str, Any]) -> str:
    """A metric's change in percent, or in its unit where the baseline is 0."""
    kind = "percent" if change["percent"] is not None else "difference"
    if change[kind] is None:
        return f"{name} is undefined"
    if change["low"] == change["high"] == 0:
        return f"{name} is unchanged at {short(change['baseline'])}"
    keys = ("percent", "percent_low", "percent_high") if kind == "percent" else ("difference", "low", "high")
    unit, form = (" %", "{:+.1f}") if kind == "percent" else ("", "{:+.3g}")
    how, bounds = _course([change[key] for key in keys], form, unit)
    return f"{name} {how} {short(change['baseline'])} to {short(change['other'])} ({bounds})"


def _accuracy_words(name: str, change: dict[str, Any]) -> str:
    if not change["n"]:
        return f"{name} is unknown, for no sample has an answer"
    points = [None if change[key] is None else 100 * change[key] for key in ("difference", "low", "high")]
    how, bounds = _course(points, "{:+.1f}", " points")
    before, after = (f"{100 * change[key]:.1f}" for key in ("baseline", "other"))
    return f"{name} {how} {before} to {after} % ({bounds}, p {_equals(p_value(change['p']))})"


def _course(change: Sequence[float | None], form: str, unit: str) -> tuple[str, str]:
    """Which way it went, and by how much with its interval; without one nothing is clear."""
    middle, low, high = change
    if low is None or high is None:
        return "shows no clear change,", f"{form.format(middle)}{unit}, {NO_INTERVAL}"
    how = "rose from" if low > 0 else "fell from" if high < 0 else "shows no clear change,"
    return how, f"{form.format(middle)}{unit}, 95 % interval {form.format(low)} to {form.format(high)}"


def _equals(p: str) -> str:
    return p if p.startswith("<") else f"= {p}"


def p_value(p: float) -> str:
    """Two significant digits, down to 0.0001.

    >>> p_value(0.0123), p_value(1e-30)
    ('0.012', '< 0.0001')
    """
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}"
