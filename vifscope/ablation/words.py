"""The model card of a model with VIF, in words and tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from vifscope.ablation.arms import ARMS, CONTROL, VIF
from vifscope.ablation.result import SPREAD
from vifscope.comparison.words import PAPER
from vifscope.evidence.markdown import number, share, table
from vifscope.summary import NO_INTERVAL

Figures = dict[str, Any]

CONTROLS = ("swapped", "constant")
LEAST_MAP_LIFT = 4.0
UNCHANGED_PERCENT = 5.0
"""Entropy and ratio are about as they were within so many percent."""


def targets(figures: Figures) -> list[Figures]:
    """What was aimed at, before anything was measured: {target, found, met}; met is None where it is undefined."""
    vif, maps, flow = figures["arms"][VIF], figures["maps"], figures["checks"]["flow"]
    swapped = figures["checks"]["accuracy"].get("another sample's", {}).get("tiny", {}).get("difference")
    tiny, other = (_row(figures, name)["difference"] for name in ("tiny objects", "other"))
    entropy, lift = (_of(vif[name], "percent") for name in ("entropy_injected", "box_lift_injected"))

    def aim(target: str, found: Figures | None, told: Callable, met: Callable[[Figures], bool]) -> Figures:
        return {"target": target, "found": told(found), "met": _holds(found, met)}

    aims = [
        aim(
            f"entropy of the injected layers at least {-PAPER['percent']} % lower",
            entropy,
            _percent,
            lambda e: e["mean"] <= PAPER["percent"],
        ),
        aim("more right answers on tiny objects", tiny, _points, _above),
        aim("no clear loss on other questions", other, _points, lambda e: not _below(e)),
        aim(
            f"box lift of the map at least {LEAST_MAP_LIFT:g}",
            maps["map_box_lift"],
            _plain,
            lambda e: e["mean"] >= LEAST_MAP_LIFT,
        ),
        aim("box lift of the injected layers above the control's", lift, _percent, _above),
        aim("with another sample's maps: fewer right answers on tiny objects", swapped, _points, _below),
        aim("with another sample's maps: box lift lower", flow["box_lift"]["percent"], _percent, _below),
    ]
    for name, metric in (("entropy", "visual_entropy"), ("ratio", "visual_ratio")):
        target = f"with another sample's maps: {name} within {UNCHANGED_PERCENT:g} % of what it was"
        percent = flow[metric]["percent"]
        aims.append(aim(target, percent, _percent, lambda e: abs(e["mean"]) <= UNCHANGED_PERCENT))
    for arm in CONTROLS:
        if arm in figures["arms"]:
            found = _of(figures["arms"][arm]["accuracy_tiny"], "difference")
            target = f"arm `{arm}`: no clear gain on tiny objects"
            aims.append(aim(target, found, _points, lambda e: not _above(e)))
    return aims


def card_text(figures: Figures) -> str:
    """The card in Markdown."""
    model, seeds, samples, training = (figures[name] for name in ("model", "seeds", "samples", "training"))
    pairs = ", ".join(f"{mid} to {deep}" for mid, deep in model["pairs"])
    once = len(seeds) == 1
    times = f"once (seed {seeds[0]})" if once else f"{len(seeds)} times (seeds {', '.join(map(str, seeds))})"
    controls = [f"`{arm}` ({ARMS[arm].about})" for arm in CONTROLS if arm in figures["arms"]]
    notes = f"\n## What was tried, and what mattered\n\n{figures['notes']}\n" if figures.get("notes") else ""
    alone = [phase["name"] for phase in training["phases"] if phase["train"] == ["vif"]]
    left_out = f" (and so without the phases that train VIF alone: {', '.join(alone)})" if alone else ""
    used = ", ".join(f"{name} {training['versions'].get(name)}" for name in ("torch", "transformers"))
    return f"""# {figures["name"]}

{figures["base"]} with VIF (variational information flow, arXiv 2604.12508): {model["slots"]} spotlights a layer
pair, pairs {pairs} (features of the first give the map of the second), injection strength {model["alpha"]:g}. VIF has
{model["parameters"] / 1e6:.2f} million parameters; all weights take {model["megabytes"]:.1f} MB.

It is held against a control: the same base model, trained on the same data for the same steps at the same rates, with
the same weights learning, without VIF{left_out}. Both were trained {times}. Seed
{figures["shipped_seed"]} ships, as the first one, whatever came out of the others.

All numbers are from {figures["data"]}: {samples["answers"]} questions, {samples["tiny"]} of them about tiny objects;
flow and maps on {samples["flow"]} of these. In square brackets 95 % intervals of a two-level bootstrap, which draws
seeds, and images for all of them alike; of one seed they are over images alone.

## Gained and lost

{_sentence(figures["accuracy"])}

{_accuracy_table(figures["accuracy"])}

Seed by seed:

{_seeds_table(figures["by_seed"])}

## What was aimed at

{_targets_table(figures["targets"])}

## Is it the place?

Trained like VIF: {", ".join(controls) or "no further control"}. Against the control without VIF:

{_arms_table(figures["arms"])}

{figures["checks"]["n"]} of the questions, asked again with other maps than the model's own, which its prior's mean
gives. The posterior is told the right answer. In round brackets the change, in points.

{_checks_table(figures["checks"])}

## Attention

{_attention_words(figures)}

{_layers_table(figures["layers"])}

The visual ratio of an injected layer is at least the injection strength by construction. It is no finding and stands in
round brackets.

## The maps

{_map_words(figures)}
{notes}
## Training

`vifscope ablate` trains and measures all of it again. {_minutes(training)} Processes of one thread each:
{training["processes"]}, on {training["machine"]}.

{_phases_table(training["phases"])}

Made with {used}. Licence: Apache-2.0.
"""


def _row(figures: Figures, name: str) -> Figures:
    return next(row for row in figures["accuracy"] if row["name"] == name)


def _sentence(rows: Sequence[Figures]) -> str:
    """Which groups of questions changed clearly."""
    words = []
    for what, sure in (("Better", _above), ("Worse", _below)):
        named = [f"{row['name']} {_points(row['difference'])}" for row in rows if _holds(row["difference"], sure)]
        words.append(f"{what}, with an interval that leaves 0 out, in points: {'; '.join(named) or 'nothing'}.")
    return "\n".join(words)


def _accuracy_table(rows: Sequence[Figures]) -> str:
    cells = [[row["name"], row["n"], share(row[CONTROL]), share(row[VIF]), _points(row["difference"])] for row in rows]
    return table(["questions", "n", "control", "VIF", "difference, points"], cells)


def _seeds_table(rows: Sequence[Figures]) -> str:
    names = {CONTROL: "control", VIF: "VIF"}
    columns = {f"{arm}_{word}": f"{name}, {word}" for word in ("tiny", "other") for arm, name in names.items()}
    return table(["seed", *columns.values()], [[row["seed"], *(share(row[name]) for name in columns)] for row in rows])


def _targets_table(rows: Sequence[Figures]) -> str:
    met = {True: "yes", False: "**no**", None: "unknown"}
    return table(["aim", "found", "met"], [[row["target"], row["found"], met[row["met"]]] for row in rows])


def _arms_table(arms: Figures) -> str:
    rows = []
    for name in (VIF, *CONTROLS):
        if name in arms:
            arm = arms[name]
            points = [_points(_of(arm[measure], "difference")) for measure in ("accuracy_tiny", "accuracy_other")]
            lift = _percent(_of(arm["box_lift_injected"], "percent"))
            rows.append([name, len(arm["seeds"]), *points, lift, number(arm["map_box_lift"]["mean"])])
    header = [
        "arm",
        "seeds",
        "tiny objects, points",
        "other, points",
        "box lift of injected layers",
        "box lift of the map",
    ]
    return table(header, rows)


def _checks_table(checks: Figures) -> str:
    accuracy = [
        [name, *(f"{share(of['other'])} ({_points(of['difference'])})" for of in changes.values())]
        for name, changes in checks["accuracy"].items()
    ]
    flow = [
        [metric.replace("_", " "), number(of["own"]), number(of["other"]), _percent(of["percent"])]
        for metric, of in checks["flow"].items()
    ]
    answers = table(["maps", "right, tiny objects", "right, other"], accuracy)
    return f"{answers}\n\n{table(['injected layers', 'its own maps', 'others', 'change'], flow)}"


def _attention_words(figures: Figures) -> str:
    entropy, others = (figures["arms"][VIF][name] for name in ("entropy_injected", "entropy_uninjected"))
    layers = ", ".join(map(str, figures["injected"]))
    words = [
        f"Visual entropy in nats of the injected layers ({layers}): {number(entropy['control'])} in the control,",
        f"{number(entropy['mean'])} with VIF, {_percent(_of(entropy, 'percent'))}. The paper: {PAPER['baseline']} and",
        f"{PAPER['other']}, {PAPER['percent']} %, on LLaVA-v1.5-7B.",
    ]
    if others["difference"] is None:
        words.append("Every layer of the last quarter is injected, so that there are no uninjected deep layers.")
    else:
        change = _percent(_of(others, "percent"))
        words.append(f"Uninjected deep layers: {number(others['control'])} and {number(others['mean'])}, {change}.")
    return "\n".join(words)


def _layers_table(rows: Sequence[Figures]) -> str:
    cells = []
    for row in rows:
        own = [row[metric] for metric in ("visual_entropy", "box_lift")]
        changes = [text for of in own for text in (number(of[CONTROL]), number(of[VIF]), _percent(of["percent"]))]
        before, after = (number(row["visual_ratio"][arm]) for arm in (CONTROL, VIF))
        label = f"{row['layer']}, injected" if row["injected"] else row["layer"]
        cells.append([label, *changes, before, f"({after})" if row["injected"] else after])
    header = ["entropy, control", "VIF", "change", "box lift, control", "VIF", "change", "ratio, control", "VIF"]
    return table(["layer", *header], cells)


def _map_words(figures: Figures) -> str:
    maps, spread = figures["maps"], figures["arms"][VIF].get(SPREAD, {}).get("mean")
    tiny, other = (_plain(maps[f"map_box_lift_{word}"]) for word in ("tiny", "other"))
    return f"""- Box lift of the map in use (the prior's mean): {_plain(maps["map_box_lift"])};
  tiny objects {tiny}, others {other}.
- Of the posterior's mean, which knows the answer: {_plain(maps["posterior_box_lift"])}.
- Entropy of the map: {_plain(maps["map_entropy"])} nats.
- Its centre moves by {share(spread)} of the picture from question to question (standard deviation; 0.29: anywhere).
- KL between posterior and prior: {_plain(maps["kl_nats"])} nats a question and layer pair."""


def _phases_table(phases: Sequence[Figures]) -> str:
    rows = [
        [p["name"], ", ".join(p["train"]), p["steps"], p["rows"], ", ".join(f"{k} {v:g}" for k, v in p["lr"].items())]
        for p in phases
    ]
    return table(["phase", "learns", "steps", "rows a step", "learning rates"], rows)


def _minutes(training: Figures) -> str:
    words = []
    for arm, phases in training["minutes"].items():
        told = [f"{phase} {sum(each) / len(each):.1f}" for phase, each in phases.items() if each]
        words.append(f"{arm}: {', '.join(told) or 'unknown'}")
    return f"Minutes a seed, by phase: {'; '.join(words)}."


def _of(found: Figures, change: str) -> Figures:
    """The interval of a change in a row of the ablation's table."""
    return {"mean": found[change], "low": found[f"{change}_low"], "high": found[f"{change}_high"]}


def _above(interval: Figures) -> bool:
    return interval["low"] > 0


def _below(interval: Figures) -> bool:
    return interval["high"] < 0


def _holds(interval: Figures | None, test: Callable[[Figures], bool]) -> bool | None:
    """None where the interval is undefined, as of a single image."""
    return None if not interval or interval["low"] is None else bool(test(interval))


def _points(interval: Figures | None) -> str:
    return _told(interval, "{:+.1f}", 100)


def _percent(interval: Figures | None) -> str:
    told = _told(interval, "{:+.1f}")
    return told if told == "-" else f"{told} %"


def _plain(interval: Figures | None) -> str:
    return _told(interval, "{:.2f}")


def _told(interval: Figures | None, form: str, scale: float = 1) -> str:
    """A mean with its interval; "-" where it is undefined."""
    if not interval or interval["mean"] is None:
        return "-"
    mean, *ends = (form.format(scale * interval[key]) for key in ("mean", "low", "high") if interval[key] is not None)
    return f"{mean} [{', '.join(ends) or NO_INTERVAL}]"
