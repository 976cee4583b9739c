"""The wrapper is the identity without an intervention, proves itself on entry, and leaves nothing behind."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from vif_core.errors import UnsupportedModel, UsageError
from vif_core.flow.interventions import Intervention, Knockout
from vif_core.flow.op import CARRIED, intervene, wrap
from vif_core.vlm.tiny import TINY_FAMILIES, tiny_model, tiny_samples


@dataclass(frozen=True)
class Scale:
    """The first head's output times a factor: acts on any batch."""

    factor: float

    def before(self, call):
        return call

    def after(self, call, output):
        return torch.cat([output[:, :, :1] * self.factor, output[:, :, 1:]], dim=2)

    def rows(self, call, rows, flow):
        return torch.cat([flow[:, :1] * self.factor, flow[:, 1:]], dim=1)

    def changes(self, call):
        return torch.zeros(len(call.query), 1, dtype=torch.long)


def logits(vlm, batch):
    with torch.inference_mode():
        return vlm.model(**batch.inputs).logits


@pytest.fixture(params=TINY_FAMILIES)
def vlm(request):
    return tiny_model(request.param)


@pytest.fixture
def tiny():
    return tiny_model("llava")


def encoded(vlm):
    return vlm.encode(tiny_samples(2), [[20, 30, 40], [50, 60]])


def test_the_wrapper_alone_changes_nothing(vlm):
    batch = encoded(vlm)
    before = logits(vlm, batch)
    wrap(vlm.attention)
    assert torch.equal(logits(vlm, batch), before)


def test_it_is_registered_once_under_the_same_name(tiny):
    wrap("sdpa")
    once = ALL_ATTENTION_FUNCTIONS["sdpa"]
    wrap("sdpa")
    assert ALL_ATTENTION_FUNCTIONS["sdpa"] is once
    assert tiny.attention == "sdpa"


def test_an_intervention_acts_within_its_block_alone(vlm):
    batch = encoded(vlm)
    before = logits(vlm, batch)
    with intervene(vlm, {vlm.layers[-1].index: Scale(2.0)}):
        assert not torch.allclose(logits(vlm, batch), before, atol=1e-4)
    assert torch.equal(logits(vlm, batch), before)
    assert all(CARRIED not in layer.attention.__dict__ for layer in vlm.layers)


def test_an_error_inside_the_block_leaves_nothing_behind(tiny):
    with pytest.raises(KeyboardInterrupt), intervene(tiny, {0: Scale(2.0)}):
        raise KeyboardInterrupt
    assert CARRIED not in tiny.layers[0].attention.__dict__
    assert not tiny.model._forward_pre_hooks


def test_two_models_in_one_process_do_not_meet(tiny):
    other = tiny_model("llava", seed=1)
    batch = encoded(other)
    before = logits(other, batch)
    with intervene(tiny, {0: Scale(2.0), 2: Scale(0.5)}):
        assert torch.equal(logits(other, batch), before)


def test_several_act_in_order_and_blocks_nest(tiny):
    batch = encoded(tiny)
    before = logits(tiny, batch)
    with intervene(tiny, {1: [Scale(2.0), Scale(0.5)]}):
        assert torch.equal(logits(tiny, batch), before)
    with intervene(tiny, {1: Scale(2.0)}):
        doubled = logits(tiny, batch)
        with intervene(tiny, {1: Scale(0.5)}):
            assert torch.equal(logits(tiny, batch), before)
        assert torch.equal(logits(tiny, batch), doubled)


def test_a_target_that_does_not_reach_the_op_is_refused(tiny, monkeypatch):
    def around(hidden_states, **_):
        return torch.zeros_like(hidden_states), None

    monkeypatch.setattr(tiny.layers[1].attention, "forward", around)
    with (
        pytest.raises(UnsupportedModel, match=r"layers \[1\] of tiny-llava did not fire"),
        intervene(tiny, {0: Scale(2.0), 1: Scale(2.0)}),
    ):
        pass
    assert CARRIED not in tiny.layers[0].attention.__dict__


def test_an_unknown_layer_is_refused(tiny):
    with pytest.raises(UsageError, match=r"layers \[7\] of tiny-llava; expected layers with attention: \[0, 1, 2\]"):
        intervene(tiny, {7: Scale(2.0)}).__enter__()


def test_interventions_work_with_gradients_and_checkpointing(tiny):
    batch = encoded(tiny)
    model = tiny.model.train()
    gradients = []
    for checkpointing in (False, True):
        model.zero_grad()
        if checkpointing:
            model.activation_checkpointing_enable({"use_reentrant": False})
        with intervene(tiny, {1: Scale(2.0)}):
            model(**batch.inputs, use_cache=False).logits.square().mean().backward()
        gradients.append(tiny.layers[1].attention.q_proj.weight.grad.clone())
    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(*gradients)


def test_what_the_package_offers_keeps_the_protocol(tiny):
    nothing = torch.zeros(1, 1, dtype=torch.bool)
    assert isinstance(Knockout(nothing, nothing), Intervention)
    assert isinstance(Scale(1.0), Intervention)


def test_an_intervention_acts_under_an_implementation_that_was_set_later(tiny):
    batch = encoded(tiny)
    with intervene(tiny, {1: Scale(2.0)}):
        wanted = logits(tiny, batch)
        tiny.model.set_attn_implementation("eager")
        assert tiny.attention == "eager"
        kept = batch.inputs["attention_mask"].bool()
        torch.testing.assert_close(logits(tiny, batch)[kept], wanted[kept], atol=1e-4, rtol=0)


def test_flex_attention_is_refused(tiny):
    tiny.model.set_attn_implementation("flex_attention")
    with (
        pytest.raises(UsageError, match=r"interventions under flex_attention.*; expected sdpa, eager or .*attn='sdpa'"),
        intervene(tiny, {1: Scale(2.0)}),
    ):
        pass
    assert CARRIED not in tiny.layers[1].attention.__dict__
