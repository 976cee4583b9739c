"""The model card of a model with VIF: what it gained and lost against its control, and what its maps did for that."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from vif_core.errors import UsageError
from vif_core.train.recipe import RECORD, read_recipe
from vif_core.vif.checkpoint import WEIGHTS, read_config
from vifscope.ablation.arms import CONTROL, VIF
from vifscope.ablation.experiment import ANSWERS, DRAWN, FLOW, FLOW_SWAPPED, MAPS, POSTERIOR, SWAPPED, Experiment
from vifscope.ablation.result import Ablation, mean
from vifscope.ablation.words import CONTROLS, card_text, targets
from vifscope.evidence.card import learning_lines, machine, seconds
from vifscope.runs.disk import write_file
from vifscope.stats import Interval, bootstrap_seeds, seeds_difference
from vifscope.summary import plain_numbers, shown_name
from vifscope.versions import versions

Figures = dict[str, Any]


def write_vif_card(folder: Path, notes: Path | None = None) -> Path:
    """Write README.md and card.json beside the weights of the model of an experiment that ships: VIF's first seed.

    notes: a Markdown file with what was tried and what mattered; by default notes.md in the experiment's folder.
    Returns the path of README.md. Raises UsageError where VIF or its control is not measured to the end, and where the
    notes that are named cannot be read.
    """
    told = _notes(notes or folder / "notes.md", named=notes is not None)
    ablation = Ablation(Experiment.open(folder))
    if missing := [arm for arm in (VIF, CONTROL) if arm not in ablation.seeds]:
        raise UsageError(
            f"experiment {folder} has no finished {' and no finished '.join(missing)}",
            expected="both, measured to the end",
            next_step=f"vifscope ablate --arms {VIF},{CONTROL} --out {folder}",
        )
    figures = card_figures(ablation) | {"notes": told}
    model = ablation.experiment.model(VIF, figures["shipped_seed"])
    write_file(model / "card.json", f"{json.dumps(figures, indent=1, allow_nan=False)}\n".encode())
    write_file(model / "README.md", card_text(figures).encode())
    return model / "README.md"


def _notes(path: Path, *, named: bool) -> str:
    """What the file says; nothing where there is none and nobody named it."""
    if not named and not path.exists():
        return ""
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise UsageError(
            f"notes {path} cannot be read ({error})",
            expected="a Markdown file in UTF-8",
            next_step="Correct --notes, or leave it out for notes.md in the experiment's folder",
        ) from error


def card_figures(ablation: Ablation) -> Figures:
    """Every number that the card states; undefined ones are None. Raises UsageError where the two share no seed."""
    experiment = ablation.experiment
    seeds = [seed for seed in ablation.seeds[VIF] if seed in ablation.seeds[CONTROL]]
    if not seeds:
        raise UsageError(f"experiment {experiment.path}: {VIF} and {CONTROL} share no seed", expected="at least one")
    shipped = min(ablation.seeds[VIF])
    arms = {arm["arm"]: arm for arm in ablation.summary_dict()["arms"]}
    figures = plain_numbers(
        {
            "name": experiment.recipe.name,
            "base": shown_name(experiment.recipe.model),
            "data": experiment.source.name,
            "samples": ablation.samples,
            "seeds": seeds,
            "shipped_seed": shipped,
            "model": _model(experiment.model(VIF, shipped)),
            "injected": ablation.injected(VIF),
            "accuracy": _accuracy(ablation, seeds),
            "by_seed": _by_seed(ablation, seeds),
            "arms": {arm: arms[arm] for arm in (VIF, CONTROL, *CONTROLS) if arm in arms},
            "layers": _layers(ablation, seeds),
            "maps": _maps(ablation),
            "checks": _checks(ablation),
            "training": _training(experiment, ablation.seeds),
        }
    )
    return figures | {"targets": targets(figures)}


def _model(folder: Path) -> Figures:
    _, config = read_config(folder)
    with safe_open(folder / WEIGHTS, "np") as weights:
        parameters = sum(int(np.prod(weights.get_slice(name).get_shape())) for name in weights.keys())  # noqa: SIM118
    return {
        "pairs": [list(pair) for pair in config.pairs or ()],
        "alpha": config.alpha,
        "slots": config.slots,
        "width": config.width,
        "parameters": parameters,
        "megabytes": sum(file.stat().st_size for file in folder.glob("*.safetensors")) / 1e6,
    }


def _accuracy(ablation: Ablation, seeds: Sequence[int]) -> list[Figures]:
    """Groups of questions: {group, name, n, control, vif, difference: {mean, low, high}}."""
    before, after = (ablation.correct(arm, seeds) for arm in (CONTROL, VIF))
    rows = []
    for group, name, chosen in _groups(ablation):
        change = _change(before, after, ablation.units(ANSWERS), chosen)
        rows.append({"group": group, "name": name, "n": int(chosen.sum())} | change)
    return rows


def _groups(ablation: Ablation) -> Iterator[tuple[str, str, np.ndarray]]:
    """Group, name, and which samples [N]: all, tiny and other objects; each size; each kind, alone and with these."""
    chosen = ablation.experiment.chosen(ANSWERS)
    kind, size = (np.array([getattr(asked, name) for asked in chosen]) for name in ("kind", "size"))
    tiny = ablation.tiny(ANSWERS)
    yield "all", "all", np.ones_like(tiny)
    yield "all", "tiny objects", tiny
    yield "all", "other", ~tiny
    for name in sorted({str(each) for each in size[~tiny]}):
        yield "size", name or "of no one size", (size == name) & ~tiny
    for name in sorted({str(each) for each in kind if each}):
        own = kind == name
        yield "kind", name, own
        for word, part in (("tiny objects", own & tiny), ("other", own & ~tiny)):
            if part.any() and not (part == own).all():
                yield "kind and size", f"{name}, {word}", part


def _by_seed(ablation: Ablation, seeds: Sequence[int]) -> list[Figures]:
    tiny = ablation.tiny(ANSWERS)
    right = {arm: ablation.correct(arm, seeds) for arm in (VIF, CONTROL)}
    words = (("tiny", tiny), ("other", ~tiny))
    return [
        {"seed": seed} | {f"{arm}_{word}": float(mean(right[arm][i, own])) for arm in right for word, own in words}
        for i, seed in enumerate(seeds)
    ]


def _layers(ablation: Ablation, seeds: Sequence[int]) -> list[Figures]:
    """Every layer: {layer, injected, and for each metric control, vif, percent: {mean, low, high}}."""
    rows: list[Figures] = [
        {"layer": layer, "injected": layer in ablation.injected(VIF)} for layer in range(ablation.num_layers)
    ]
    for metric in ("visual_entropy", "box_lift", "visual_ratio"):
        first, second = (ablation.layers(arm, seeds, metric) for arm in (CONTROL, VIF))
        change = seeds_difference(first, second, ablation.units(FLOW))
        for layer, row in enumerate(rows):
            percent = Interval(*(bound[layer] for bound in change.percent))
            row[metric] = {"control": change.first.mean[layer], "vif": change.second.mean[layer]}
            row[metric] |= {"percent": _bounds(percent)}
    return rows


def _maps(ablation: Ablation) -> Figures:
    """The maps themselves, over all seeds of VIF."""
    seeds, units, tiny = ablation.seeds[VIF], ablation.units(MAPS), ablation.tiny(MAPS)
    names = ("map_box_lift", "map_entropy", "posterior_box_lift", "kl_nats")
    found = {name: _bounds(bootstrap_seeds(ablation.of_maps(VIF, seeds, name), units)) for name in names}
    lift = ablation.of_maps(VIF, seeds, "map_box_lift")
    for word, own in (("tiny", tiny), ("other", ~tiny)):
        found[f"map_box_lift_{word}"] = _bounds(bootstrap_seeds(np.where(own, lift, np.nan), units))
    return found


def _checks(ablation: Ablation) -> Figures:
    """The same questions with other maps than the model's own: accuracy, and the flow of the injected layers.

    accuracy: by maps, then "tiny" and "other"; flow: by metric. Each {own, other, difference, percent}.
    """
    seeds, tiny, units = ablation.seeds[VIF], ablation.tiny(DRAWN), ablation.units(DRAWN)
    own = ablation.correct(VIF, seeds, ANSWERS, among=DRAWN)
    parts = {"one draw of the prior": DRAWN, "the posterior's mean": POSTERIOR, "another sample's": SWAPPED}
    asked = {"its own": own} | {
        name: ablation.correct(VIF, seeds, part)
        for name, part in parts.items()
        if part in ablation.experiment.parts(VIF)
    }
    names = ("own", "other")
    accuracy = {
        name: {word: _change(own, right, units, part, names) for word, part in (("tiny", tiny), ("other", ~tiny))}
        for name, right in asked.items()
    }
    flow = {}
    for metric in ("visual_entropy", "visual_ratio", "box_lift"):
        first, second = (
            ablation.over_layers(VIF, seeds, metric, ablation.injected(VIF), part) for part in (FLOW, FLOW_SWAPPED)
        )
        flow[metric] = _change(first, second, ablation.units(FLOW), names=names)
    return {"n": len(units), "accuracy": accuracy, "flow": flow}


def _change(
    first: np.ndarray,
    second: np.ndarray,
    units: np.ndarray,
    chosen: np.ndarray | None = None,
    names: tuple[str, str] = (CONTROL, VIF),
) -> Figures:
    """{control, vif, difference: {mean, low, high}, percent: ...} of [S, N] each, over the chosen samples.

    Images are drawn from all of them, as for the experiment's table: a number has the same interval in both.
    """
    kept = np.ones(len(units), dtype=bool) if chosen is None else chosen
    change = seeds_difference(np.where(kept, first, np.nan), second, units)
    means = zip(names, (float(change.first.mean), float(change.second.mean)), strict=True)
    return dict(means) | {"difference": _bounds(change.difference), "percent": _bounds(change.percent)}


def _bounds(interval: Interval) -> dict[str, float]:
    return {name: float(value) for name, value in zip(("mean", "low", "high"), interval, strict=True)}


def _training(experiment: Experiment, seeds: dict[str, list[int]]) -> Figures:
    recorded = experiment.training(VIF, min(seeds[VIF])) / RECORD  # by `train`: with as many processes as there were
    trained = read_recipe(recorded) if recorded.exists() else experiment.recipe
    spent = {}
    for arm in (VIF, CONTROL):
        logs = [experiment.training(arm, seed) / "learning.jsonl" for seed in seeds[arm]]
        each = [seconds(learning_lines(log, "phase"), "phase") for log in logs if log.exists()]
        spent[arm] = {phase: [round(of[phase] / 60, 1) for of in each if phase in of] for phase in (each or [{}])[0]}
    phases = [
        {"name": p.name, "train": list(p.train), "lr": p.lr, "steps": p.steps, "rows": p.rows}
        for p in experiment.recipe.phases
    ]
    return {
        "phases": phases,
        "minutes": spent,
        "processes": trained.processes or 1,
        "machine": machine(),
        "versions": versions(),
    }
