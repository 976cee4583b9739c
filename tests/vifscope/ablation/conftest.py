"""A tiny random model, ten pictures with questions about tiny and other objects, and an experiment on them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from vif_core.train.phases import phase_recipe
from vif_core.train.recipe import read_recipe
from vif_core.vif import VIFConfig, add_vif
from vif_core.vlm.tiny import tiny_model
from vifscope.ablation import Experiment, Numbers, ablate, job

TINY_VIF = {"pairs": [[0, 1], [1, 2]], "slots": 4, "width": 16, "depth": 1}
PHASE = {"rows": 2, "per_device": 2, "bf16": False, "warmup": 0.0}
RECIPE = {
    "name": "trial",
    "vif": TINY_VIF,
    "processes": 1,
    "log_steps": 1,
    "save_steps": 50,
    "phases": [
        {"name": "focus", "train": ["vif"], "lr": {"vif": 1e-3}, "steps": 2, **PHASE,
         "losses": {"kl": {"value": 0.1, "warmup": 2}}},
        {"name": "joint", "train": ["vif", "decoder"], "lr": {"vif": 1e-3, "decoder": 1e-3}, "steps": 4, **PHASE,
         "losses": {"sparsity": 0.01}},
    ],
}  # fmt: skip


@pytest.fixture(scope="session")
def base(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "tiny"
    vlm = tiny_model("llava")
    vlm.model.save_pretrained(folder)
    vlm.processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "asked"
    folder.mkdir()
    random = np.random.default_rng(0)
    rows = []
    for i in range(10):
        Image.fromarray(random.integers(0, 256, (28, 28, 3), dtype=np.uint8)).save(folder / f"{i}.png")
        rows.append(
            {"id": f"q{i}", "image": f"{i}.png", "question": "what" + "?" * (1 + i % 3), "answer": "ab",
             "kind": ("shape", "place")[i % 2], "size": ("tiny", "large", "")[i % 3], "boxes": [[0, 0, 14, 14]]}
        )  # fmt: skip
    (folder / "samples.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return folder


@pytest.fixture(scope="session")
def recipe_file(tmp_path_factory, base, data) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "trial.yaml"
    path.write_text(yaml.safe_dump(RECIPE | {"model": str(base), "data": str(data)}))
    return path


class Trainer:
    """Stands in for training: writes the arm's model with random VIF, and counts."""

    def __init__(self) -> None:
        self.trained: list[tuple[str, int | None]] = []

    def __call__(self, path: Path, out: Path, *, seed: int | None = None) -> Path:
        recipe = read_recipe(path)
        folder = out / recipe.name
        if not folder.is_dir():
            self.trained.append((recipe.name, seed))
            vlm = tiny_model("llava")
            if recipe.vif is not None:
                with torch.random.fork_rng():
                    torch.manual_seed(seed or 0)
                    add_vif(vlm, VIFConfig.from_dict(TINY_VIF)).save_pretrained(folder)
            vlm.model.save_pretrained(folder)
            vlm.processor.save_pretrained(folder)
            (out / "learning.jsonl").write_text(
                "".join(json.dumps({"phase": phase.name, "step": step, "time": 600.0 * number + 30 * step}) + "\n"
                        for number, phase in enumerate(recipe.phases) for step in (1, 2, 3))
            )  # fmt: skip
        return folder


@pytest.fixture(scope="session")
def trainer() -> Trainer:
    return Trainer()


@pytest.fixture(scope="session")
def ablation(tmp_path_factory, recipe_file, data):
    """VIF, its control and the swapped arm on two seeds, eight samples."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "train", Trainer())
        return ablate(
            recipe_file,
            tmp_path_factory.mktemp("runs") / "experiment",
            arms=("vif", "control", "swapped"),
            seeds=(1, 2),
            numbers=Numbers(8, 6, 4),
            data=str(data),
        )


LAYERS = 16
INJECTED = (12, 13, 14)
"""Of the written experiment: one of the last quarter's four layers is left alone."""


def written_records(arm: str, seed: int, asked) -> dict[str, dict]:
    """Records by part of one sample. VIF: one tiny question more is right; entropy halves where maps are injected."""
    number = int(asked.sample_id[1:])
    focused = arm != "control"
    right = number % 4 != 0 or (arm == "vif" and number % 8 == 0 and asked.tiny)
    entropy = [4.0 + 0.01 * number] * LAYERS
    lift = [2.0] * LAYERS
    for layer in INJECTED if focused else ():
        entropy[layer] *= 0.5
        lift[layer] = 6.0 if arm == "vif" else 1.0
    flow = {"visual_entropy": entropy, "box_lift": lift, "visual_ratio": [0.6 if focused else 0.3] * LAYERS}
    far = 0.1 * number + 0.01 * seed
    maps = {"map_entropy": [2.0, 4.0], "map_box_lift": [5.0, 7.0], "centre": [[far, 0.5], [far, 0.5]],
            "kl_nats": [1.0, 3.0], "posterior_box_lift": [8.0, 8.0]}  # fmt: skip
    worse = flow | {"box_lift": [1.0] * LAYERS}
    answered = {"response": "ab", "correct": right, "score": float(right)}
    missed = answered | {"correct": right and not asked.tiny}
    return {
        "answers": answered,
        "flow": flow,
        "maps": maps,
        "answers-draw": answered,
        "answers-posterior": answered | {"correct": True},
        "answers-swapped": missed,
        "flow-swapped": worse,
    }


@pytest.fixture(scope="session")
def written(tmp_path_factory, base, data):
    """An experiment of four arms and three seeds as it lies on disk, with numbers that are known."""
    vif = VIFConfig(pairs=tuple((layer - 6, layer) for layer in INJECTED))
    recipe = phase_recipe(RECIPE | {"model": str(base), "data": str(data), "vif": asdict(vif)})
    asked = {"recipe": recipe.to_values(), "budget_minutes": None, "steps": None, "data": str(data)}
    path = tmp_path_factory.mktemp("written")
    experiment = Experiment.begin(path, asked, Numbers(8, 8, 8), lambda: recipe, "trial.yaml")
    for arm in ("vif", "control", "swapped", "constant"):
        for seed in (1, 2, 3):
            for part in experiment.parts(arm):
                file = experiment.measured(arm, seed, part)
                file.parent.mkdir(parents=True, exist_ok=True)
                lines = [{"configuration": experiment.identity(arm, seed, part)}]
                for each in experiment.chosen(part):
                    known = {"sample_id": each.sample_id, "error": None}
                    lines.append(known | written_records(arm, seed, each)[part.name])
                file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return experiment
