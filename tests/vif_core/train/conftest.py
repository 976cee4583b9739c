"""A small LLaVA file, and recipes that train a tiny random model on it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from vif_core.train.phases import phase_recipe

TINY_VIF = {"pairs": [[0, 1], [1, 2]], "slots": 4, "width": 16, "depth": 1}


@pytest.fixture
def llava_file(tmp_path):
    """Six rows: one question, two turns, two images (one in a later turn), and words alone."""
    random = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        pixels = random.integers(0, 256, (40, 56, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")

    def said(*texts):
        return [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(texts)]

    rows = [
        {"id": "one", "image": "a.png", "conversations": said("<image>\nWhat is it?", "a cat")},
        {"id": "two", "image": "b.png", "conversations": said("Which?\n<image>", "red", "Sure?", "yes, sure")},
        {
            "id": "images",
            "image": ["a.png", "c.png"],
            "conversations": said("<image>See?", "yes", "And <image>?", "no"),
        },
        {"id": "words", "conversations": said("Hello <image>?", "hi there")},
        {"id": "three", "image": "c.png", "conversations": said("<image>\nA?", "b", "C?", "d", "E?", "f")},
        {"id": "four", "image": "a.png", "conversations": said("<image>\nHow many are there of them?", "eleven")},
    ]
    path = tmp_path / "llava.json"
    path.write_text(json.dumps(rows))
    return path


@pytest.fixture
def tiny_recipe(llava_file):
    """A recipe of one phase (or of `phases`) on `llava_file`; fields of the phase and of the recipe as options."""

    def made(phases=({},), *, vif=TINY_VIF, **options):
        phase = {"train": ["vif", "decoder", "projector"], "lr": dict.fromkeys(("vif", "decoder", "projector"), 1e-2)}
        if vif is None:
            phase["train"] = ["decoder", "projector"]
        phase |= {"steps": 2, "rows": 4, "per_device": 2, "bf16": False, "warmup": 0.0}
        listed = [{"name": f"phase{number}", **phase, **given} for number, given in enumerate(phases)]
        base = {"model": "tiny", "name": "trained", "vif": vif, "phases": listed, "log_steps": 1, "save_steps": 1}
        return phase_recipe({**base, "data": str(llava_file), "seed": 3, "processes": 1, **options})

    return made
