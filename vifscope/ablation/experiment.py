"""The folder of an experiment: trainings by arm and seed, and what was measured of each.

experiment.json            the recipe, how it is shortened, the data that is asked about, and how much of it
samples.json               the samples of that data which are asked about
ARM/arm.yaml               the arm's recipe
ARM/seed-N/                a training, with the trained model in a folder of its own
ARM/seed-N/measured/PART.jsonl   a line a sample
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from vif_core.data.open import open_source
from vif_core.data.sample import Source
from vif_core.errors import UsageError
from vif_core.train.phases import PhaseRecipe, phase_recipe
from vifscope.ablation.arms import ARMS, VIF, arm_recipe
from vifscope.ablation.measures import Part
from vifscope.ablation.samples import Asked, Samples, find_samples
from vifscope.evaluation.lines import read_records
from vifscope.runs.configuration import configuration_hash, differences, plain
from vifscope.runs.disk import make_folders, write_file

RECORD = "experiment.json"

ANSWERS, FLOW, MAPS = Part("answers", "answers"), Part("flow", "flow"), Part("maps", "maps")
DRAWN, POSTERIOR = Part("answers-draw", "answers", "draw"), Part("answers-posterior", "answers", "posterior")
SWAPPED, FLOW_SWAPPED = Part("answers-swapped", "answers", "swapped"), Part("flow-swapped", "flow", "swapped")


@dataclass(frozen=True)
class Numbers:
    """Samples that are asked about (answers), whose flow and maps are read (flow), and that are asked about again with
    other maps (checks). Half of each are about tiny objects, where there are any."""

    answers: int = 2000
    flow: int = 400
    checks: int = 500

    def __post_init__(self) -> None:
        for name, number in vars(self).items():
            if number < 2:
                raise UsageError(f"{name} is {number}", expected="2 samples or more")

    def of(self, part: Part) -> int:
        if part.what != "answers":
            return min(self.flow, self.answers)
        return self.answers if part == ANSWERS else min(self.checks, self.answers)


@dataclass(frozen=True)
class Experiment:
    """path: its folder.      recipe: of its arm "vif", as it is trained.

    asked: what decides its numbers: the recipe before it is shortened, budget_minutes, steps, and data, what is asked
           about.             named: its recipe, by name or path, as it was last called for.
    """

    path: Path
    recipe: PhaseRecipe
    asked: dict[str, Any]
    numbers: Numbers
    named: str

    @classmethod
    def open(cls, path: Path) -> Experiment:
        """The experiment in a folder. Raises UsageError where there is none."""
        try:
            known = json.loads((path / RECORD).read_text())
            recipe, numbers = phase_recipe(known["recipe"]), Numbers(**known["numbers"])
            return cls(path, recipe, known["asked"], numbers, known.get("named", recipe.name))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"{path} holds no experiment ({error})", expected="a folder that vifscope ablate wrote"
            ) from error

    @classmethod
    def begin(
        cls, path: Path, asked: dict[str, Any], numbers: Numbers, settle: Callable[[], PhaseRecipe], named: str
    ) -> Experiment:
        """The experiment in a folder, begun where there is none. No other process may do so at the same time.

        asked, named: see the class.      numbers: no part of what is asked; they may change.
        settle: gives the recipe as it is trained, where that is not known yet.
        Raises UsageError where the folder holds another experiment.
        """
        asked = plain(asked)
        if (path / RECORD).exists():
            known = json.loads((path / RECORD).read_text())
            if known["asked"] != asked:
                raise UsageError(
                    f"{path} holds another experiment: {'; '.join(differences(known['asked'], asked))[:300]}",
                    expected="the recipe, budget and data that it was begun with",
                    next_step="Name another folder with --out, or repeat those",
                )
            recipe = phase_recipe(known["recipe"])
        else:
            recipe = settle()
        values = {"asked": asked, "named": named, "recipe": recipe.to_values(), "numbers": vars(numbers)}
        write_file(path / RECORD, f"{json.dumps(values, indent=1)}\n".encode())
        return cls(path, recipe, asked, numbers, named)

    @property
    def data(self) -> str:
        return self.asked["data"]

    def command(self, arms: Sequence[str], seeds: Sequence[int]) -> str:
        """The command that trains and measures these, on as many samples as are asked about now."""
        options = {
            "--budget": self.asked["budget_minutes"],
            "--steps": self.asked["steps"],
            "--arms": ",".join(arms),
            "--seeds": ",".join(map(str, seeds)),
            "--n-eval": self.numbers.answers,
            "--n-flow": self.numbers.flow,
            "--n-checks": self.numbers.checks,
            "--model": self.asked["recipe"]["model"],
            "--data": self.data,
            "--out": self.path,
            "--processes": self.asked["recipe"]["processes"],
        }
        given = [text for name, value in options.items() if value is not None for text in (name, str(value))]
        return shlex.join(["vifscope", "ablate", self.named, *given])

    @cached_property
    def source(self) -> Source:
        return open_source(self.data)

    def samples(self, tell: Callable[[int, int], None] = lambda *_: None) -> Samples:
        return find_samples(self.source, self.numbers.answers, self.path / "samples.json", tell)

    def chosen(self, part: Part) -> list[Asked]:
        """Samples of a part, the tiny ones first."""
        return self._samples.chosen(self.numbers.of(part))

    @cached_property
    def _samples(self) -> Samples:
        return self.samples()

    def recipe_file(self, arm: str) -> Path:
        """The arm's recipe, written down."""
        path = self.path / arm / "arm.yaml"
        make_folders(path.parent)
        write_file(path, yaml.safe_dump(arm_recipe(self.recipe, arm).to_values(), sort_keys=False).encode())
        return path

    def training(self, arm: str, seed: int) -> Path:
        return self.path / arm / f"seed-{seed}"

    def model(self, arm: str, seed: int) -> Path:
        """Folder of the trained model."""
        return self.training(arm, seed) / arm_recipe(self.recipe, arm).name

    def measured(self, arm: str, seed: int, part: Part) -> Path:
        return self.training(arm, seed) / "measured" / f"{part.name}.jsonl"

    def identity(self, arm: str, seed: int, part: Part) -> dict[str, Any]:
        """What decides the numbers in a measured part's file."""
        trained = configuration_hash(arm_recipe(self.recipe, arm).to_values())
        return {"recipe": trained[:12], "arm": arm, "seed": seed, "data": self.source.fingerprint} | vars(part)

    def parts(self, arm: str) -> list[Part]:
        """What is measured of an arm: answers, flow and maps; of VIF itself also what other maps do to them."""
        vif = arm_recipe(self.recipe, arm).vif
        if vif is None or vif.variant == "mid-feature":
            return [ANSWERS, FLOW]
        checks = [DRAWN, *([] if vif.variant == "no-posterior" else [POSTERIOR]), SWAPPED, FLOW_SWAPPED]
        return [ANSWERS, FLOW, MAPS, *(checks if arm == VIF else [])]

    def frame(self, arm: str, seed: int, part: Part) -> pd.DataFrame | None:
        """The part's records of its chosen samples, a row each in their order; None unless all are there, and some
        without an error. Raises UsageError where they are of another recipe or of other data."""
        known = self._records(arm, seed, part)
        ids = [asked.sample_id for asked in self.chosen(part)]
        if not known.keys() >= set(ids) or all(known[each]["error"] for each in ids):
            return None
        return pd.DataFrame([known[each] for each in ids], index=ids)

    def lacking(self, arm: str, seed: int) -> list[Part]:
        """Parts that are not measured yet of a training, and those with samples that failed while its model is there to
        try them again; where there are none, its weights are not needed any more."""
        again = self.model(arm, seed).is_dir()
        frames = {part: self.frame(arm, seed, part) for part in self.parts(arm)}
        return [part for part, frame in frames.items() if frame is None or (again and frame["error"].notna().any())]

    def finished(self) -> dict[str, list[int]]:
        """Seeds of each arm whose every part is measured."""
        found = {}
        for arm in ARMS:
            parts = self.parts(arm)
            whole = [s for s in self._seeds(arm) if all(self.frame(arm, s, part) is not None for part in parts)]
            if whole:
                found[arm] = whole
        return found

    def begun(self) -> dict[str, list[int]]:
        """Seeds of each arm of which anything is measured."""
        found = {}
        for arm in ARMS:
            some = [s for s in self._seeds(arm) if any(self._records(arm, s, part) for part in self.parts(arm))]
            if some:
                found[arm] = some
        return found

    def _seeds(self, arm: str) -> list[int]:
        """Seeds that have a folder in the arm's."""
        named = (re.fullmatch(r"seed-(0|[1-9][0-9]*)", folder.name) for folder in (self.path / arm).glob("seed-*"))
        return sorted(int(match[1]) for match in named if match)

    def _records(self, arm: str, seed: int, part: Part) -> dict[str, dict[str, Any]]:
        """What a measured part's file holds, by sample; of one that was tried again the newest."""
        path = self.measured(arm, seed, part)
        data = path.read_bytes() if path.exists() else b""
        return {record["sample_id"]: record for record in read_records(path, data, self.identity(arm, seed, part))}
