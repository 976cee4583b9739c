"""What is saved comes back: VIF alone, with LoRA, or with the whole model; and what is wrong with it is one line."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

import vif_core.load as loading
from vif_core.errors import UsageError, VifError
from vif_core.load import load, load_vif
from vif_core.train.groups import merge_lora
from vif_core.vif.checkpoint import CONFIG, WEIGHTS
from vif_core.vif.config import VIFConfig
from vif_core.vif.model import add_vif
from vif_core.vlm.tiny import tiny_model, tiny_samples

CONFIGURED = {"pairs": ((0, 1), (1, 2)), "slots": 4, "width": 32, "depth": 1}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A tiny LLaVA in a folder."""
    folder = tmp_path_factory.mktemp("models") / "base"
    vlm = tiny_model("llava")
    vlm.model.save_pretrained(folder)
    vlm.processor.save_pretrained(folder)
    return folder


def with_vif(base, *, frozen=False, **options):
    model = add_vif(load(base), VIFConfig(**CONFIGURED | options))
    torch.nn.init.normal_(model.generator.slots.read.weight, std=0.5)
    model.base.requires_grad_(not frozen)
    return model


@pytest.fixture
def saved(base, tmp_path):
    """VIF alone, on a frozen base."""
    with_vif(base, frozen=True).save_pretrained(tmp_path / "vif")
    return tmp_path / "vif"


def same(model, again, encode, logits_of):
    torch.testing.assert_close(
        logits_of(again, encode(again.vlm)), logits_of(model, encode(model.vlm)), atol=1e-5, rtol=0
    )
    assert again.config == model.config
    return True


def test_vif_of_a_frozen_base_is_saved_alone(base, tmp_path, encode, logits_of):
    model = with_vif(base, frozen=True)
    model.save_pretrained(tmp_path / "vif")
    assert sorted(path.name for path in (tmp_path / "vif").iterdir()) == [WEIGHTS, CONFIG]
    again = load_vif(tmp_path / "vif")
    assert same(model, again, encode, logits_of)
    assert again.vlm.name == "vif"
    assert load(tmp_path / "vif").vif is not None


def test_what_was_loaded_can_be_saved_again(saved, tmp_path, encode, logits_of):
    model = load_vif(saved)
    model.base.requires_grad_(False)
    model.save_pretrained(tmp_path / "again")
    assert same(model, load_vif(tmp_path / "again"), encode, logits_of)


def test_a_base_that_was_trained_is_saved_whole(base, tmp_path, encode, logits_of):
    model = with_vif(base)
    with torch.no_grad():
        model.base.get_decoder().layers[0].self_attn.q_proj.weight.add_(0.1)
    model.save_pretrained(tmp_path / "whole")
    base_name = json.loads((tmp_path / "whole" / CONFIG).read_text())["base"]
    assert base_name == "base", "no path of this machine beside the weights"
    assert same(model, load_vif(tmp_path / "whole"), encode, logits_of)


@pytest.mark.parametrize("family", ["qwen2_5_vl", "gemma3", "llava_next"])
def test_other_families_are_saved_whole(family, make, tmp_path, encode, logits_of):
    model = make(family)
    model.save_pretrained(tmp_path / "whole")
    again = load_vif(tmp_path / "whole")
    torch.testing.assert_close(
        logits_of(again, encode(again.vlm)), logits_of(model, encode(model.vlm)), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("attached", ["before", "after"])
def test_lora_is_saved_beside_vif(base, tmp_path, attached, encode, logits_of):
    peft = pytest.importorskip("peft")
    vlm = load(base)
    adapter = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    if attached == "before":
        vlm.model.add_adapter(adapter)
    model = add_vif(vlm, VIFConfig(**CONFIGURED))
    if attached == "after":
        vlm.model.add_adapter(adapter)
    model.save_pretrained(tmp_path / "lora")
    names = sorted(path.name for path in (tmp_path / "lora").iterdir())
    assert {"adapter_config.json", "adapter_model.safetensors", WEIGHTS, CONFIG} <= set(names)
    assert "config.json" not in names
    assert same(model, load_vif(tmp_path / "lora"), encode, logits_of)
    with_adapter = logits_of(model, encode(model.vlm))
    model.base.disable_adapters()
    assert not torch.allclose(logits_of(model, encode(model.vlm)), with_adapter, atol=1e-3)


@pytest.mark.parametrize("kind", ["ia3", "bias", "tokens"])
def test_adapters_of_other_kinds_are_saved_beside_vif(base, tmp_path, kind, encode, logits_of):
    peft = pytest.importorskip("peft")
    vlm, targets = load(base), ["q_proj", "v_proj"]
    adapters = {
        "ia3": peft.IA3Config(target_modules=targets, feedforward_modules=[]),
        "bias": peft.LoraConfig(r=2, target_modules=targets, bias="lora_only"),
        "tokens": peft.LoraConfig(r=2, target_modules=targets, trainable_token_indices=[20, 30]),
    }
    vlm.model.add_adapter(adapters[kind])
    for parameter in vlm.model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1
    model = add_vif(vlm, VIFConfig(**CONFIGURED))
    model.save_pretrained(tmp_path / "adapter")
    assert same(model, load_vif(tmp_path / "adapter"), encode, logits_of)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # as peft asks
def test_a_base_that_peft_wraps_is_refused(base):
    """It runs, but its folder could not be loaded."""
    peft = pytest.importorskip("peft")
    vlm = load(base)
    vlm.model = peft.get_peft_model(vlm.model, peft.LoraConfig(r=2, target_modules=["q_proj"]))
    with pytest.raises(UsageError, match=r"base is wrapped in a PeftModel.*; expected .* Use model.add_adapter"):
        add_vif(vlm, VIFConfig(**CONFIGURED))


def test_weights_that_train_beside_an_adapter_are_not_left_behind(base, tmp_path):
    peft = pytest.importorskip("peft")
    vlm = load(base)
    vlm.model.add_adapter(peft.LoraConfig(r=2, target_modules=["q_proj"]))
    model = add_vif(vlm, VIFConfig(**CONFIGURED))
    next(vlm.model.model.multi_modal_projector.parameters()).requires_grad_(True)
    with pytest.raises(UsageError, match=r"multi_modal_projector.* may train beside its adapter.*merge_lora"):
        model.save_pretrained(tmp_path / "lora")
    assert not (tmp_path / "lora").exists()


def test_an_adapter_of_another_model_is_refused(base, tmp_path):
    peft = pytest.importorskip("peft")
    vlm = load(base)
    vlm.model.add_adapter(peft.LoraConfig(r=2, target_modules=["q_proj"]))
    add_vif(vlm, VIFConfig(**CONFIGURED)).save_pretrained(tmp_path / "lora")
    path = tmp_path / "lora" / "adapter_model.safetensors"
    weights = load_file(path)
    weights[min(weights).replace("q_proj", "z_proj")] = weights.pop(min(weights))
    save_file(weights, path)
    with pytest.raises(VifError, match=r"adapter .* does not fit base: 2 tensors have no place, such as "):
        load(tmp_path / "lora")


def test_an_adapter_without_the_weights_that_it_trained_whole_is_refused(base, tmp_path, encode, logits_of):
    peft = pytest.importorskip("peft")
    vlm = load(base)
    vlm.model.add_adapter(peft.LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["multi_modal_projector"]))
    model = add_vif(vlm, VIFConfig(**CONFIGURED))
    for name, parameter in vlm.model.named_parameters():
        if "modules_to_save" in name:
            parameter.data += 0.1
    model.save_pretrained(tmp_path / "lora")
    assert same(model, load_vif(tmp_path / "lora"), encode, logits_of)
    path = tmp_path / "lora" / "adapter_model.safetensors"
    weights = load_file(path)
    save_file({name: tensor for name, tensor in weights.items() if "lora_" in name}, path)
    with pytest.raises(VifError, match=r"adapter .* does not fit base: 4 tensors have no place.*multi_modal_projector"):
        load(tmp_path / "lora")


# -- what lay in the folder before, and what the base was


def folder_of(kind, base, folder):
    """A model that is saved as this kind, and is saved."""
    vlm = load(base)
    if kind == "adapter":
        peft = pytest.importorskip("peft")
        vlm.model.add_adapter(peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    elif kind == "whole":
        vlm.model.get_decoder().layers[0].self_attn.q_proj.weight.data.add_(0.1)
    else:
        vlm.model.requires_grad_(False)
    model = add_vif(vlm, VIFConfig(**CONFIGURED))
    torch.nn.init.normal_(model.generator.slots.read.weight, std=0.5)
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("before", ["vif", "adapter", "whole"])
@pytest.mark.parametrize("kind", ["vif", "adapter", "whole"])
def test_what_lay_in_a_folder_does_not_change_what_is_saved_there(base, tmp_path, before, kind, encode, logits_of):
    folder_of(before, base, tmp_path / "saved")
    assert same(folder_of(kind, base, tmp_path / "saved"), load_vif(tmp_path / "saved"), encode, logits_of)


def test_vif_may_lie_in_its_bases_folder_and_an_adapter_may_not(base, tmp_path, encode, logits_of):
    copy = shutil.copytree(base, tmp_path / "base")
    with pytest.raises(
        UsageError, match=r"an adapter that would be saved to .*base, where its base lies; expected ano"
    ):
        folder_of("adapter", copy, copy)
    assert same(folder_of("vif", copy, copy), load_vif(copy), encode, logits_of)


def test_a_merged_adapter_saved_over_itself_comes_back_whole(base, tmp_path, encode, logits_of):
    model = folder_of("adapter", base, tmp_path / "saved")
    merge_lora(model.base)
    model.base.requires_grad_(True)
    model.save_pretrained(tmp_path / "saved")
    assert same(model, load_vif(tmp_path / "saved"), encode, logits_of)


def test_a_folder_of_before_its_kind_was_written_is_told_by_its_files(base, tmp_path, encode, logits_of):
    for kind in ("vif", "adapter", "whole"):
        model = folder_of(kind, base, tmp_path / kind)
        path = tmp_path / kind / CONFIG
        values = json.loads(path.read_text())
        for name in ("kind", "base_revision", "maps_from"):
            del values[name]
        path.write_text(json.dumps(values | {"revision": "abc"}))
        again = load_vif(tmp_path / kind)
        assert same(model, again, encode, logits_of)
        assert again.maps_from == "own"


def test_a_base_that_has_changed_is_refused_unless_it_is_named(base, tmp_path):
    copy = shutil.copytree(base, tmp_path / "base")
    folder_of("vif", copy, tmp_path / "vif")
    again = load_vif(tmp_path / "vif")
    again.base.requires_grad_(False)
    again.save_pretrained(tmp_path / "again")
    load(tmp_path / "again")
    vlm = tiny_model("llava", seed=1)
    vlm.model.save_pretrained(copy)
    line = r"the base of .*vif has changed: .*base is revision \w+, not \w+; expected what VIF was trained on"
    with pytest.raises(UsageError, match=line):
        load(tmp_path / "vif")
    assert load_vif(tmp_path / "vif", base=copy).base is not None


def test_a_base_of_the_hub_is_loaded_as_it_was(base, saved, monkeypatch):
    path = saved / CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base": "some/model", "base_revision": "abc123"}))
    asked = {}

    def remember(model, *_, **options):
        asked[model] = options["revision"]
        raise OSError("nothing there")

    monkeypatch.setattr(loading, "_online", lambda: False)
    monkeypatch.setattr(loading.AutoConfig, "from_pretrained", remember)
    with pytest.raises(VifError, match="model some/model cannot be loaded"):
        load(saved)
    with pytest.raises(VifError):
        load_vif(saved, base="other/model")
    assert asked == {"some/model": "abc123", "other/model": "main"}


@pytest.mark.parametrize("maps_from", ["swapped", "constant"])
def test_a_controls_maps_come_back(base, tmp_path, maps_from, encode, logits_of):
    model = with_vif(base, frozen=True)
    model.maps_from = maps_from
    model.save_pretrained(tmp_path / "vif")
    again = load_vif(tmp_path / "vif")
    assert again.facts()["maps_from"] == maps_from
    assert same(model, again, encode, logits_of)


@pytest.mark.parametrize("options", [{"preset": "release", "width": 32, "depth": 1}, {"variant": "no-posterior"}])
def test_shared_and_missing_branches_come_back(base, tmp_path, options, encode, logits_of):
    model = with_vif(base, frozen=True, **options)
    model.save_pretrained(tmp_path / "vif")
    again = load_vif(tmp_path / "vif")
    assert same(model, again, encode, logits_of)
    if options.get("preset") == "release":
        assert again.generator.prior.condenser is again.generator.posterior.condenser
        assert not any(name.startswith("posterior.condenser") for name in load_file(tmp_path / "vif" / WEIGHTS))


# -- every tensor arrives, or one line says which does not


def changed(folder, change):
    weights = load_file(folder / WEIGHTS)
    change(weights)
    save_file(weights, folder / WEIGHTS)
    return folder


NAME = "prior.mean.weight"


@pytest.mark.parametrize(
    "change",
    [
        lambda weights: weights.pop(NAME),
        lambda weights: weights.update({NAME: torch.zeros(3, 3)}),
        lambda weights: weights.update({NAME + "s": weights[NAME].clone()}),
    ],
    ids=["missing", "another shape", "unknown"],
)
def test_a_tensor_that_does_not_fit_is_named(saved, change):
    line = rf"VIF weights .*{WEIGHTS}: 1 tensors missing, unknown or of another shape, such as {NAME}s?; expected \d+"
    with pytest.raises(VifError, match=line):
        load(changed(saved, change))


def test_a_renamed_tensor_is_named(saved):
    def rename(weights):
        weights["before.mean.weight"] = weights.pop(NAME)

    with pytest.raises(VifError, match=r"2 tensors missing, unknown or of another shape, such as before\.mean"):
        load(changed(saved, rename))


def test_damaged_or_missing_weights_are_one_line(saved):
    (saved / WEIGHTS).write_bytes(b"nothing")
    with pytest.raises(VifError, match=r"VIF weights .* cannot be read .*; expected readable safetensors"):
        load(saved)
    (saved / WEIGHTS).unlink()
    with pytest.raises(VifError, match="cannot be read"):
        load(saved)


WRONG = ("{", "[]", '{"base": "x"}', '{"base": "x", "config": {}, "kind": "half"}', '{"base": "x", "config": 3}')


@pytest.mark.parametrize("text", WRONG)
def test_a_damaged_configuration_is_one_line(saved, text):
    (saved / CONFIG).write_text(text)
    with pytest.raises(UsageError, match=r"vif_config.json is not a VIF configuration"):
        load(saved)


def test_a_configuration_with_an_unknown_field_names_it(saved):
    values = json.loads((saved / CONFIG).read_text())
    values["config"]["alhpa"] = 1
    (saved / CONFIG).write_text(json.dumps(values))
    with pytest.raises(UsageError, match="VIFConfig has no field 'alhpa'"):
        load(saved)


def test_a_base_that_has_moved_can_be_named(base, saved, tmp_path):
    values = json.loads((saved / CONFIG).read_text())
    assert values["base"] == str(base)
    values["base"] = str(tmp_path / "gone")
    (saved / CONFIG).write_text(json.dumps(values))
    with pytest.raises(UsageError, match=r"the base of .* is not found .* Give load_vif its place as `base`"):
        load(saved)
    assert load_vif(saved, base=base).vlm.generate(tiny_samples(2), 3)


def test_a_folder_without_vif_is_refused(base):
    with pytest.raises(UsageError, match=r"model .*base has no VIF; expected a folder with vif_config.json"):
        load_vif(base)


def test_another_vif_is_another_revision(base, tmp_path):
    revisions = set()
    for number in range(2):
        with_vif(base, frozen=True).save_pretrained(tmp_path / str(number))
        revisions.add(load(tmp_path / str(number)).revision)
    assert len({*revisions, load(base).revision}) == 3
