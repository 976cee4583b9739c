"""A recipe: the stages of a training, read from YAML and run one after another, each resumable."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from vif_core.errors import UsageError, VifError


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


def read_recipe(name_or_path: str | Path) -> Recipe:
    """A packaged recipe by name, or one of the user's by path. Raises UsageError with the field that is wrong."""
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
        stages = tuple(_made(Stage, {**s, "train": tuple(s.get("train", ()))}) for s in raw.pop("stages"))
        return _made(Recipe, {**raw, "stages": stages})
    except (yaml.YAMLError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(
            f"recipe {name_or_path} is not a recipe ({error})", expected="stages with known fields"
        ) from error


def _made(kind: type, values: dict[str, Any]):
    unknown = set(values) - {f.name for f in fields(kind)}
    if unknown:
        raise TypeError(f"unknown field {sorted(unknown)[0]} in {kind.__name__.lower()}")
    return kind(**values)


def train(name_or_path: str | Path, out: Path, *, processes: int | None = None) -> Path:
    """Run a recipe in its own processes and return the folder of the trained model.

    Each process has one thread; they share gradients over gloo. Stages that are complete in `out` are skipped and the
    stage that was interrupted continues from its last checkpoint. Raises VifError where training fails.
    """
    recipe = read_recipe(name_or_path)
    out.mkdir(parents=True, exist_ok=True)
    count = processes or recipe.processes
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    command += ["-m", "vif_core.train.stages", str(name_or_path), str(out)]
    # one thread a process, and memory kept rather than given back and faulted in again at every step
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "MALLOC_MMAP_MAX_": "0",
        "MALLOC_TRIM_THRESHOLD_": str(1 << 34),
        "MALLOC_TOP_PAD_": str(1 << 28),
        "MALLOC_ARENA_MAX": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    done = subprocess.run(command, env=environment, check=False)
    if done.returncode:
        raise VifError(
            f"training {name_or_path} stopped with exit code {done.returncode}",
            next_step=f"Read the lines above; the same command continues from the last checkpoint in {out}",
        )
    return out / recipe.model
