"""Recipes: a training from nothing in stages, or a fine-tuning in phases, read from YAML and run in its processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from vif_core.data.open import fingerprint_of
from vif_core.errors import UsageError, VifError
from vif_core.train.phases import PACKED, PhaseRecipe, phase_recipe

RECORD = "recipe.yaml"
"""In the folder of a training: the recipe, with the options that were given."""

DATA_RECORD = "data.json"
"""Beside it: the fingerprint of each source."""


@dataclass(frozen=True)
class Stage:
    """One stage. rows: packed rows a step over all processes. dense: weight of the patch labels' loss.

    train: which of decoder, vision and projector learn. answers: False to train on patch labels alone.
    """

    name: str
    train: tuple[str, ...]
    steps: int
    rows: int
    lr: float
    answers: bool = True
    dense: float = 0.0
    vision_scale: float = 1.0
    warmup: float = 0.03
    decay: float = 0.5
    pack: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    model: str
    seed: int
    processes: int
    stages: tuple[Stage, ...]
    log_steps: int = 20
    save_steps: int = 100
    compile: bool = False


def recipe_names() -> list[str]:
    folder = resources.files("vif_core.train") / "recipes"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def read_recipe(name_or_path: str | Path) -> Recipe | PhaseRecipe:
    """A packaged recipe by name, or one of the user's by path; with the key `phases` it is one of phases.

    Raises UsageError with the field that is wrong.
    """
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        if str(name_or_path) not in recipe_names():
            raise UsageError(
                f"no recipe named {name_or_path}",
                expected=f"one of {', '.join(recipe_names())}, or a .yaml file",
            )
        text = (resources.files("vif_core.train") / "recipes" / f"{name_or_path}.yaml").read_text()
    elif not path.is_file():
        raise UsageError(f"recipe {path} does not exist", expected="a .yaml file")
    else:
        text = path.read_text()
    try:
        raw = yaml.safe_load(text)
        if "phases" in raw:
            return phase_recipe(raw)
        stages = tuple(_made(Stage, {**s, "train": tuple(s.get("train", ()))}) for s in raw.pop("stages"))
        return _made(Recipe, {**raw, "stages": stages})
    except UsageError as error:
        raise UsageError(f"recipe {name_or_path}: {str(error).rstrip('.')}") from error
    except (yaml.YAMLError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(
            f"recipe {name_or_path} is not a recipe ({error})", expected="stages or phases with known fields"
        ) from error


def read_stages(name_or_path: str | Path) -> Recipe:
    """A recipe of stages. Raises UsageError for one of phases."""
    recipe = read_recipe(name_or_path)
    if not isinstance(recipe, Recipe):
        raise UsageError(f"recipe {name_or_path} has phases", expected="one with stages, such as mini-llava")
    return recipe


def _made(kind: type, values: dict[str, Any]):
    unknown = set(values) - {f.name for f in fields(kind)}
    if unknown:
        raise TypeError(f"unknown field {sorted(unknown)[0]} in {kind.__name__.lower()}")
    return kind(**values)


def train(
    name_or_path: str | Path,
    out: Path,
    *,
    data: str | None = None,
    model: str | None = None,
    steps: int | None = None,
    seed: int | None = None,
    processes: int | None = None,
) -> Path:
    """Run a recipe in its own processes and return the folder of the trained model.

    data, model, steps (a phase at most), seed: in place of what a recipe of phases says; one of stages takes none.
    processes: in place of what the recipe says; with GPUs never more than there are, each with its own.
    On the CPU each process has one thread, and they share gradients over gloo. Stages and phases that are complete in
    `out` are skipped and the one that was interrupted continues from its last checkpoint. Raises UsageError where
    `out` holds another training or one of other data, where data is missing, and where a process refuses what is asked;
    VifError where training fails.
    """
    recipe = read_recipe(name_or_path)
    if isinstance(recipe, PhaseRecipe):
        recipe = recipe.changed(data=data, model=model, steps=steps, seed=seed, processes=processes)
        count = _process_count(recipe)
        recipe = recipe.changed(processes=count)
        for phase in recipe.phases:
            recipe.data_of(phase)
            phase.shared(count)
        begins = not (out / RECORD).exists()
        _record(recipe, out)
        if (out / recipe.name).is_dir():
            return out / recipe.name
        name = recipe.name
        try:
            _launch(["-m", "vif_core.train.tune", str(out)], count, str(name_or_path), out)
        except VifError:
            if begins and not any(out.glob("0-*")):  # nothing was learned, as of a mistyped model: leave no trace
                for record in (RECORD, DATA_RECORD):
                    (out / record).unlink()
            raise
    else:
        given = {"--data": data, "--model": model, "--steps": steps, "--seed": seed}
        if named := [option for option, value in given.items() if value is not None]:
            raise UsageError(f"{named[0]} for recipe {name_or_path}, which has stages", expected="a recipe with phases")
        out.mkdir(parents=True, exist_ok=True)
        count, name = processes or recipe.processes, recipe.model
        _launch(["-m", "vif_core.train.stages", str(name_or_path), str(out)], count, str(name_or_path), out)
    return out / name


def _process_count(recipe: PhaseRecipe) -> int:
    import torch

    gpus = torch.cuda.device_count()
    return min(recipe.processes or gpus, gpus) if gpus else recipe.processes or 1


def _record(recipe: PhaseRecipe, out: Path) -> None:
    """Write down what is trained in `out`, and on what. Raises UsageError where that is something else, or missing."""
    named = {each.source for phase in recipe.phases for each in recipe.data_of(phase)} - {PACKED}
    data = {source: fingerprint_of(source) for source in sorted(map(str, named))}
    out.mkdir(parents=True, exist_ok=True)
    kept = read_recipe(_written(out / RECORD, yaml.safe_dump(recipe.to_values(), sort_keys=False)))
    if kept != recipe:
        differing = [name for name, value in vars(recipe).items() if getattr(kept, name, None) != value]
        raise UsageError(
            f"{out} holds another training, which differs in {', '.join(differing)}",
            expected="the recipe and options that it was begun with",
            next_step="Choose another --out, or repeat those",
        )
    begun_with = json.loads(_written(out / DATA_RECORD, json.dumps(data, indent=1)).read_text())
    if changed := [source for source in data if begun_with[source] != data[source]]:
        raise UsageError(
            f"{changed[0]} has changed since the training in {out} began",
            expected="the data that it was begun with",
            next_step="Choose another --out, or restore the data",
        )


def _written(path: Path, text: str) -> Path:
    """A file that has this text, whole, unless it is there already."""
    if not path.exists():
        part = path.with_suffix(".part")
        part.write_text(text)
        part.replace(path)
    return path


def _launch(command: list[str], processes: int, name: str, out: Path) -> None:
    """Run a module in so many processes that meet one another; what they print goes to stderr."""
    # one thread a process, and memory kept rather than given back and faulted in again at every step
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "MALLOC_MMAP_MAX_": "0",
        "MALLOC_TRIM_THRESHOLD_": str(1 << 34),
        "MALLOC_TOP_PAD_": str(1 << 28),
        "MALLOC_ARENA_MAX": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    if processes > 1 or "vif_core.train.stages" in command:
        command = ["-m", "vif_core.train.processes", str(processes), *command]
    else:  # by itself the Trainer would spread a process's rows, as many for each, over all GPUs that it sees
        environment["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0]
    code = subprocess.run([sys.executable, *command], env=environment, check=False, stdout=2).returncode
    if code == UsageError.exit_code:
        raise UsageError(f"training {name} was refused", next_step="Read the lines above")
    if code:
        raise VifError(
            f"training {name} stopped with exit code {code}",
            next_step=f"Read the lines above; the same command continues from the last checkpoint in {out}",
        )
