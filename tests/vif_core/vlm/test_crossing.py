"""Decoders that see the image by cross-attention: its keys are laid out, read and cut like any others."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CONFIG_MAPPING
from transformers.models.mllama.image_processing_pil_mllama import (
    get_image_size_fit_to_canvas,
    get_optimal_tiled_canvas,
)

from vif_core.errors import GridMismatch, SampleError
from vif_core.flow.interventions import Knockout
from vif_core.flow.op import intervene
from vif_core.vlm.layout import SEGMENTS
from vif_core.vlm.shrunk import FAMILIES
from vif_core.vlm.tiling import padded_canvas
from vif_core.vlm.tiny import tiny_model, tiny_samples
from vif_core.vlm.visual import crosses
from vifscope.check import check_model
from vifscope.measure import Reading, measure
from vifscope.trace.capture import capture

CROSSING = ("mllama", "idefics", "florence2")
DECODER_ONLY = CROSSING[:2]
RESPONSES = [[20, 30, 40], [50, 60], [70]]


@pytest.fixture(params=CROSSING)
def vlm(request):
    return tiny_model(request.param)


def logits(vlm, batch):
    with torch.inference_mode():
        return vlm.model(**batch.inputs).logits


def everywhere(vlm, cut):
    return {layer.index: cut for layer in vlm.layers}


@pytest.mark.parametrize(("family", "expected"), [("mllama", [1, 3]), ("idefics", [0, 2]), ("florence2", [0, 1, 2])])
def test_its_layers_are_those_that_see_the_image_at_their_depth(family, expected):
    vlm = tiny_model(family)
    assert [layer.index for layer in vlm.layers] == expected
    assert vlm.num_layers == {"florence2": 3}.get(family, 4)


def test_of_an_encoder_decoder_without_image_token_nothing_is_said():
    assert not crosses(CONFIG_MAPPING["pix2struct"]())


def test_padding_and_other_samples_change_no_row(vlm):
    samples = tiny_samples(3)
    batch = vlm.encode(samples, RESPONSES)
    rows = [layout.rows("response") for layout in batch.layouts]
    together = capture(vlm, batch, rows, lambda _, flow: flow)
    for i, sample in enumerate(samples):
        alone = vlm.encode([sample], RESPONSES[i : i + 1])
        keys = torch.arange(len(batch.layouts[i].key_segment))
        for flow, own in zip(together, capture(vlm, alone, rows[i : i + 1], lambda _, flow: flow), strict=True):
            torch.testing.assert_close(flow[i, :, : len(rows[i]), keys], own[0][:, :, keys], atol=2e-6, rtol=0)


def test_every_key_holds_one_thing_and_the_visual_ones_are_the_image_s(vlm):
    for layout in vlm.encode(tiny_samples(3)).layouts:
        held = layout.key_segment[layout.visual]
        assert (held == SEGMENTS.index("visual")).all()
        assert (layout.key_segment == SEGMENTS.index("visual")).sum() == len(layout.visual) == len(set(layout.visual))
        assert not (layout.segment == SEGMENTS.index("visual")).any()


@pytest.mark.parametrize("family", DECODER_ONLY)
def test_a_decoder_s_ratio_is_one_from_the_image_token_on_and_an_encoder_s_is_less(family):
    def ratios(name):
        vlm = tiny_model(name)
        records = measure(vlm, tiny_samples(2), Reading(rows="text", max_new_tokens=3))
        return np.array([record.flows["raw"].layers["visual_ratio"] for record in records])

    over_images = ratios(family)
    np.testing.assert_allclose(over_images[~np.isnan(over_images)], 1, atol=1e-5)
    assert np.isnan(over_images).mean() == 0.5, "the layers between see no image: undefined"
    over_encoder = ratios("florence2")
    assert ((over_encoder > 0) & (over_encoder < 1)).all()


def test_text_rows_are_those_whose_attention_depends_on_the_image(vlm):
    """Llama 3.2 Vision lets the text before an image see its tiles too, evenly; that is not counted as seeing it."""
    batch, other = vlm.encode(tiny_samples(2)), vlm.encode(tiny_samples(2))
    other.inputs["pixel_values"] = other.inputs["pixel_values"].flip(-1) + 1
    before, after = logits(vlm, batch), logits(vlm, other)
    for i, layout in enumerate(batch.layouts):
        left = batch.pad[i]
        changed = (before[i] - after[i]).abs().amax(-1)[left : left + len(layout)] > 1e-5
        assert changed.nonzero()[-1] == layout.rows("text")[-1]
        if vlm.family != "mllama":
            assert changed.nonzero()[:, 0].tolist() == layout.rows("text").tolist()


def test_a_picture_of_few_tiles_fills_every_row_that_sees_it():
    vlm = tiny_model("mllama")
    small = replace(tiny_samples(1)[0], images=(Image.new("RGB", (20, 20)),))
    (record,) = measure(vlm, [small], Reading(rows="text", max_new_tokens=3))
    ratio = record.flows["raw"].layers["visual_ratio"]
    np.testing.assert_allclose(ratio[[1, 3]], 1, atol=1e-5)
    assert len(record.sample["visual"]) == 17, "one tile of four"


@pytest.mark.parametrize("forced", [None, 7])
def test_generation_is_greedy_and_padding_does_not_change_it(vlm, forced):
    if vlm.model.config.is_encoder_decoder:
        vlm.model.generation_config.forced_bos_token_id = forced
    samples = tiny_samples(3)
    together = vlm.generate(samples, 5)
    assert together == [vlm.generate([sample], 5)[0] for sample in samples]
    tokens: list[int] = []
    for _ in together[0]:
        tokens.append(logits(vlm, vlm.encode(samples[:1], [tokens]))[0, -1].argmax().item())
    assert tokens == together[0]


def test_the_response_s_probability_is_the_sum_over_its_tokens(vlm):
    samples = tiny_samples(3)
    records = measure(vlm, samples, Reading(max_new_tokens=4))
    for sample, record, ids in zip(samples, records, vlm.generate(samples, 4), strict=True):
        batch = vlm.encode([sample], [ids])
        start = batch.layouts[0].response_start - 1
        before = logits(vlm, batch)[0, start : start + len(ids)].log_softmax(-1)
        expected = before[range(len(ids)), ids].sum().item()
        assert record.sample["answer_logprob"] == pytest.approx(expected, abs=1e-4)


def test_rows_cut_from_every_image_no_longer_depend_on_them(vlm):
    batch, other = vlm.encode(tiny_samples(2), RESPONSES[:2]), vlm.encode(tiny_samples(2), RESPONSES[:2])
    other.inputs["pixel_values"] = other.inputs["pixel_values"].flip(-1) + 1
    rows = [layout.text for layout in batch.layouts]
    keys = [np.arange(len(layout.key_segment)) for layout in batch.layouts]  # an encoder's words have seen it too
    assert not torch.allclose(logits(vlm, batch)[0, -1], logits(vlm, other)[0, -1], atol=1e-3)
    with intervene(vlm, everywhere(vlm, Knockout.of(batch, rows, keys)), batch):
        one, two = logits(vlm, batch), logits(vlm, other)
        flows = capture(vlm, batch, rows, lambda _, flow: flow)
    for i, layout in enumerate(batch.layouts):
        end = batch.pad[i] + len(layout)
        assert torch.equal(one[i, batch.pad[i] : end], two[i, batch.pad[i] : end])
    assert all((flow == 0).all() for flow in flows), "a row with no key left gets nothing"


@pytest.mark.parametrize("attn", ["sdpa", "eager"])
def test_a_sample_alone_is_cut_under_any_attention(attn):
    """Nothing is padded, and so no mask is there to add to; eager attention adds what it is given."""
    vlm = tiny_model("florence2", attn)
    batch, other = (vlm.encode(tiny_samples(1), RESPONSES[:1]) for _ in range(2))
    other.inputs["pixel_values"] = other.inputs["pixel_values"].flip(-1) + 1
    (layout,) = batch.layouts
    cut = Knockout.of(batch, [layout.text], [np.arange(len(layout.key_segment))])
    with intervene(vlm, everywhere(vlm, cut), batch):
        assert torch.equal(logits(vlm, batch), logits(vlm, other))


def test_mass_of_cut_keys_goes_to_those_still_seen(vlm):
    batch = vlm.encode(tiny_samples(2), RESPONSES[:2])
    rows = [layout.rows("response") for layout in batch.layouts]
    half = [layout.visual[::2] for layout in batch.layouts]
    first = vlm.layers[0].index
    plain = capture(vlm, batch, rows, lambda _, flow: flow)[0]
    with intervene(vlm, {first: Knockout.of(batch, rows, half)}, batch):
        cut = capture(vlm, batch, rows, lambda _, flow: flow)[0]
    hidden = torch.zeros(len(batch), batch.num_keys, dtype=torch.bool)
    for i, keys in enumerate(half):
        hidden[i, keys] = True
    kept = plain.masked_fill(hidden[:, None, None], 0)
    torch.testing.assert_close(cut, kept / kept.sum(-1, keepdim=True), atol=1e-6, rtol=0)


def test_generation_with_a_cache_is_cut_like_generation_without(vlm):
    batch = vlm.encode(tiny_samples(2))
    rows = [layout.rows("text") for layout in batch.layouts]
    cut = Knockout.of(batch, rows, [layout.visual[::2] for layout in batch.layouts], later=True)
    options = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, "return_dict_in_generate": True}
    plain = vlm.model.generate(**batch.inputs, **options, output_logits=True)
    with intervene(vlm, everywhere(vlm, cut), batch):
        cached, without = (
            vlm.model.generate(**batch.inputs, **options, output_logits=True, use_cache=use) for use in (True, False)
        )
    for one, other in zip(cached.logits, without.logits, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=0)
    assert not torch.allclose(plain.logits[0], cached.logits[0], atol=1e-4)


def test_tiles_lie_as_transformers_cuts_them():
    pictures = SimpleNamespace(size={"height": 32, "width": 32}, max_image_tiles=4)
    for height, width in np.random.default_rng(0).integers(1, 300, (2000, 2)).tolist():
        canvas = get_optimal_tiled_canvas(height, width, 4, 32)
        split, shown = padded_canvas(pictures, (height, width))
        assert (split[0] * 32, split[1] * 32) == canvas
        assert shown == get_image_size_fit_to_canvas(height, width, *canvas, 32)


def test_tiles_that_the_processor_did_not_cut_are_an_error_with_both_numbers():
    vlm = tiny_model("mllama")
    vlm.processor.image_processor.max_image_tiles = 4
    outputs_of = type(vlm.processor).__call__

    def fewer(*args, **kwargs):
        outputs = outputs_of(*args, **kwargs)
        outputs["aspect_ratio_mask"][:, :, 2:] = 0
        return outputs

    vlm.processor.__class__ = type("Fewer", (type(vlm.processor),), {"__call__": fewer})
    with pytest.raises(GridMismatch, match="make 66 visual tokens but the keys hold 34; expected equal counts"):
        vlm.encode(tiny_samples(1))


def test_condensed_pictures_have_no_place_and_fill_every_row():
    vlm = tiny_model("idefics")
    batch = vlm.encode(tiny_samples(2), RESPONSES[:2])
    assert [(len(layout.visual), layout.grids) for layout in batch.layouts] == [(6, ()), (6, ())]
    rows = [layout.rows("text") for layout in batch.layouts]
    for flow in capture(vlm, batch, rows, lambda _, flow: flow):
        torch.testing.assert_close(flow.sum(-1), torch.ones(flow.shape[:-1]))


def test_pictures_that_are_not_condensed_have_a_place(monkeypatch):
    monkeypatch.setitem(FAMILIES, "idefics", FAMILIES["idefics"] | {"use_resampler": False})
    checked = check_model(tiny_model("idefics"))
    assert all(proof.passed for proof in checked.proofs), checked.as_dict()
    assert checked.proofs[1].seen == "4x4 = 17 tokens; 4x4 = 17 tokens"


@pytest.mark.parametrize("family", DECODER_ONLY)
def test_a_prompt_without_image_has_no_visual_tokens(family):
    vlm = tiny_model(family)
    words = replace(tiny_samples(1)[0], images=())
    (layout,) = vlm.encode([words]).layouts
    assert (len(layout.visual), layout.grids) == (0, ())
    assert len(vlm.generate([words], 3)[0]) <= 3


def test_an_encoder_s_keys_hold_the_question_with_an_image_and_without():
    vlm = tiny_model("florence2")
    sample = tiny_samples(1)[0]
    for asked in (sample, replace(sample, images=())):
        batch = vlm.encode([asked])
        held = batch.inputs["input_ids"][0][batch.layouts[0].key_segment == SEGMENTS.index("question")]
        assert vlm.decode(held.tolist()) == sample.question
        assert batch.inputs["input_ids"][0, -1] == vlm.tokenizer.eos_token_id


def test_a_second_image_is_refused_where_one_is_read():
    sample = tiny_samples(1)[0]
    with pytest.raises(SampleError, match="sample tiny-0 has 2 images; expected one, as Florence-2 reads no more"):
        tiny_model("florence2").encode([replace(sample, images=sample.images * 2)])
