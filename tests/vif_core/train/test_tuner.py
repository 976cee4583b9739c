"""The trainer: losses add up as the recipe says, however rows are shared; what is frozen stays."""

from __future__ import annotations

import json

import pytest
import torch

from vif_core.errors import VifError
from vif_core.train.groups import parts_of
from vif_core.train.learner import Learner
from vif_core.train.tune import run_phases
from vif_core.train.tuner import _vif_loss
from vif_core.vif.config import VIFConfig
from vif_core.vlm.tiny import tiny_model


def trained(recipe, folder, family="llava"):
    """The trained model, its first weights by name, and its log lines."""
    folder.mkdir()
    vlm = tiny_model(family)
    first = {f"base.{name}": value.detach().clone() for name, value in vlm.model.named_parameters()}
    run_phases(recipe, folder, vlm)
    log = [json.loads(line) for line in (folder / "learning.jsonl").read_text().splitlines()]
    return Learner(vlm), first, log


def test_the_losses_are_told_apart(tiny_recipe, tmp_path):
    _, _, log = trained(tiny_recipe([{"losses": {"kl": 0.5, "guide": 0.25}}]), tmp_path / "out")
    assert [line["step"] for line in log] == [1, 2]
    for line in log:
        total = (
            line["cross_entropy"] + 0.5 * line["kl"] + 0.1 * (line["entropy"] + line["volume"]) + 0.25 * line["guide"]
        )
        assert line["loss"] == pytest.approx(total, rel=0.02), "parts are means over pieces of a step"
        assert min(line[name] for name in ("kl", "volume", "entropy", "guide", "kl_nats", "map_entropy")) > 0
        assert {"active_dims", "centre_spread", "grad_norm", "skipped_rows", "weight_kl", "lr_vif"} <= line.keys()


def test_weights_ramp_and_rates_follow_the_schedule(tiny_recipe, tmp_path):
    ramps = {"kl": {"value": 1.0, "warmup": 4}, "alpha": {"value": 0.4, "warmup": 2, "start": 0.2}}
    phase = {"steps": 3, "losses": ramps, "lr": {"vif": 4e-3, "decoder": 2e-3, "projector": 1e-3}}
    _, _, log = trained(tiny_recipe([phase | {"schedule": "constant-decay", "decay": 0.0}]), tmp_path / "out")
    assert [line["weight_kl"] for line in log] == [0.0, 0.25, 0.5]
    assert [line["weight_alpha"] for line in log] == pytest.approx([0.2, 0.3, 0.4])
    for line in log:
        assert (line["lr_vif"], line["lr_decoder"], line["lr_projector"]) == pytest.approx((4e-3, 2e-3, 1e-3))


def test_no_sparsity_goes_before_a_phase_s_own_weight(tiny_recipe, tmp_path):
    weights = []
    for sparsity, variant in ((0.5, "no-sparsity"), (0.0, "none"), (0.5, "none")):
        vif = {"pairs": [[0, 1], [1, 2]], "slots": 4, "width": 16, "depth": 1, "variant": variant}
        recipe = tiny_recipe([{"losses": {"sparsity": sparsity}}], vif=vif)
        model, _, log = trained(recipe, tmp_path / f"{variant}-{sparsity}")
        assert {line["weight_sparsity"] for line in log} == {0.0 if variant == "no-sparsity" else sparsity}
        weights.append(torch.cat([parameter.flatten() for parameter in model.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_the_last_steps_of_a_phase_are_a_line_too(tiny_recipe, tmp_path):
    _, _, log = trained(tiny_recipe([{"steps": 23, "rows": 2}], log_steps=20), tmp_path / "out")
    assert [line["step"] for line in log] == [*range(2, 23, 2), 23], "about ten lines, and the rest"
    assert all({"loss", "grad_norm", "kl", "lr_vif"} <= line.keys() for line in log)


def test_a_training_that_diverges_says_so(tiny_recipe, tmp_path, capsys):
    rates = dict.fromkeys(("vif", "decoder", "projector"), 1e30)
    _, _, log = trained(tiny_recipe([{"steps": 4, "lr": rates, "max_grad_norm": 0.0}]), tmp_path / "out")
    assert [line["step"] for line in log] == [1, 2, 3, 4]
    assert log[0]["loss"] > 0
    assert log[-1]["loss"] is None
    told = [line for line in capsys.readouterr().err.splitlines() if "the loss is not finite in phase phase0" in line]
    assert len(told) == 1


def test_frozen_parts_do_not_move_and_the_others_do(tiny_recipe, tmp_path):
    model, first, _ = trained(tiny_recipe([{"train": ["vif", "projector"]}]), tmp_path / "out")
    moved = {name for name, value in first.items() if not torch.equal(value, model.get_parameter(name))}
    parts = parts_of(model)
    assert {parts[name] for name in moved} == {"projector"}


def test_the_control_learns_from_the_same_rows_without_vif(tiny_recipe, tmp_path):
    model, first, log = trained(tiny_recipe(vif=None), tmp_path / "out")
    assert model.vif is None
    assert all(line["loss"] == pytest.approx(line["cross_entropy"], rel=0.02) for line in log)
    assert not torch.equal(first["base.lm_head.weight"], model.base.lm_head.weight)


def test_accumulation_does_not_change_what_is_learned(tiny_recipe, tmp_path):
    weights = []
    for per_device in (1, 4):
        phase = {"per_device": per_device, "steps": 1}
        model, _, log = trained(tiny_recipe([phase], vif=None, optimizer="adamw"), tmp_path / str(per_device))
        weights.append(torch.cat([parameter.flatten() for parameter in model.base.parameters()]))
        assert log[0]["grad_norm"] > 0
    assert log
    difference = (weights[0] - weights[1]).abs()
    print(f"max difference {difference.max():.1e}")
    assert difference.mean() < 1e-5  # a step of AdamW is its rate, 1e-2, wherever a gradient is not zero


def test_rows_that_other_processes_prepare_are_the_same(tiny_recipe, tmp_path):
    weights = []
    for workers in (0, 2):
        model, _, _ = trained(tiny_recipe(vif=None, workers=workers), tmp_path / str(workers))
        weights.append(torch.cat([parameter.flatten() for parameter in model.base.parameters()]))
    assert torch.equal(*weights)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_of_rows_is_its_line_alone_whoever_reads_them(tiny_recipe, tmp_path, workers):
    (tmp_path / "gone.json").write_text('[{"image": "gone.png", "question": "Which?", "answer": "red"}]')
    recipe = tiny_recipe(data=str(tmp_path / "gone.json"), workers=workers)
    line = r"^100 rows of gone, one after another, cannot be used; the first: sample 000000: image .*gone\.png does not"
    with pytest.raises(VifError, match=line) as caught:
        trained(recipe, tmp_path / "out")
    assert "Traceback" not in str(caught.value)


def test_muon_trains_too(tiny_recipe, tmp_path):
    model, first, _ = trained(tiny_recipe(optimizer="muon"), tmp_path / "out")
    assert not torch.equal(first["base.lm_head.weight"], model.base.lm_head.weight)


def test_checkpointed_activations_change_nothing(tiny_recipe, tmp_path):
    weights = []
    for wanted in (False, True):
        phase = {"gradient_checkpointing": wanted, "losses": {"posterior_share": 0.5}}
        model, _, _ = trained(tiny_recipe([phase]), tmp_path / str(wanted))
        weights.append(torch.cat([parameter.flatten() for parameter in model.parameters()]))
    difference = (weights[0] - weights[1]).abs()
    print(f"max difference {difference.max():.1e}")
    assert difference.mean() < 1e-5


def test_free_bits_leave_a_small_kl_alone():
    config = VIFConfig(slots=4, width=16, lambda_kl=1.0)
    parts = {name: torch.tensor(value) for name, value in (("volume", 2.0), ("entropy", 3.0), ("guide", 0.5))}
    weights = {"kl": 2.0, "sparsity": 0.1, "guide": 1.0}
    for kl, free, expected in ((0.5, 0.0, 1.0), (0.5, 16.0, 0.5), (0.5, 64.0, 0.0)):  # of 64 dimensions, 32 nats
        loss = _vif_loss(config, parts | {"kl": torch.tensor(kl)}, weights | {"free_bits_nats": free})
        assert loss.item() == pytest.approx(expected + 0.5 + 0.5)
