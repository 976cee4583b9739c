"""What VIF hooks in proves itself, is let go where it fails, and makes the maps that were asked for."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from vif_core.errors import UnsupportedModel, UsageError
from vif_core.flow.op import CARRIED
from vif_core.vif.config import VIFConfig
from vif_core.vif.injection import Injection
from vif_core.vif.model import add_vif
from vif_core.vlm.tiny import tiny_model, tiny_samples

# -- attaching


@pytest.mark.parametrize("attn", ["sdpa", "eager"])
def test_it_attaches_to_every_family_and_changes_what_the_model_says(family, attn, make, encode, logits_of):
    vlm = tiny_model(family, attn)
    before = logits_of(make(family, attn, alpha=0.0), batch := encode(vlm))
    with torch.inference_mode():
        assert torch.equal(vlm.model(**batch.inputs).logits, before), "alpha 0 is the base model, bit for bit"
    model = make(family, attn)
    batch = encode(model.vlm)
    after = logits_of(model, batch)
    assert not torch.allclose(after, before, atol=1e-2)
    with model.disable_vif():
        assert torch.equal(logits_of(model, batch), before)
    assert torch.equal(logits_of(model, batch), after)


def test_the_model_knows_its_vif(make):
    model = make()
    assert model.vlm.vif is model
    assert model.base is model.vlm.model
    model.alpha, model.draw_seed, model.maps_from = torch.tensor(0.25), 3, "constant"
    facts = model.facts()
    assert facts.keys() == {*vars(model.config), "draw", "draw_seed", "maps_from"}
    assert (facts["pairs"], facts["preset"], facts["variant"]) == ([[0, 1], [1, 2]], "paper", "none")
    used = {"alpha": 0.25, "draw": "prior-mean", "draw_seed": 3, "maps_from": "constant", "later": "turn", "slots": 4}
    assert used.items() <= facts.items()


def test_weights_in_memory_have_an_identity_of_their_own(make):
    one, again, other = make(seed=1), make(seed=1), make(seed=2)
    assert one.fingerprint() == again.fingerprint() != other.fingerprint()
    with torch.no_grad():
        again.generator.slots.read.bias[0] += 1e-3
    assert again.fingerprint() != one.fingerprint()


def test_attaching_twice_is_refused(make):
    with pytest.raises(UsageError, match=r"tiny-llava has VIF already\. Load the base model for another one"):
        add_vif(make().vlm)


def test_a_decoder_too_shallow_for_the_default_pairs_is_refused():
    with pytest.raises(UsageError, match="Give `pairs` for a decoder this shallow"):
        add_vif(tiny_model("llava"))


def refused(vlm, error, line, **options):
    """Attaching fails with this line, and the model is as it was."""
    batch = vlm.encode(tiny_samples(2))
    with torch.inference_mode():
        before = vlm.model(**batch.inputs).logits
    with pytest.raises(error, match=line):
        add_vif(vlm, VIFConfig(pairs=((0, 1), (1, 2)), slots=4, width=32, **options))
    assert vlm.vif is None
    assert not vlm.model._forward_pre_hooks
    assert all(CARRIED not in layer.attention.__dict__ for layer in vlm.layers)
    with torch.inference_mode():
        assert torch.equal(vlm.model(**batch.inputs).logits, before)


def test_a_model_whose_visual_tokens_lie_on_no_grid_is_refused():
    vlm = tiny_model("llava")
    vlm.model.config.qformer_config = {}
    refused(
        vlm, UnsupportedModel, r"no map reached the injection layers \[1, 2\] of tiny-llava; expected visual tokens"
    )


def test_an_injection_layer_that_the_op_does_not_serve_is_refused(monkeypatch):
    vlm = tiny_model("llava")
    attention = vlm.layers[2].attention
    monkeypatch.setattr(attention, "forward", lambda hidden_states, **_: (torch.zeros_like(hidden_states), None))
    refused(vlm, UnsupportedModel, r"interventions at layers \[2\] of tiny-llava did not fire")


def test_two_models_in_one_process_do_not_meet(make, encode, logits_of):
    plain = tiny_model("llava")
    one, two = make(seed=1), make(seed=2)
    batch, own = encode(plain), encode(one.vlm)
    with torch.inference_mode():
        base = plain.model(**batch.inputs).logits
    first, second = logits_of(one, own), logits_of(two, own)
    assert not torch.allclose(first, second, atol=1e-3)
    with torch.inference_mode():
        assert torch.equal(plain.model(**batch.inputs).logits, base)
    assert torch.equal(logits_of(one, own), first)


def test_fresh_spotlights_fit_any_dtype_of_the_base(make, encode, logits_of):
    exact = make()
    wanted = logits_of(exact, encode(exact.vlm))
    half = make()
    half.base.to(torch.bfloat16)
    given = logits_of(half, encode(half.vlm))
    assert given.dtype == torch.bfloat16
    assert next(half.generator.parameters()).dtype == torch.float32
    torch.testing.assert_close(given.float(), wanted, atol=0.5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_generator_may_have_another_dtype(dtype, make, encode, logits_of):
    exact, half = make(), make()
    half.to(dtype)
    wanted, given = logits_of(exact, encode(exact.vlm)), logits_of(half, encode(half.vlm))
    torch.testing.assert_close(given.float(), wanted, atol=1.0, rtol=0)
    out = half.train()(**encode(half.vlm).inputs)
    (out.loss + out.kl + out.entropy).backward()
    assert next(half.generator.parameters()).grad.dtype == dtype


def test_a_blend_moves_to_where_its_layer_lies(make, encode, record, logits_of):
    """A layer on another device, as a model that is spread over several has them; "meta" computes nothing."""
    model = make(alpha=0.25)
    batch = encode(model.vlm)
    (call,) = record(model, batch, 1, lambda: logits_of(model, batch))
    there = replace(call, mask=None, **{name: getattr(call, name).to("meta") for name in ("query", "key", "value")})
    output = torch.empty(*call.query.transpose(1, 2).shape, device="meta")
    injection = Injection(model, 1)
    assert injection.after(injection.before(there), output).device == output.device
    assert {getattr(injection.blend, name).device.type for name in ("keys", "maps", "turn")} == {"meta"}


# -- draws and controls


def test_draws_repeat_for_the_same_question_in_any_batch_and_change_with_the_seed(make, maps_of, split):
    model = make(inference="draw")
    samples = tiny_samples(3)
    one = maps_of(model, split(model.vlm.encode(samples, [[20], [30], [40]])), "prior-draw")
    again = maps_of(model, split(model.vlm.encode(samples[2:])), "prior-draw")
    for a, b in zip(one, again, strict=True):
        torch.testing.assert_close(a[2:], b, atol=1e-5, rtol=0)
    model.draw_seed = 1
    other = maps_of(model, split(model.vlm.encode(samples[2:])), "prior-draw")
    assert not torch.allclose(other[0], again[0], atol=1e-3)
    assert not torch.allclose(maps_of(model, split(model.vlm.encode(samples[2:])))[0], again[0], atol=1e-3)


def test_swapped_maps_are_another_samples(make, encode, maps_of, split):
    model = make()
    own, *_ = maps_of(model, split(encode(model.vlm)))
    model.maps_from = "swapped"
    swapped, *_ = maps_of(model, split(encode(model.vlm)))
    torch.testing.assert_close(swapped, own[[1, 2, 0]])


def test_a_constant_map_is_the_same_for_all_and_learns(make, encode):
    model = make().train()
    model.maps_from = "constant"
    out = model(**encode(model.vlm).inputs)
    for reading in out.readings:
        torch.testing.assert_close(reading.maps, reading.maps[:1].expand(3, -1))
    out.logits.square().mean().backward()
    assert model.generator.slots.anchors.grad.abs().max() > 0


def test_a_few_pairs_a_pass_may_have_a_map(make, encode):
    model = make().train()
    model.pairs_a_pass = 1
    batch = encode(model.vlm)
    torch.manual_seed(0)
    used = [frozenset(model(**batch.inputs) and model.current.readings) for _ in range(8)]
    assert set(used) == {frozenset({1}), frozenset({2})}
    model.eval()
    assert len(model(**batch.inputs).readings) == 2
