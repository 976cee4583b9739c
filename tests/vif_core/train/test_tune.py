"""Phases: each is resumed exactly, finished ones are skipped, and the folder that is written can be loaded."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlavaForConditionalGeneration

from vif_core.errors import UsageError
from vif_core.load import load
from vif_core.train import tuner
from vif_core.train.learner import Learner
from vif_core.train.mini_llava import build_processor, config, draw_weights
from vif_core.train.packing import PackOptions
from vif_core.train.phases import Data
from vif_core.train.recipe import read_recipe
from vif_core.train.records import Records
from vif_core.train.tune import phase_rows, run_phases, sole_training
from vif_core.train.tuner import PhaseTrainer
from vif_core.vif.config import VIFConfig
from vif_core.vif.model import add_vif
from vif_core.vlm.model import VLM
from vif_core.vlm.tiny import tiny_model

LORA = {"rank": 2, "alpha": 4, "dropout": 0.1}
SHORT = {"steps": 3}
CASES = {
    "full": {"phases": [{"train": ["vif"], **SHORT}, SHORT]},
    "lora": {"phases": [{"train": ["vif", "decoder"], "lora": LORA, **SHORT}, {"train": ["vif"], **SHORT}]},
    "control": {"phases": [{"train": ["decoder"], **SHORT}, {"train": ["projector"], **SHORT}], "vif": None},
    "muon": {"phases": [SHORT], "optimizer": "muon"},
    "bf16": {"phases": [{"train": ["vif"], "bf16": True, **SHORT}, {"bf16": True, **SHORT}]},
}


class Killed(Exception):
    pass


@pytest.fixture
def die_at(monkeypatch):
    """Ends the process, so to say, after a step of a phase and before its checkpoint."""
    on_log = Records.on_log

    def prepare(phase, step):
        def dying(self, args, state, control, logs=None, **kwargs):
            on_log(self, args, state, control, logs=logs, **kwargs)
            if (self.phase, state.global_step) == (phase, step):
                raise Killed

        monkeypatch.setattr(Records, "on_log", dying)

    yield prepare
    monkeypatch.setattr(Records, "on_log", on_log)


@pytest.mark.parametrize("case", CASES)
def test_an_interrupted_training_ends_with_the_same_weights(tiny_recipe, tmp_path, die_at, case):
    recipe = tiny_recipe(**CASES[case])
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    run_phases(recipe, whole, tiny_model("llava"))
    for phase in recipe.phases:
        for step in (1, 3):  # before the first checkpoint, and between two
            die_at(phase.name, step)
            with pytest.raises(Killed):
                run_phases(recipe, broken, tiny_model("llava"))
    die_at("none", 0)
    run_phases(recipe, broken, tiny_model("llava"))
    for number, phase in enumerate(recipe.phases):
        expected, found = (load_file(out / f"{number}-{phase.name}.safetensors") for out in (whole, broken))
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[name], found[name]) for name in expected)
    log = map(json.loads, (broken / "learning.jsonl").read_text().splitlines())
    steps = [(line["phase"], line["step"]) for line in log]
    assert steps == [(phase.name, step) for phase in recipe.phases for step in (1, 2, 3)]


def test_finished_phases_are_kept_and_skipped(tiny_recipe, tmp_path, monkeypatch):
    recipe = tiny_recipe([{"train": ["vif"]}, {}])
    folder = run_phases(recipe, tmp_path, tiny_model("llava"))
    assert not [path for path in tmp_path.iterdir() if path.is_dir() and "phase" in path.name], (
        "no checkpoints are left"
    )
    before = load_file(folder / "model.safetensors")
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    monkeypatch.setattr(PhaseTrainer, "train", lambda *_, **__: pytest.fail("a finished phase was trained again"))
    again = load_file(run_phases(recipe, tmp_path, tiny_model("llava")) / "model.safetensors")
    assert all(torch.equal(before[name], again[name]) for name in before)


@pytest.mark.parametrize("options", [{}, {"vif": None}], ids=["vif", "control"])
def test_every_phase_computes_in_the_type_that_it_is_told(tiny_recipe, tmp_path, monkeypatch, options):
    monkeypatch.setattr(tuner, "multiplies_bf16", lambda: True)
    seen: list[bool] = []
    forward = Learner.forward

    def watched(self, **inputs):
        seen.append(torch.is_autocast_enabled("cpu"))
        return forward(self, **inputs)

    monkeypatch.setattr(Learner, "forward", watched)
    phases = [{"bf16": told, "steps": 1, "rows": 2} for told in (True, True, False)]
    run_phases(tiny_recipe(phases, **options), tmp_path, tiny_model("llava"))
    assert seen == [True, True, False]
    told = [json.loads(line)["bf16"] for line in (tmp_path / "learning.jsonl").read_text().splitlines()]
    assert told == seen


def test_a_processor_that_only_emulates_bfloat16_computes_in_float32(tiny_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": False})
    run_phases(tiny_recipe([{"bf16": True, "steps": 1, "rows": 2}]), tmp_path, tiny_model("llava"))
    assert not json.loads((tmp_path / "learning.jsonl").read_text())["bf16"]


def test_weights_that_learn_in_float32_beside_frozen_ones_in_bfloat16(tiny_recipe, tmp_path, monkeypatch):
    """As on a GPU, where a checkpoint keeps its type."""
    monkeypatch.setattr(tuner, "multiplies_bf16", lambda: True)
    vlm = tiny_model("llava")
    vlm.model.to(torch.bfloat16)
    phases = [{"train": ["vif"]}, {"train": ["decoder"], "decoder_from": 1}]
    phases = [phase | {"bf16": True, "steps": 1, "rows": 2} for phase in phases]
    run_phases(tiny_recipe(phases), tmp_path, vlm)
    losses = [json.loads(line)["cross_entropy"] for line in (tmp_path / "learning.jsonl").read_text().splitlines()]
    assert len(losses) == 2
    assert all(map(math.isfinite, losses))


def test_what_any_phase_trained_is_in_the_folder(tiny_recipe, tmp_path):
    vlm = tiny_model("llava")
    folder = run_phases(tiny_recipe([{"train": ["decoder"]}, {"train": ["vif"]}]), tmp_path, vlm)
    loaded = load(folder, device="cpu")
    assert loaded.vif is not None
    for mine, other in ((vlm.model, loaded.model), (vlm.vif.generator, loaded.vif.generator)):
        expected, found = dict(mine.named_parameters()), dict(other.named_parameters())
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
def test_the_control_s_folder_is_a_plain_model(tiny_recipe, tmp_path, lora):
    vlm = tiny_model("llava")
    folder = run_phases(tiny_recipe([{"train": ["decoder"], "lora": lora}], vif=None), tmp_path, vlm)
    loaded = load(folder, device="cpu")
    assert loaded.vif is None
    inputs = vlm.probe().inputs
    with torch.no_grad():
        difference = (loaded.model(**inputs).logits - vlm.model.eval()(**inputs).logits).abs().max().item()
    assert difference < 1e-5


def test_adapters_stay_apart_unless_more_of_the_base_learned(tiny_recipe, tmp_path):
    for train, whole in ((["vif", "decoder"], False), (["vif", "decoder", "projector"], True)):
        out = tmp_path / str(whole)
        out.mkdir()
        folder = run_phases(tiny_recipe([{"train": train, "lora": LORA}]), out, tiny_model("llava"))
        assert (folder / "adapter_model.safetensors").exists() != whole
        assert (folder / "model.safetensors").exists() == whole
        assert (folder / "vif.safetensors").exists()


def test_weights_are_written_in_the_type_that_the_recipe_wants(tiny_recipe, tmp_path):
    folder = run_phases(tiny_recipe(save_dtype="bfloat16"), tmp_path, tiny_model("llava"))
    for name in ("model", "vif"):
        assert {value.dtype for value in load_file(folder / f"{name}.safetensors").values()} == {torch.bfloat16}


def test_the_release_s_recipe_trains_a_llava(llava_file, tmp_path):
    recipe = read_recipe("llava-1.5-7b-vif").changed(data=str(llava_file), steps=2, processes=1)
    recipe = replace(recipe, vif=replace(recipe.vif, pairs=((0, 1), (1, 2))), workers=0)
    recipe = replace(recipe, phases=tuple(replace(phase, rows=4, per_device=2) for phase in recipe.phases))
    folder = run_phases(recipe, tmp_path / "llava", tiny_model("llava"))
    assert load(folder, device="cpu").vif.config.preset == "release"


def test_the_lora_recipe_trains_a_qwen(llava_file, tmp_path):
    recipe = read_recipe("qwen2.5-vl-7b-vif-lora").changed(data=str(llava_file), steps=1, processes=1)
    recipe = replace(recipe, vif=VIFConfig(pairs=((0, 1), (1, 2)), slots=4, width=16), workers=0)
    recipe = replace(recipe, phases=tuple(replace(phase, rows=2, per_device=2) for phase in recipe.phases))
    folder = run_phases(recipe, tmp_path / "qwen", tiny_model("qwen2_5_vl"))
    assert (folder / "adapter_model.safetensors").exists()
    assert len(list((tmp_path / "qwen").glob("?-*.safetensors"))) == 4


def test_the_recipe_of_mini_llava_trains_its_family(tmp_path):
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration(config())
    draw_weights(model)
    vlm = VLM(model, build_processor(), "mini")
    recipe = read_recipe("mini-llava-vif").changed(steps=1, processes=1)
    recipe = replace(recipe, phases=tuple(replace(phase, rows=2) for phase in recipe.phases))
    folder = run_phases(recipe, tmp_path, vlm)
    line = json.loads((tmp_path / "learning.jsonl").read_text().splitlines()[-1])
    assert line["map_box_lift"] > 0
    assert load(folder, device="cpu").vif is not None


def test_epochs_are_counted_in_rows(tiny_recipe):
    recipe = tiny_recipe([{"steps": None, "epochs": 3, "rows": 4}])
    rows, steps = phase_rows(recipe, recipe.phases[0], 0, tiny_model("llava"))
    assert (steps, len(rows)) == (5, 20), "six rows, three times, four a step"


def test_endless_data_has_no_epochs(tiny_recipe):
    vlm = VLM(LlavaForConditionalGeneration(config(layers=1)), build_processor(), "mini")
    recipe = tiny_recipe([{"steps": None, "epochs": 1}])
    recipe = replace(recipe, data=(Data("specks", pack=PackOptions()),))
    with pytest.raises(UsageError, match="counts the rows of specks, which are endless; expected steps in place"):
        phase_rows(recipe, recipe.phases[0], 0, vlm)


def test_a_model_that_has_vif_is_trained_further_by_its_own_configuration_alone(tiny_recipe, tmp_path):
    vlm = tiny_model("llava")
    vif = add_vif(vlm, VIFConfig(pairs=((0, 2),), slots=4, width=16, depth=1))
    with pytest.raises(UsageError, match="has VIF already, and not as the recipe has it"):
        run_phases(tiny_recipe(), tmp_path, vlm)
    first = {name: value.clone() for name, value in vif.generator.state_dict().items()}
    run_phases(replace(tiny_recipe(), vif=vif.config), tmp_path, vlm)
    assert any(not torch.equal(value, vif.generator.state_dict()[name]) for name, value in first.items())


def test_one_folder_is_trained_in_by_one_process(tmp_path):
    refused = pytest.raises(UsageError, match=r"another process trains in .*; expected one at a time")
    with sole_training(tmp_path), refused, sole_training(tmp_path):
        pass
    with sole_training(tmp_path):
        pass
