"""Which parameters learn, and how fast."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from vif_core.errors import UnsupportedModel, UsageError, VifError
from vif_core.train.groups import add_lora, build_optimizer, learning, merge_lora, parts_of
from vif_core.train.learner import Learner
from vif_core.train.phases import LoRA, Phase
from vif_core.vif.config import VIFConfig
from vif_core.vif.model import add_vif
from vif_core.vlm.tiny import TINY_FAMILIES, tiny_model

VIF = VIFConfig(pairs=((0, 2),), slots=4, width=16, depth=1)
RATES = {"vif": 4e-3, "decoder": 3e-3, "projector": 2e-3, "vision": 1e-3}


def learner(family="llava", vif=True):
    vlm = tiny_model(family)
    if vif:
        add_vif(vlm, VIF)
    return Learner(vlm)


def phase(*train, **options):
    return Phase("a", train, {part: RATES[part] for part in train}, rows=1, steps=1, **options)


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_every_parameter_belongs_to_the_part_that_it_is_in(family):
    parts = parts_of(learner(family))
    held = {
        "vif": ["generator."],
        "decoder": ["language_model", "lm_head"],
        "projector": ["multi_modal_projector", "merger", "image_newline"],
        "vision": ["vision_tower", "visual.blocks", "visual.patch_embed"],
    }
    for name, part in parts.items():
        assert any(place in name for place in held[part]), (name, part)
    assert set(parts.values()) == set(held)


def test_the_control_has_the_same_parameters_without_those_of_vif():
    parts = parts_of(learner())
    assert parts_of(learner(vif=False)) == {name: part for name, part in parts.items() if part != "vif"}


@pytest.mark.parametrize("vif", [True, False], ids=["vif", "control"])
def test_words_alone_reach_what_learns_of_the_image_side_with_zeros(vif):
    """Processes that train together meet over every parameter that learns."""
    model = learner(vif=vif)
    groups = learning(model, phase("projector", "vision"))
    ids = torch.randint(10, 200, (2, 12))
    out = model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids)
    assert out.loss == out.cross_entropy > 0
    out.cross_entropy.backward()
    for name, parameter in [*groups["projector"], *groups["vision"]]:
        assert parameter.grad.eq(0).all(), name


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_each_part_has_its_own_rate(kind):
    model, chosen = learner(), phase("vif", "decoder", "projector", "vision", weight_decay=0.1)
    optimizer = build_optimizer(kind, learning(model, chosen), chosen)
    parts = {id(p): part for name, part in parts_of(model).items() for p in [model.get_parameter(name)]}
    seen = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            seen[id(parameter)] = group["lr"]
            if parameter.ndim < 2:
                assert group["weight_decay"] == 0.0
    assert {key: RATES[part] for key, part in parts.items()} == seen


def test_what_does_not_train_is_frozen():
    model = learner()
    groups = learning(model, phase("vif", "projector"))
    assert list(groups) == ["vif", "projector"]
    parts = parts_of(model)
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == (parts[name] in ("vif", "projector"))


def test_what_learns_is_kept_in_float32():
    model = learner()
    model.bfloat16()
    learning(model, phase("projector"))
    kinds = {part: {model.get_parameter(n).dtype for n, p in parts_of(model).items() if p == part} for part in RATES}
    assert kinds["projector"] == {torch.float32}
    assert kinds["decoder"] == {torch.bfloat16}


def test_a_phase_without_bfloat16_has_nothing_in_it():
    model = learner()
    model.bfloat16()
    learning(model, phase("projector", bf16=False))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_under_lora_the_adapters_of_the_decoder_learn_alone():
    model = learner()
    lora = LoRA(2, 4.0, targets=("q_proj", "up_proj"))
    add_lora(model.base, lora)
    add_lora(model.base, lora)
    groups = learning(model, phase("vif", "decoder", lora=lora))
    names = [name for name, _ in groups["decoder"]]
    assert len(names) == 3 * 2 * 2
    assert all("language_model" in name and "lora_" in name for name in names), "none in the vision tower"


@torch.no_grad()
def test_merged_adapters_leave_a_plain_model_that_computes_the_same():
    model = learner(vif=False)
    plain = {name for name, _ in model.base.named_parameters()}
    add_lora(model.base, LoRA(2, 4.0))
    for name, parameter in model.base.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)
    inputs = model.vlm.probe().inputs
    before = model.base.eval()(**inputs).logits
    merge_lora(model.base)
    assert {name for name, _ in model.base.named_parameters()} == plain
    difference = (model.base(**inputs).logits - before).abs().max().item()
    print(f"max difference {difference:.1e}")
    assert difference < 1e-4


@pytest.mark.parametrize("other", [LoRA(4, 4.0), LoRA(2, 8.0), LoRA(2, 4.0, 0.1), LoRA(2, 4.0, targets=("q_proj",))])
def test_adapters_with_other_settings_are_not_taken_for_the_recipes(other):
    base = learner(vif=False).base
    add_lora(base, LoRA(2, 4.0))
    with pytest.raises(UsageError, match=r"an adapter with .* expected the settings it was made with"):
        add_lora(base, other)


def test_layers_that_the_decoder_lacks_are_named():
    with pytest.raises(UnsupportedModel, match="no linear layer named wqkv"):
        add_lora(learner(vif=False).base, LoRA(2, 4.0, targets=("wqkv",)))


def test_lora_without_its_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(VifError, match=r"LoRA needs the package peft.*pip install 'vifscope\[train\]'"):
        add_lora(learner(vif=False).base, LoRA(2, 4.0))
