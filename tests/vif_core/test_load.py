"""Loading: saved models come back as they were, and everything that can be wrong is one line."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from huggingface_hub.utils import OfflineModeIsEnabled
from safetensors.torch import load_file, save_file
from transformers.utils import logging

from vif_core import load as loading
from vif_core.errors import UnsupportedModel, UsageError, VifError
from vif_core.load import load
from vif_core.vlm.tiny import TINY_FAMILIES, tiny_model, tiny_samples


def saved(family, folder):
    vlm = tiny_model(family)
    vlm.model.save_pretrained(folder)
    vlm.processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    return saved("llava", tmp_path_factory.mktemp("models") / "llava")


@pytest.fixture
def folder(complete, tmp_path):
    return shutil.copytree(complete, tmp_path / "model")


# The last five name their processors' parts in other orders, or keep settings in them that are to come back
@pytest.mark.parametrize(
    "family", [*TINY_FAMILIES, "llava_next_video", "video_llava", "hunyuan_vl", "ovis2", "deepseek_vl_hybrid"]
)
def test_a_saved_model_comes_back_as_it_was(family, tmp_path):
    vlm, again = tiny_model(family), load(saved(family, tmp_path))
    samples = tiny_samples(2)
    batch, same = vlm.encode(samples), again.encode(samples)
    assert all(torch.equal(batch.inputs[name], same.inputs[name]) for name in batch.inputs)
    with torch.inference_mode():
        logits = vlm.model(**batch.inputs).logits
        torch.testing.assert_close(again.model(**same.inputs).logits, logits, atol=1e-4, rtol=0)
    assert again.attention == vlm.attention
    assert again.name == tmp_path.name


def test_loading_is_silent_and_leaves_the_logs_as_they_were(complete, capfd):
    verbosity = logging.get_verbosity()
    load(complete)
    assert capfd.readouterr() == ("", "")
    assert logging.get_verbosity() == verbosity
    assert logging.is_progress_bar_enabled()


def test_on_the_cpu_weights_are_float32_unless_asked(complete):
    assert load(complete, device="cpu").model.dtype == torch.float32
    assert load(complete, device="cpu", dtype="bfloat16").model.dtype == torch.bfloat16


def test_the_implementation_can_be_chosen(complete):
    assert load(complete).attention == "sdpa"
    assert load(complete, attn="eager").attention == "eager"


def test_the_revision_of_a_folder_is_what_it_holds(complete, folder):
    assert load(folder).revision == load(complete).revision
    weights = load_file(folder / "model.safetensors")
    weights[min(weights)][0] += 1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert load(folder).revision != load(complete).revision


def test_a_processor_with_a_video_part_is_read_for_pictures_alone(tmp_path):
    folder = saved("qwen2_5_vl", tmp_path)
    (folder / "processor_config.json").rename(folder / "preprocessor_config.json")  # as hub repositories have it
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    settings = settings["image_processor"] | {"processor_class": "Qwen2_5_VLProcessor"}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    batch, same = tiny_model("qwen2_5_vl").encode(tiny_samples(2)), load(folder).encode(tiny_samples(2))
    assert torch.equal(batch.inputs["pixel_values"], same.inputs["pixel_values"])
    assert torch.equal(batch.inputs["input_ids"], same.inputs["input_ids"])


@pytest.mark.parametrize(
    ("missing", "line"),
    [
        ("config.json", "has no config.json"),
        ("model.safetensors", r"has no \*.safetensors"),
        ("processor_config.json", r"has no \*processor_config.json"),
        ("tokenizer", r"has no tokenizer\*"),
    ],
)
def test_an_incomplete_folder_is_refused(folder, missing, line):
    for path in folder.glob(f"{missing}*"):
        path.unlink()
    with pytest.raises(UsageError, match=line) as raised:
        load(folder)
    assert "\n" not in str(raised.value)


def test_pickled_weights_are_not_read(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UsageError, match=r"has no \*.safetensors; expected config.json"):
        load(folder)


def test_damaged_weights_are_refused(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(VifError, match=r"weights of .* are damaged .*; expected readable safetensors"):
        load(folder)


def test_weights_that_lack_a_tensor_are_refused(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["language_model.lm_head.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(VifError, match=r"lack 1 tensors, such as lm_head.weight; expected a complete checkpoint"):
        load(folder)


def test_weights_of_another_shape_are_refused(folder):
    weights = load_file(folder / "model.safetensors")
    weights["language_model.lm_head.weight"] = weights["language_model.lm_head.weight"][:-1].clone()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(VifError, match=r"weights of .* do not fit its configuration"):
        load(folder)


def test_a_home_that_nobody_has_is_no_folder():
    with pytest.raises(UsageError):
        load("~no-such-user-here/model")


def test_a_device_without_room_is_one_line(complete, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 14.00 GiB.")

    monkeypatch.setattr("transformers.PreTrainedModel.to", full)
    with pytest.raises(VifError, match=r"does not fit on cpu .*; expected a device with room for it"):
        load(complete)


def configure(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("family", ["no-such-family", "llama"])
def test_a_family_that_is_not_vision_and_language_is_refused(folder, family):
    configure(folder, model_type=family)
    with pytest.raises(UnsupportedModel, match=r"cannot be built .*; expected an image-text-to-text model") as raised:
        load(folder)
    assert "\n" not in str(raised.value)


def test_code_in_the_folder_is_not_run(folder, tmp_path):
    configure(folder, model_type="own", auto_map={"AutoConfig": "own.Config", "AutoModelForImageTextToText": "own.M"})
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(UnsupportedModel):
        load(folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["no-such-model", "./nowhere", "/no/where/at/all"])
def test_a_name_that_is_nothing_is_refused(name):
    with pytest.raises(UsageError, match="is no folder, no embedded model and no model id; expected one of mini-llava"):
        load(name)


def test_a_hub_id_without_network_is_one_line(monkeypatch):
    class Offline:
        def head(self, *_, **__):
            raise OfflineModeIsEnabled("no network")

    monkeypatch.setattr(loading, "get_session", Offline)
    with pytest.raises(VifError, match="model someone/some-vlm cannot be loaded") as raised:
        load("someone/some-vlm")
    assert "Check the id and the network, or give a folder" in str(raised.value)
    assert raised.value.exit_code == 1
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("option", "line"),
    [
        ({"device": "toaster"}, "device 'toaster' cannot be used .*; expected auto, cpu, cuda"),
        ({"dtype": "int3"}, "dtype 'int3'; expected auto, float32, bfloat16, float16"),
    ],
)
def test_unknown_options_are_refused(complete, option, line):
    with pytest.raises(UsageError, match=line):
        load(complete, **option)


def test_a_processor_that_needs_torchvision_names_what_to_install(monkeypatch):
    def refuse(*_, **__):
        raise ImportError("PixtralProcessor requires the Torchvision library but it was not found")

    monkeypatch.setattr(loading.AutoProcessor, "from_pretrained", refuse)
    line = r"the processor of model mini-llava needs torchvision. pip install 'vifscope\[video\]'"
    with pytest.raises(UnsupportedModel, match=line):
        load("mini-llava")
