"""Processors whose video part is left out read pictures as before, and are saved and loaded."""

from __future__ import annotations

import torch
from transformers import Qwen2_5_VLProcessor

from vif_core.vlm.processor import without_video
from vif_core.vlm.tiny import tiny_model, tiny_samples
from vif_core.vlm.video import PatchedFrames


def test_what_reads_frames_stands_in_for_its_video_processor():
    processor = tiny_model("qwen2_5_vl").processor
    assert isinstance(processor, Qwen2_5_VLProcessor)
    assert isinstance(processor.video_processor, PatchedFrames)
    assert "video_processor" not in processor.get_attributes()


def test_a_family_whose_rule_for_videos_is_not_known_has_none():
    assert not hasattr(tiny_model("internvl").processor, "video_processor")


def test_it_survives_saving(tmp_path):
    processor = tiny_model("qwen2_5_vl").processor
    processor.save_pretrained(tmp_path)
    again = without_video(Qwen2_5_VLProcessor).from_pretrained(tmp_path)
    prompt = {"text": ["<image>?"], "images": tiny_samples(1)[0].open_images(), "return_tensors": "pt"}
    for name, values in processor(**prompt).items():
        assert torch.equal(again(**prompt)[name], values)
