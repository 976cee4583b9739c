"""What an experiment found: one table, an arm a row, held against the control seed by seed and sample by sample."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from vifscope.ablation.arms import ARMS, CONTROL, arm_recipe, injected_layers
from vifscope.ablation.experiment import ANSWERS, FLOW, MAPS, Experiment
from vifscope.ablation.measures import Part
from vifscope.ablation.samples import TINY
from vifscope.evidence import markdown
from vifscope.metrics.attenuation import deep_layers
from vifscope.runs.disk import write_file
from vifscope.stats import Interval, SeedsDifference, bootstrap_seeds, seeds_difference
from vifscope.summary import plain_numbers

NAME = "ablation"


@dataclass(frozen=True)
class Measure:
    """heading: of its column.      part: that it is read from.      scale: what a number is multiplied by to be shown.
    digits: after the point.        held: against the control, which has no maps of its own."""

    name: str
    heading: str
    part: Part
    scale: float = 1.0
    digits: int = 2
    held: bool = True

    def shown(self, value: float | None, sign: bool = False) -> str:
        """
        >>> Measure("accuracy", "right, %", ANSWERS, 100, 1).shown(0.0123, sign=True)
        '+1.2'
        """
        if value is None or math.isnan(value):
            return "-"
        return f"{self.scale * value:{'+' if sign else ''}.{self.digits}f}"


MEASURES = (
    Measure("accuracy", "right, %", ANSWERS, 100, 1),
    Measure("accuracy_tiny", "right, tiny, %", ANSWERS, 100, 1),
    Measure("accuracy_other", "right, other, %", ANSWERS, 100, 1),
    Measure("entropy_injected", "entropy, injected", FLOW),
    Measure("entropy_uninjected", "entropy, uninjected deep", FLOW),
    Measure("box_lift_injected", "box lift, injected", FLOW),
    Measure("map_box_lift", "box lift of the map", MAPS, held=False),
    Measure("map_entropy", "entropy of the map", MAPS, held=False),
    Measure("kl_nats", "KL, nats", MAPS, digits=1, held=False),
)
"""Accuracy overall is over a choice of which half is about tiny objects, where there are any. Entropies are in nats.
Injected: the layers that the arm injects maps into; of the control, the same ones. Uninjected deep: the others of the
last quarter."""

SPREAD = "centre_spread"
"""Standard deviation over samples of the centre of an arm's maps, mean of row and column and layer pairs."""


class Ablation:
    """The results of an experiment, of those arms and seeds that are measured to the end."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self._frames: dict[tuple[str, int, Part], pd.DataFrame] = {}

    @cached_property
    def seeds(self) -> dict[str, list[int]]:
        """Measured seeds of each arm."""
        return self.experiment.finished()

    @cached_property
    def num_layers(self) -> int:
        arm, seeds = next(iter(self.seeds.items()))
        return self.layers(arm, seeds[:1], "visual_entropy").shape[-1]

    @cached_property
    def unfinished(self) -> dict[str, list[int]]:
        """Seeds of each arm that have records, but not of every sample that is asked about now: not in the table."""
        begun = self.experiment.begun()
        left = {arm: [seed for seed in seeds if seed not in self.seeds.get(arm, [])] for arm, seeds in begun.items()}
        return {arm: seeds for arm, seeds in left.items() if seeds}

    @cached_property
    def errors(self) -> dict[str, str]:
        """Samples that failed in some arm, where they have no value, each with one of its errors."""
        found: dict[str, str] = {}
        for arm, seeds in self.seeds.items():
            for seed in seeds:
                for part in self.experiment.parts(arm):
                    errors = self.rows(arm, seed, part)["error"].dropna()
                    found |= dict(zip(map(str, errors.index), errors, strict=True))
        return found

    def rows(self, arm: str, seed: int, part: Part) -> pd.DataFrame:
        """A part's records, a row a sample; of one that failed, its error and no value."""
        key = arm, seed, part
        if key not in self._frames:
            frame = self.experiment.frame(arm, seed, part)
            assert frame is not None
            self._frames[key] = frame
        return self._frames[key]

    def units(self, part: Part) -> np.ndarray:
        """The image of each of a part's samples."""
        return np.array([asked.image for asked in self.experiment.chosen(part)])

    def layers(self, arm: str, seeds: Sequence[int], metric: str, part: Part = FLOW) -> np.ndarray:
        """A metric in every layer or layer pair, [S, N, L, ...]; NaN where a sample failed, as in all that follows."""
        return np.array([_stacked(self.rows(arm, seed, part)[metric]) for seed in seeds])

    def over_layers(
        self, arm: str, seeds: Sequence[int], metric: str, layers: Sequence[int], part: Part = FLOW
    ) -> np.ndarray:
        """A metric's mean over some layers, [S, N]; NaN where there are none."""
        return mean(self.layers(arm, seeds, metric, part)[..., list(layers)])

    def of_maps(self, arm: str, seeds: Sequence[int], name: str) -> np.ndarray:
        """A number of the maps, mean over layer pairs, [S, N]; NaN where the arm has none (KL without a posterior)."""
        frames = [self.rows(arm, seed, MAPS) for seed in seeds]
        if name not in frames[0]:
            return np.full((len(seeds), len(frames[0])), np.nan)
        return mean(self.layers(arm, seeds, name, MAPS))

    def correct(self, arm: str, seeds: Sequence[int], part: Part = ANSWERS, among: Part | None = None) -> np.ndarray:
        """1 for right, 0 for wrong, [S, N], of a part's samples; `among`: of another part's, fewer ones."""
        ids = [asked.sample_id for asked in self.experiment.chosen(among or part)]
        return np.array([self.rows(arm, seed, part)["correct"][ids].to_numpy(dtype=np.float64) for seed in seeds])

    def tiny(self, part: Part) -> np.ndarray:
        """Which of a part's samples are about tiny objects, [N]."""
        return np.array([asked.tiny for asked in self.experiment.chosen(part)])

    @property
    def samples(self) -> dict[str, int]:
        """How many are asked about (answers, of which tiny), read (flow) and asked again (checks)."""
        return vars(self.experiment.numbers) | {"tiny": int(self.tiny(ANSWERS).sum())}

    def values(self, measure: Measure, arm: str, seeds: Sequence[int], like: str = "") -> np.ndarray:
        """One number a seed and sample, [S, N]; NaN where it does not apply. like: the arm whose layers are meant."""
        if measure.part == ANSWERS:
            tiny = self.tiny(ANSWERS)
            chosen = {"accuracy_tiny": tiny, "accuracy_other": ~tiny}.get(measure.name, np.ones_like(tiny))
            return np.where(chosen, self.correct(arm, seeds), np.nan)
        if measure.part == FLOW:
            metric = "box_lift" if measure.name.startswith("box_lift") else "visual_entropy"
            injected = self.injected(like or arm)
            deep = [layer for layer in deep_layers(self.num_layers) if layer not in injected]
            return self.over_layers(arm, seeds, metric, deep if measure.name.endswith("uninjected") else injected)
        return self.of_maps(arm, seeds, measure.name)

    def frame(self) -> pd.DataFrame:
        """A row an arm and measure.

        Columns arm, measure, seeds, n (samples with a value), mean, low, high; and against the control: control,
        control_seeds (that both have, which the rest is over), difference, difference_low, difference_high, percent,
        percent_low, percent_high. Likewise against the arm that it is a variant of: reference (its name),
        reference_seeds, from_reference (the difference), from_reference_low, from_reference_high.
        Intervals are two-level bootstrap intervals, `vifscope.stats.bootstrap_seeds`.
        """
        return self._frame.copy()

    def summary_dict(self) -> dict[str, Any]:
        """What was found, ready for JSON; undefined numbers are None.

        folder, recipe, model, data, samples: {answers, flow, checks, tiny: of the answers};
        failed: samples that failed in some arm, and have no value there; unfinished: arms and seeds that lack some of
        the samples, and so have no row, as dicts {arms, seeds, command: what completes them};
        arms: a dict an arm: arm, about, reference, seeds, injected (layers), and for each measure {n, mean, low, high,
        control, control_seeds, difference, difference_low, difference_high, percent, percent_low, percent_high,
        reference_seeds, from_reference, from_reference_low, from_reference_high}.
        """
        arms = []
        for arm, rows in self._frame.groupby("arm", sort=False):
            found = rows.drop(columns=["arm", "seeds", "reference"]).set_index("measure").to_dict("index")
            told = ARMS[str(arm)]
            known = {
                "arm": arm,
                "about": told.about,
                "reference": told.reference or None,
                "seeds": self.seeds[str(arm)],
            }
            arms.append(known | {"injected": self.injected(str(arm))} | found)
        recipe = self.experiment.recipe
        return plain_numbers(
            {
                "folder": str(self.experiment.path),
                "recipe": recipe.name,
                "model": recipe.model,
                "data": self.experiment.source.name,
                "samples": self.samples,
                "failed": len(self.errors),
                "unfinished": self._commands(),
                "arms": arms,
            }
        )

    def _commands(self) -> list[dict[str, Any]]:
        """What is unfinished, arms of the same seeds together."""
        together: dict[tuple[int, ...], list[str]] = {}
        for arm, seeds in self.unfinished.items():
            together.setdefault(tuple(seeds), []).append(arm)
        return [
            {"arms": arms, "seeds": list(seeds), "command": self.experiment.command(arms, seeds)}
            for seeds, arms in together.items()
        ]

    def injected(self, arm: str) -> list[int]:
        """Layers that the arm injects into; of the control those of the recipe with VIF."""
        recipe = self.experiment.recipe if arm == CONTROL else arm_recipe(self.experiment.recipe, arm)
        return injected_layers(recipe, self.num_layers)

    def write(self) -> None:
        """Writes ablation.csv, ablation.json and ablation.md into the folder."""
        found = self.summary_dict()
        files = {
            "csv": self._frame.to_csv(index=False),
            "json": f"{json.dumps(found, indent=1)}\n",
            "md": f"{table_text(found)}\n",
        }
        for suffix, text in files.items():
            write_file(self.experiment.path / f"{NAME}.{suffix}", text.encode())

    @cached_property
    def _frame(self) -> pd.DataFrame:
        rows = []
        for arm, seeds in self.seeds.items():
            parts = self.experiment.parts(arm)
            for measure in MEASURES:
                if measure.part in parts:
                    rows.append({"arm": arm, "measure": measure.name} | self._row(arm, measure))
            if MAPS in parts:
                rows.append({"arm": arm, "measure": SPREAD} | self._spread(arm, seeds))
        columns = ["arm", "measure", "seeds", "n", "mean", "low", "high", "control", "control_seeds", *_CHANGE]
        frame = pd.DataFrame(rows).reindex(columns=[*columns, "reference", "reference_seeds", *_FROM])
        references = {arm: ARMS[arm].reference for arm in self.seeds}
        return frame.assign(
            seeds=[len(self.seeds[arm]) for arm in frame["arm"]],
            control_seeds=[0 if arm == CONTROL else len(self._shared(arm, CONTROL)) for arm in frame["arm"]],
            reference=[references[arm] for arm in frame["arm"]],
            reference_seeds=[len(self._shared(arm, references[arm])) for arm in frame["arm"]],
        )

    def _row(self, arm: str, measure: Measure) -> dict[str, Any]:
        seeds, units = self.seeds[arm], self.units(measure.part)
        own = self.values(measure, arm, seeds)
        row = {"n": int((~np.isnan(own)).any(0).sum())} | _bounds(bootstrap_seeds(own, units), "mean", "")
        if arm != CONTROL and measure.held and (change := self._change(arm, CONTROL, measure)):
            row |= {"control": float(change.first.mean)} | _bounds(change.percent, "percent", "percent_")
            row |= _bounds(change.difference, "difference", "difference_")
        reference = ARMS[arm].reference
        if not reference or measure.part not in self.experiment.parts(reference):
            return row
        if change := self._change(arm, reference, measure):
            row |= _bounds(change.difference, "from_reference", "from_reference_")
        return row

    def _change(self, arm: str, reference: str, measure: Measure) -> SeedsDifference | None:
        """From another arm to this one, in the layers that this one injects into, over the seeds that both have; None
        where there are none."""
        shared = self._shared(arm, reference)
        if not shared:
            return None
        before, after = self.values(measure, reference, shared, like=arm), self.values(measure, arm, shared)
        return seeds_difference(before, after, self.units(measure.part))

    def _shared(self, arm: str, other: str) -> list[int]:
        return [seed for seed in self.seeds[arm] if seed in self.seeds.get(other, [])]

    def _spread(self, arm: str, seeds: Sequence[int]) -> dict[str, Any]:
        centres = self.layers(arm, seeds, "centre", MAPS)  # [S N pairs 2]
        known = (~np.isnan(centres)).any((0, 2, 3))
        return {"mean": float(np.nanstd(centres, axis=1).mean()), "n": int(known.sum())}


_CHANGE = ["difference", "difference_low", "difference_high", "percent", "percent_low", "percent_high"]
_FROM = ["from_reference", "from_reference_low", "from_reference_high"]


def table_text(found: dict[str, Any]) -> str:
    """The tables of a `summary_dict` in Markdown: each measure, and in brackets its difference from the control; then
    the differences of each arm from the one that it is a variant of."""
    header = ["arm", "seeds", *(measure.heading for measure in MEASURES), "spread of centres"]
    rows = []
    for arm in found["arms"]:
        cells = (_cell(measure, arm.get(measure.name)) for measure in MEASURES)
        rows.append([arm["arm"], len(arm["seeds"]), *cells, markdown.share(arm.get(SPREAD, {}).get("mean"))])
    samples = found["samples"]
    variants = [
        [
            arm["arm"],
            arm["reference"],
            *(_difference(measure, arm.get(measure.name), "from_reference") for measure in MEASURES),
        ]
        for arm in found["arms"]
        if arm["accuracy"]["from_reference"] is not None
    ]
    headings = (measure.heading for measure in MEASURES)
    notes = [f"Samples that failed in some arm, and are left out there: {found['failed']}."] * bool(found["failed"])
    notes += [f"Not in the table: {unfinished_text(each, '`')}" for each in found["unfinished"]]
    told = "".join(f"\n\n{note}" for note in notes)
    against = f"""

## Against the arm that each is a variant of

{markdown.table(["arm", "variant of", *headings], variants)}

Over the seeds that both have, in the layers that the variant injects into."""
    return f"""# {found["recipe"]}: arms

{markdown.table(header, rows)}

{samples["answers"]} samples of {found["data"]}, {samples["tiny"]} of them about {TINY} objects.
Flow and maps are of {samples["flow"]}.
In brackets the difference from the control, with a 95 % interval over seeds and images (two-level bootstrap); of one
seed it is over images alone.
Injected: the layers that the arm injects into, and the same ones of the control.{told}{against if variants else ""}"""


def unfinished_text(found: dict[str, Any], quote: str = "") -> str:
    """An entry of `unfinished` of a `summary_dict` in words."""
    arms, seeds = ", ".join(found["arms"]), ", ".join(map(str, found["seeds"]))
    what = f"{arms} (seed{'s' if len(found['seeds']) > 1 else ''} {seeds})"
    return f"{what}, of which not all of these samples are measured. To complete: {quote}{found['command']}{quote}"


def _cell(measure: Measure, found: dict[str, Any] | None) -> str:
    if found is None:
        return "-"
    change = _difference(measure, found, "difference")
    return measure.shown(found["mean"]) + ("" if change == "-" else f" ({change})")


def _difference(measure: Measure, found: dict[str, Any] | None, name: str) -> str:
    if found is None or found[name] is None:
        return "-"
    middle, low, high = (measure.shown(found[f"{name}{end}"], sign=True) for end in ("", "_low", "_high"))
    return f"{middle}, {low} to {high}"


def _bounds(interval: Interval, middle: str, ends: str) -> dict[str, float]:
    names = (middle, f"{ends}low", f"{ends}high")
    return {name: float(value) for name, value in zip(names, interval, strict=True)}


def _stacked(column: pd.Series) -> np.ndarray:
    """A list of one shape a sample, [N, ...]; NaN for a sample that failed."""
    known = np.array([isinstance(value, list) for value in column])
    values = np.array(column[known].tolist(), dtype=np.float64)
    stacked = np.full((len(column), *values.shape[1:]), np.nan)
    stacked[known] = values
    return stacked


def mean(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is defined there; NaN where nothing is."""
    known = ~np.isnan(values)
    counts = known.sum(-1)
    return np.divide(np.where(known, values, 0).sum(-1), counts, out=np.full(counts.shape, np.nan), where=counts > 0)
