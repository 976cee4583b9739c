"""A training that is killed goes on to the same weights as one that is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoProcessor, LlavaForConditionalGeneration

RECIPE = """
model: mini-llava
seed: 5
processes: 1
log_steps: 1
save_steps: 1
stages:
  - {name: language, train: [decoder], steps: 2, rows: 2, lr: 1.0e-3, pack: {length: 300, text_only: 1.0}}
  - {name: vision, train: [vision, projector], steps: 3, rows: 2, lr: 1.0e-3, answers: false, dense: 1.0}
  - {name: joint, train: [decoder, vision, projector], steps: 4, rows: 2, lr: 1.0e-3, dense: 0.3,
     pack: {length: 300, text_only: 0.3}}
"""


def run(recipe: Path, out: Path) -> subprocess.Popen:
    out.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "vif_core.train.stages", str(recipe), str(out)]
    return subprocess.Popen(
        command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


@pytest.mark.slow
def test_a_training_killed_in_every_stage_ends_with_the_same_weights(tmp_path):
    recipe = tmp_path / "short.yaml"
    recipe.write_text(RECIPE)
    assert run(recipe, tmp_path / "whole").wait(timeout=300) == 0

    killed = tmp_path / "killed"
    for checkpoint in ("0-language/checkpoint-1", "1-vision/checkpoint-2", "2-joint/checkpoint-2"):
        process = run(recipe, killed)
        deadline = time.monotonic() + 300
        while not (killed / checkpoint / "trainer_state.json").exists() and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert run(recipe, killed).wait(timeout=300) == 0

    whole, resumed = (load_file(folder / "mini-llava" / "model.safetensors") for folder in (tmp_path / "whole", killed))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)

    model = LlavaForConditionalGeneration.from_pretrained(killed / "mini-llava")
    processor = AutoProcessor.from_pretrained(killed / "mini-llava")
    assert model.config.text_config.num_hidden_layers == 16
    assert processor.tokenizer.get_vocab()["<image>"] == model.config.image_token_id
