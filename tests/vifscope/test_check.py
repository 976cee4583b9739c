"""The proofs hold on the embedded models and on every kind of family, and fail where what they claim is made false."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from vif_core.errors import UnsupportedModel
from vif_core.vlm import batch as encoding
from vif_core.vlm.tiny import tiny_model
from vifscope import check as checking
from vifscope.check import check_model

KINDS = [
    "mllama",
    "florence2",
    "llava",
    "llava_next",
    "qwen2_5_vl",
    "gemma3",
    "idefics3",
    "internvl",
    "mistral3",
    "qwen3_5",
    "llama4",
    "ovis2",
]


def verdicts(checked):
    return {proof.claim: proof.passed for proof in checked.proofs}


@pytest.mark.parametrize("name", ["mini-llava", "mini-llava-vif", *KINDS])
def test_everything_is_proved(name):
    checked = check_model(name if name.startswith("mini") else tiny_model(name))
    assert checked.passed
    assert all(verdicts(checked).values()), checked.as_dict()


def test_sinks_are_said():
    checked = check_model(tiny_model("sinks"))
    assert checked.passed
    assert "the rest goes to attention sinks" in checked.proofs[2].seen


@pytest.mark.parametrize("family", ["idefics", "idefics2", "blip-2"])
def test_latent_queries_have_no_map_and_the_reason_is_said(family):
    checked = check_model(tiny_model(family))
    found = verdicts(checked)
    assert checked.passed
    assert found["grids match the visual tokens"] is None
    assert found["a changed patch arrives at its cell of the map"] is None
    assert "latent queries without a place" in checked.proofs[1].seen


def test_where_the_decoder_gets_words_no_change_is_followed():
    checked = check_model(tiny_model("chameleon"))
    assert checked.passed
    assert checked.proofs[-1].passed is None
    assert checked.proofs[-1].seen == "the decoder gets words of a vocabulary, not features"


def test_a_run_begins_only_where_rows_sum_to_1(monkeypatch):
    vlm = tiny_model("llava")
    checking.check_rows(vlm)
    real = checking.capture
    monkeypatch.setattr(checking, "capture", lambda *args: [0.9 * flow for flow in real(*args)])
    with pytest.raises(UnsupportedModel, match=r"rows of tiny-llava do not sum to 1 \(off by at most 1.0e-01\)"):
        checking.check_rows(vlm)


def test_wrong_rows_fail(monkeypatch):
    real = checking.capture
    monkeypatch.setattr(checking, "capture", lambda *args: [flow.roll(1, -1) for flow in real(*args)])
    found = verdicts(check_model(tiny_model("llava")))
    assert found["rows sum to 1"]
    assert not found["rows equal those of an eager run"]


def test_a_map_laid_wrongly_fails(monkeypatch):
    real = encoding.image_grids

    def mirrored(*args):
        return tuple(
            replace(grid, rect_px=(grid.rect_px[2], *grid.rect_px[1::-1][:1], grid.rect_px[0], grid.rect_px[3]))
            for grid in real(*args)
        )

    monkeypatch.setattr(encoding, "image_grids", mirrored)
    checked = check_model(tiny_model("llava"))
    assert not verdicts(checked)["a changed patch arrives at its cell of the map"]
    assert not checked.passed


def test_the_model_is_left_as_it_was():
    vlm = tiny_model("llava")
    batch = vlm.probe()
    with torch.inference_mode():
        before = vlm.model(**batch.inputs).logits
    check_model(vlm)
    with torch.inference_mode():
        assert torch.equal(vlm.model(**batch.inputs).logits, before)
    assert vlm.attention == "sdpa"
