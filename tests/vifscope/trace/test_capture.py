"""Captured rows are the rows of an eager run, whatever the family, the padding and the picture sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vif_core.errors import GridMismatch, UnsupportedModel
from vif_core.flow.interventions import Knockout
from vif_core.flow.op import intervene
from vif_core.load import load
from vif_core.vlm.tiny import TINY_FAMILIES, tiny_model, tiny_samples
from vifscope.trace import capture as tracing
from vifscope.trace.capture import capture, padded_rows

MODELS = [*TINY_FAMILIES, "mini-llava"]


def opened(name: str, attn: str = "sdpa"):
    return load("mini-llava", attn=attn) if name == "mini-llava" else tiny_model(name, attn=attn)


def at_rows(attentions, rows):
    """Rows [B, R] of eager attention weights, layer by layer."""
    return [weights.take_along_dim(rows[:, None, :, None], dim=2) for weights in attentions]


def largest_difference(these, those) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(these, those, strict=True))


@pytest.fixture(params=MODELS)
def name(request):
    return request.param


@pytest.fixture
def vlm(name):
    return opened(name)


def encoded(vlm, n_response=6):
    samples = tiny_samples(3)
    random = np.random.default_rng(0)
    responses = [random.integers(10, 60, n_response + i).tolist() for i in range(3)]
    return vlm.encode(samples, responses)


@pytest.mark.parametrize("which", ["response", "last", "question", "text"])
def test_rows_match_eager(name, vlm, which):
    batch = encoded(vlm)
    assert len(set(batch.pad)) == 3, "the batch should need padding"
    rows = [layout.rows(which) for layout in batch.layouts]
    flows = capture(vlm, batch, rows, lambda _, flow: flow)
    eager = opened(name, attn="eager")
    with torch.inference_mode():
        attentions = eager.model(**encoded(eager).inputs, output_attentions=True).attentions
    difference = largest_difference(flows, at_rows(attentions, padded_rows(batch, rows)))
    print(f"{name}, {which} rows: max difference {difference:.1e}")
    assert difference < 1e-5
    assert len(flows) == vlm.num_layers


def test_one_pass_matches_cached_steps(name, vlm):
    eager = opened(name, attn="eager")
    samples = tiny_samples(1)
    steps = eager.model.generate(
        **eager.encode(samples).inputs,
        max_new_tokens=6,
        min_new_tokens=6,
        do_sample=False,
        output_attentions=True,
        return_dict_in_generate=True,
    )
    batch = vlm.encode(samples, [steps.sequences[0, -6:].tolist()])
    flows = capture(vlm, batch, [batch.layouts[0].rows("response")], lambda _, flow: flow)
    for step, attentions in enumerate(steps.attentions):
        for flow, weights in zip(flows, attentions, strict=True):
            kept = weights.shape[-1]  # a sliding layer's cache holds the last keys alone
            seen = flow[0, :, step, : batch.length - 6 + step][..., -kept:]
            assert (seen - weights[0, :, -1]).abs().max() < 1e-5


def test_one_pass_matches_cached_steps_of_paligemma():
    """Its prompt is a block that sees itself whole, and no part of it may see the response."""
    test_one_pass_matches_cached_steps("paligemma", opened("paligemma"))


def test_a_sample_reads_the_same_alone_and_in_a_padded_batch(vlm):
    batch = encoded(vlm)
    together = capture(vlm, batch, [layout.rows("text") for layout in batch.layouts], lambda _, flow: flow)
    response = [layout.input_ids[layout.response_start :].tolist() for layout in batch.layouts]
    alone = vlm.encode([tiny_samples(3)[0]], response[:1])
    rows = alone.layouts[0].rows("text")
    for flow, padded in zip(capture(vlm, alone, [rows], lambda _, flow: flow), together, strict=True):
        assert (padded[0, :, : len(rows), batch.pad[0] :] - flow[0]).abs().max() < 1e-5
        assert not padded[0, :, :, : batch.pad[0]].any()


def test_capture_leaves_the_model_as_it_was(vlm):
    batch = encoded(vlm)
    with torch.inference_mode():
        before = vlm.model(**batch.inputs).logits
        capture(vlm, batch, [layout.rows("last") for layout in batch.layouts], lambda *_: None)
        assert torch.equal(vlm.model(**batch.inputs).logits, before)


def test_vision_features_are_computed_once_a_pass(vlm):
    batch = encoded(vlm)
    calls = []
    tower = next(module for path, module in vlm.model.named_modules() if path.endswith(("vision_tower", "visual")))
    tower.register_forward_pre_hook(lambda *_: calls.append(1))
    capture(vlm, batch, [layout.rows("last") for layout in batch.layouts], lambda *_: None)
    assert len(calls) == 1


def test_the_flow_that_is_captured_is_the_flow_after_the_intervention(vlm):
    batch = encoded(vlm)
    queries = [layout.rows("response") for layout in batch.layouts]
    cut = Knockout.of(batch, queries, [layout.visual for layout in batch.layouts])
    first = vlm.layers[0].index
    plain = capture(vlm, batch, queries, lambda _, flow: flow)[0]
    with intervene(vlm, {first: cut}, batch):
        flow = capture(vlm, batch, queries, lambda _, flow: flow)[0]
    gone = cut.keys[:, None, None].expand_as(flow)
    assert not flow[gone].any()
    expected = plain.masked_fill(gone, 0) / (1 - plain.where(gone, 0).sum(-1, keepdim=True))
    torch.testing.assert_close(flow, expected, atol=1e-5, rtol=0)


def test_op_label_is_the_attention_call(vlm):
    """Canary: should a new nnsight count otherwise, this fails first."""
    tracing.attention_ops(vlm)
    for layer in vlm.layers:
        source = str(vlm.traced.get(layer.path).source)
        call = next(line for line in source.splitlines() if line.strip().startswith(tracing.ATTENTION_OP))
        assert "= attention_interface(" in call
        assert "attention_interface_2" not in source


@pytest.fixture
def tiny():
    return tiny_model("llava")


def test_layers_come_in_order_one_at_a_time(tiny):
    batch = encoded(tiny)
    rows = [layout.rows("response") for layout in batch.layouts]
    seen = capture(tiny, batch, rows, lambda layer, flow: (layer, flow.shape))
    assert seen == [(layer, (3, 4, 8, batch.length)) for layer in range(3)]


def test_a_missing_label_is_one_clear_line(tiny, monkeypatch):
    monkeypatch.setattr(tracing, "ATTENTION_OP", "attention_interface_9")
    with pytest.raises(UnsupportedModel, match="no operation attention_interface_9 in the source of LlamaAttention"):
        tracing.attention_ops(tiny)


def test_an_error_of_the_reducer_comes_out_as_itself(tiny):
    def reduce(layer, flow):
        raise GridMismatch("seen 3")

    batch = encoded(tiny)
    with pytest.raises(GridMismatch, match="seen 3"):
        capture(tiny, batch, [layout.rows("last") for layout in batch.layouts], reduce)


def test_short_rows_repeat_their_last_and_none_is_the_last_position(tiny):
    batch = encoded(tiny)
    rows = padded_rows(batch, [np.array([3, 4, 5]), np.array([7]), np.array([], dtype=int)])
    expected = [[3, 4, 5], [7, 7, 7], [len(batch.layouts[2]) - 1] * 3]
    assert rows.tolist() == [[position + pad for position in own] for own, pad in zip(expected, batch.pad, strict=True)]
