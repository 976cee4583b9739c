"""A fine-tuning whose process is killed goes on to the same weights, and two processes learn what one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import psutil
import pytest
import torch
import yaml
from safetensors.torch import load_file

from vif_core.load import load
from vif_core.vlm.tiny import tiny_model

RUN = """
import sys, pathlib
from vif_core.errors import VifError
from vif_core.train.recipe import train
try:
    train(sys.argv[1], pathlib.Path(sys.argv[2]))
except VifError as error:
    print(f"vifscope: {error}", file=sys.stderr)
    sys.exit(error.exit_code)
"""


@pytest.fixture
def start(tiny_recipe, tmp_path):
    """Starts a recipe that trains a saved tiny model into a folder, in a process of its own."""
    vlm = tiny_model("llava")
    for part in (vlm.model, vlm.processor):
        part.save_pretrained(tmp_path / "tiny")

    def started(out, phases, **options):
        recipe = tiny_recipe(phases, model=str(tmp_path / "tiny"), **options)
        path = tmp_path / f"{out.name}.yaml"
        path.write_text(yaml.safe_dump(recipe.to_values()))
        command = [sys.executable, "-c", RUN, str(path), str(out)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    return started


def finish(process):
    _, told = process.communicate(timeout=600)
    assert process.returncode == 0, told.decode()[-2000:]


def kill(process):
    """With all that it started, which outlives it."""
    whole = psutil.Process(process.pid)
    for each in (whole, *whole.children(recursive=True)):
        each.kill()
    process.communicate()


def last_checkpoint(folder):
    return max((int(path.name.partition("-")[2]) for path in folder.glob("checkpoint-*")), default=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lora", "processes"),
    [(None, 1), ({"rank": 2, "alpha": 4, "dropout": 0.1}, 1), ({"rank": 2, "alpha": 4, "dropout": 0.1}, 2)],
    ids=["full", "lora", "lora, two processes"],
)
def test_a_training_killed_in_every_phase_ends_with_the_same_weights(start, tmp_path, lora, processes):
    train = ["vif", "decoder"] if lora else ["vif", "decoder", "projector", "vision"]
    phases = [{"steps": 12, "train": ["vif"]}, {"steps": 12, "train": train, "lr": dict.fromkeys(train, 1e-3)}]
    phases[1]["lora"] = lora
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(start(whole, phases, processes=processes))
    for folder, steps in (("0-phase0", 3), ("1-phase1", 5)):
        process = start(killed, phases, processes=processes)
        deadline = time.monotonic() + 600
        while last_checkpoint(killed / folder) < steps:
            assert time.monotonic() < deadline
            assert process.poll() is None, "it is killed before it ends"
            time.sleep(0.01)
        kill(process)
    assert not (killed / "trained").exists()
    finish(start(killed, phases, processes=processes))
    for name in ("model", "vif", "adapter_model"):
        paths = [out / "trained" / f"{name}.safetensors" for out in (whole, killed)]
        assert paths[0].exists() == paths[1].exists() == (name == "vif" or (name == "model") != bool(lora))
        if paths[0].exists():
            expected, found = map(load_file, paths)
            assert expected.keys() == found.keys()
            assert all(torch.equal(expected[key], found[key]) for key in expected)
    assert load(killed / "trained", device="cpu").vif is not None


@pytest.mark.slow
@pytest.mark.parametrize("control", [True, False], ids=["control", "vif"])
def test_two_processes_learn_what_one_does(start, tmp_path, control):
    """One map for all, since each process draws noise of its own; VIF's encoders then learn from the KL."""
    phases = [{"steps": 2, "per_device": 1, "losses": {"kl": 0.5, "guide": 0.5}}]
    if control:
        phases[0]["train"] = ["decoder", "projector"]
    options = {"vif": None} if control else {"maps_from": "constant"}
    logs = []
    for count in (1, 2):
        finish(start(tmp_path / str(count), phases, processes=count, **options))
        logs.append(list(map(json.loads, (tmp_path / str(count) / "learning.jsonl").read_text().splitlines())))
    for told in zip(*logs, strict=True):  # AdamW's steps are blind to the scale of gradients
        for name in ("loss", "grad_norm") if control else ("loss", "grad_norm", "kl", "volume", "entropy", "guide"):
            alone, together = (line[name] for line in told)
            print(f"step {told[0]['step']} {name} {alone:.7g} {together:.7g}")
            assert together == pytest.approx(alone, rel=1e-4)
    for file in ("model",) if control else ("model", "vif"):
        one, two = (load_file(tmp_path / count / "trained" / f"{file}.safetensors") for count in ("1", "2"))
        difference = torch.cat([(one[name] - two[name]).abs().flatten() for name in one])
        print(f"{file}: max difference {difference.max():.1e}")
        assert difference.mean() < 1e-5


@pytest.mark.slow
def test_each_process_draws_noise_of_its_own_for_the_same_row(start, tmp_path, llava_file):
    (row,) = (row for row in json.loads(llava_file.read_text()) if row["id"] == "one")
    (tmp_path / "row.json").write_text(json.dumps([row]))
    first = []
    vif = {"pairs": [[1, 2]], "slots": 4, "width": 16, "depth": 1}  # what it reads, no map has reached
    for count in (1, 2):
        phase = {"steps": 1, "rows": count, "data": [{"source": str(tmp_path / "row.json")}]}
        finish(start(tmp_path / str(count), [phase], processes=count, vif=vif))
        first.append(json.loads((tmp_path / str(count) / "learning.jsonl").read_text()))
    alone, together = first
    assert together["kl"] == pytest.approx(alone["kl"], rel=1e-5), "weights are drawn alike"
    assert abs(together["entropy"] / alone["entropy"] - 1) > 1e-4, "and what the posterior draws is not"


@pytest.mark.slow
@pytest.mark.parametrize("train", [("vif", "decoder", "projector"), ("vif", "decoder", "vision"), ("vision",)], ids=str)
def test_two_processes_train_where_one_has_words_alone(start, tmp_path, train):
    phase = {"steps": 4, "rows": 2, "train": list(train), "lr": dict.fromkeys(train, 1e-3)}
    options = {} if "vif" in train else {"vif": None}
    finish(start(tmp_path / "out", [phase], processes=2, **options))
    assert len((tmp_path / "out" / "learning.jsonl").read_text().splitlines()) == 4


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_an_error_in_a_process_is_one_line(start, tmp_path, processes):
    (tmp_path / "empty.json").write_text('[{"conversations": []}]')
    phases = [{"data": [{"source": str(tmp_path / "empty.json")}]}]
    _, told = (process := start(tmp_path / "out", phases, processes=processes)).communicate(timeout=600)
    assert process.returncode == 2
    assert "Traceback" not in told.decode()
    *refused, last = [line for line in told.decode().splitlines() if line.startswith("vifscope: ")]
    assert set(refused) == {
        f"vifscope: none of the 1 rows of {tmp_path}/empty.json can be used; the first: {tmp_path}/empty.json entry 1 "
        "has no answered question; expected a question and its answer."
    }
    assert last == f"vifscope: training {tmp_path}/out.yaml was refused. Read the lines above."
