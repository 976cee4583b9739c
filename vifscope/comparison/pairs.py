"""Which samples runs have in common, and their metrics in one order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from vif_core.errors import UsageError, VifError
from vifscope.figures.frames import image_units, measured_samples
from vifscope.metrics.attenuation import deep_layers
from vifscope.runs import RunStore
from vifscope.runs.configuration import differences
from vifscope.runs.manifest import held_up_layers, vif_facts
from vifscope.summary import shown_name

METRICS = ("visual_ratio", "ratio_lift", "visual_entropy", "relative_entropy", "box_mass", "box_lift")
"""What is compared in every layer."""

_DATA = ("data_fingerprint",)  # one listing has several names: its folder's and its own
_READING = ("rows", "max_rows", "response", "max_new_tokens")


@dataclass(frozen=True, eq=False)
class Side:
    """One of the runs, over the N samples that all of them measured.

    name:     its model, or its folder where several have the same model.
    vif:      what the manifest says of the model's VIF (pairs, alpha, preset, variant); empty without one.
    samples:  rows of samples/.          values: metric -> [N, L], NaN where undefined.
    left_out: samples that it measured and another run did not.
    """

    name: str
    run: RunStore
    vif: dict[str, Any]
    samples: list[dict[str, Any]]
    values: dict[str, np.ndarray]
    left_out: int

    @property
    def num_layers(self) -> int:
        return self.values["visual_ratio"].shape[1]

    @property
    def deep(self) -> list[int]:
        return list(deep_layers(self.num_layers))

    @property
    def injected(self) -> list[int]:
        """Layers into which the model's VIF injects."""
        return sorted({int(injection) for _, injection in self.vif.get("pairs", ())})

    @property
    def held_up(self) -> list[int]:
        """Those whose visual ratio is at least alpha by construction."""
        return held_up_layers(self.vif)

    @cached_property
    def units(self) -> np.ndarray:
        """The image of each sample, which the bootstrap draws: [N]."""
        return image_units(self.samples)


def pair(runs: Sequence[RunStore]) -> list[Side]:
    """The runs as sides of one comparison, the baseline first.

    Raises UsageError for fewer than two runs, for runs of other data, other query rows or another number of layers, and
    where no sample was measured by all of them; VifError where their shards are corrupt.
    """
    if len(runs) < 2:
        raise UsageError(f"{len(runs)} run to compare", expected="two or more, the baseline first")
    for run in runs[1:]:
        _refuse_other(runs[0], run, _DATA, "data", "Analyze the same --data with each model", shown=("data",))
        generated = "generated" in (each.manifest["configuration"].get("response") for each in (runs[0], run))
        reading = _READING if generated else _READING[:-1]
        _refuse_other(
            runs[0], run, reading, "rows", "Analyze with the same --rows, --max-rows, --response and --max-new-tokens"
        )
    samples = [{sample["sample_id"]: sample for sample in measured_samples(run)} for run in runs]
    shared = [sample_id for sample_id in samples[0] if all(sample_id in of for of in samples)]
    if not shared:
        if lost := [line for run in runs for line in run.problems]:
            raise VifError(lost[0])
        raise UsageError(
            f"runs {' and '.join(str(run.path) for run in runs)} have no measured sample in common",
            expected="at least one",
            next_step="Analyze with the same --seed",
        )
    sides = [
        Side(name, run, vif_facts(run.manifest), [of[i] for i in shared], _values(run, shared), len(of) - len(shared))
        for name, run, of in zip(_names(runs), runs, samples, strict=True)
    ]
    for side in sides[1:]:
        if side.num_layers != sides[0].num_layers:
            raise UsageError(
                f"{side.name} has {side.num_layers} layers and {sides[0].name} {sides[0].num_layers}",
                expected="models of one depth, which are compared layer by layer",
            )
    return sides


def _refuse_other(
    first: RunStore, run: RunStore, fields: Sequence[str], what: str, next_step: str, shown: Sequence[str] = ()
) -> None:
    """Raises UsageError where one of `fields` differs; its line names those that do, of them and of `shown`."""
    known, asked = ({name: r.manifest["configuration"].get(name) for name in (*shown, *fields)} for r in (run, first))
    if any(known[name] != asked[name] for name in fields):
        raise UsageError(
            f"run {run.path} has other {what} than {first.path}: {'; '.join(differences(known, asked))}",
            expected=f"runs of the same {what}",
            next_step=next_step,
        )


def _values(run: RunStore, sample_ids: list[str]) -> dict[str, np.ndarray]:
    layers = run.layers()
    table = layers[layers["map"] == "raw"].pivot(index="sample_id", columns="layer", values=list(METRICS))
    table = table.reindex(sample_ids)
    return {metric: table[metric].to_numpy(dtype=np.float64) for metric in METRICS}


def _names(runs: Sequence[RunStore]) -> list[str]:
    """A name a run, no two the same: the model's, else the folder's, numbered where a run is named twice."""
    models = [shown_name(run.manifest.get("model") or run.manifest["configuration"].get("model")) for run in runs]
    folders = [run.path.resolve().name for run in runs]
    names = [m if m and models.count(m) == 1 else folder for m, folder in zip(models, folders, strict=True)]
    seen: Counter[str] = Counter()
    unique = []
    for name in names:
        seen[name] += 1
        unique.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return unique
