"""A knockout cuts the edges it names, all of them and no others, in one pass and under a cache."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vif_core.errors import UsageError, VifError
from vif_core.flow.call import AttentionCall
from vif_core.flow.interventions import Knockout
from vif_core.flow.op import intervene
from vif_core.vlm.tiny import TINY_FAMILIES, tiny_model, tiny_samples


@pytest.fixture(params=TINY_FAMILIES)
def vlm(request):
    return tiny_model(request.param)


@pytest.fixture
def tiny():
    return tiny_model("llava")


def encoded(vlm):
    return vlm.encode(tiny_samples(2), [[20, 30, 40], [50, 60]])


def logits(vlm, batch):
    with torch.inference_mode():
        return vlm.model(**batch.inputs).logits


def everywhere(vlm, cut):
    return {layer.index: cut for layer in vlm.layers}


def text_after_the_image(layout):
    return np.arange(layout.visual[-1] + 1, len(layout))


def test_text_cut_from_the_image_no_longer_depends_on_it(vlm):
    batch = encoded(vlm)
    other = encoded(vlm)
    other.inputs["pixel_values"] = other.inputs["pixel_values"].flip(-1) + 1
    rows = [text_after_the_image(layout) for layout in batch.layouts]
    image = [np.arange(layout.visual[0], layout.visual[-1] + 1) for layout in batch.layouts]
    last = [slice(pad + own[0], None) for pad, own in zip(batch.pad, rows, strict=True)]
    assert not torch.allclose(logits(vlm, batch)[0, last[0]], logits(vlm, other)[0, last[0]], atol=1e-3)
    with intervene(vlm, everywhere(vlm, Knockout.of(batch, rows, image)), batch):
        one, two = logits(vlm, batch), logits(vlm, other)
    for i, after in enumerate(last):
        assert torch.equal(one[i, after], two[i, after])


def test_rows_that_are_not_named_keep_their_output(vlm):
    batch = encoded(vlm)
    before = logits(vlm, batch)
    rows = [[len(layout) - 1] for layout in batch.layouts]
    with intervene(vlm, everywhere(vlm, Knockout.of(batch, rows, [layout.visual for layout in batch.layouts])), batch):
        after = logits(vlm, batch)
    torch.testing.assert_close(after[:, :-1], before[:, :-1], atol=1e-5, rtol=0)
    assert not torch.allclose(after[:, -1], before[:, -1], atol=1e-3)


def test_a_window_of_layers_is_cut_and_the_others_are_not(tiny):
    batch = encoded(tiny)
    rows = [text_after_the_image(layout) for layout in batch.layouts]
    cut = Knockout.of(batch, rows, [layout.visual for layout in batch.layouts])
    outputs = []
    for window in ({0: cut}, {1: cut, 2: cut}, everywhere(tiny, cut)):
        with intervene(tiny, window, batch):
            outputs.append(logits(tiny, batch))
    assert not torch.allclose(outputs[0], outputs[2], atol=1e-3)
    assert not torch.allclose(outputs[1], outputs[2], atol=1e-3)


def test_generation_with_a_cache_is_cut_like_generation_without(vlm):
    samples = tiny_samples(2)
    batch = vlm.encode(samples)
    rows = [text_after_the_image(layout) for layout in batch.layouts]
    # Half the image, so that rows of a narrow sliding window keep something to see
    cut = Knockout.of(batch, rows, [layout.visual[::2] for layout in batch.layouts], later=True)
    options = {"max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False}
    plain = vlm.model.generate(**batch.inputs, **options)
    with intervene(vlm, everywhere(vlm, cut), batch):
        cached = vlm.model.generate(**batch.inputs, **options, output_logits=True, return_dict_in_generate=True)
        without = vlm.model.generate(
            **batch.inputs, **options, use_cache=False, output_logits=True, return_dict_in_generate=True
        )
    assert torch.equal(cached.sequences, without.sequences)
    for one, other in zip(cached.logits, without.logits, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=0)
    assert plain.shape == cached.sequences.shape


def call(mask=None, batch=1):
    query, key = torch.randn(batch, 2, 4, 8), torch.randn(batch, 2, 4, 8)
    module = torch.nn.Module()
    module.config = type("Config", (), {"_attn_implementation": "sdpa"})
    return AttentionCall(module, query, key, key, mask, {})


def edges(queries, keys, size=4):
    chosen = torch.zeros(2, 1, size, dtype=torch.bool)
    chosen[0, 0, queries] = True
    chosen[1, 0, keys] = True
    return Knockout(*chosen)


def test_mass_moves_to_the_keys_still_seen():
    made, cut = call(), edges([2, 3], [0, 1])
    rows = torch.tensor([[1, 2, 3]])
    plain, flow = made.rows(rows), cut.before(made).rows(rows)
    assert torch.equal(flow[:, :, 0], plain[:, :, 0])
    torch.testing.assert_close(flow[:, :, 1, 2], torch.ones(1, 2))
    torch.testing.assert_close(flow[:, :, 2, 2:], plain[:, :, 2, 2:] / plain[:, :, 2, 2:].sum(-1, keepdim=True))


def test_a_row_left_with_nothing_to_see_is_refused():
    made, cut = call(), edges([1], [0, 1])
    rows, changed = cut.changes(made), cut.before(made)
    flow = changed.rows(rows)
    with pytest.raises(VifError, match=r"still carry a mass of up to 0\.25; expected zero"):
        cut.rows(changed, rows, flow)


def test_positions_are_counted_without_padding(tiny):
    batch = encoded(tiny)
    cut = Knockout.of(batch, [[0], [1]], [[2], [3]])
    assert cut.queries.nonzero().tolist() == [[0, batch.pad[0]], [1, 1 + batch.pad[1]]]
    assert cut.keys.nonzero().tolist() == [[0, 2 + batch.pad[0]], [1, 3 + batch.pad[1]]]


def test_the_rows_it_changes_are_the_rows_it_names():
    assert edges([1, 3], [0]).changes(call()).sort().values.tolist() == [[1, 3]]


def test_another_batch_is_refused(tiny):
    cut = Knockout.of(encoded(tiny), [[5], [5]], [[3], [3]])
    with pytest.raises(UsageError, match="made for a batch of 2 samples met one of 1; expected equal sizes"):
        intervene(tiny, {0: cut}).__enter__()


def test_an_implementation_without_a_mask_of_edges_is_refused():
    made = call()
    made.module.config._attn_implementation = "flash_attention_2"
    with pytest.raises(UsageError, match="'flash_attention_2', which takes no mask of edges; expected sdpa or eager"):
        edges([1], [0]).before(made)
