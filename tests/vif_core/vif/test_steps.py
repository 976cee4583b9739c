"""A step that goes on from a cache has the maps of the prefill that filled it, whatever ran in between."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from transformers import DynamicCache, StaticCache

from vif_core.errors import UsageError
from vif_core.vlm.tiny import tiny_model, tiny_samples

WORDS = torch.tensor([[20], [30]])


def prefill(model, batch, cache=None):
    with torch.inference_mode():
        return model.base(**batch.inputs, past_key_values=cache, use_cache=True).past_key_values


def step(model, cache, ids=WORDS):
    with torch.inference_mode():
        return model.base(input_ids=ids, past_key_values=cache).logits


def disabled(model, other):
    with model.disable_vif(), torch.inference_mode():
        model.base(**other.inputs)


BETWEEN = {
    "another prefill": prefill,
    "without VIF": disabled,
    "spotlights": lambda model, _: model.spotlights_of(tiny_samples(3)[2:]),
    "words alone": lambda model, _: model.base(input_ids=torch.randint(10, 200, (2, 9))),
    "a step from another": lambda model, other: step(model, prefill(model, other)),
}


@pytest.fixture(params=["none", "mid-feature"])
def model(request, make):
    return make(variant=request.param)


@pytest.fixture
def batch(model):
    return model.vlm.encode(tiny_samples(2))


@pytest.mark.parametrize("between", BETWEEN)
def test_what_runs_in_between_leaves_a_step_its_map(between, model, batch):
    wanted = step(model, prefill(model, batch))
    cache = prefill(model, batch)
    BETWEEN[between](model, model.vlm.encode(tiny_samples(4)[2:]))
    assert torch.equal(step(model, cache), wanted)


def test_a_cache_that_is_given_or_copied_keeps_its_map(model, batch):
    wanted = step(model, prefill(model, batch))
    given = prefill(model, batch, DynamicCache())
    prefill(model, model.vlm.encode(tiny_samples(4)[2:]))
    assert torch.equal(step(model, deepcopy(given)), wanted)
    assert torch.equal(step(model, given), wanted)
    with torch.inference_mode():
        listed = model.base(**batch.inputs, use_cache=True, return_dict=False)
    assert torch.equal(step(model, listed[1]), wanted)


def test_a_continuation_longer_than_its_prompt_makes_no_map(model, batch):
    """Its positions are none of the prompt's: read as such, words would be visual tokens."""
    words = torch.randint(10, 200, (2, batch.length + 3))
    cache, one_by_one = prefill(model, batch), prefill(model, batch)
    wanted = torch.cat([step(model, one_by_one, word) for word in words.split(1, dim=1)], 1)
    torch.testing.assert_close(step(model, cache, words), wanted, atol=1e-4, rtol=0)


def test_steps_of_a_text_have_no_map(model, batch):
    ids = torch.randint(10, 200, (2, 9))
    with torch.inference_mode():
        cache = model.base(input_ids=ids, use_cache=True).past_key_values
    prefill(model, batch)
    found = step(model, cache)
    with model.disable_vif(), torch.inference_mode():
        assert torch.equal(found, step(model, model.base(input_ids=ids, use_cache=True).past_key_values))


def test_a_step_from_what_vif_did_not_see_is_refused(model, batch):
    with model.disable_vif():
        cache = prefill(model, batch)
    with pytest.raises(UsageError, match=rf"{batch.length} tokens that were cached without VIF; expected the whole"):
        step(model, cache)
    with model.disable_vif():
        step(model, cache)


def test_a_cache_that_is_used_anew_without_vif_has_lost_its_map(model, batch):
    cache = StaticCache(model.base.config, max_cache_len=99)
    prefill(model, batch, cache)
    with model.disable_vif(), torch.inference_mode():
        cache.reset()
        prefill(model, batch, cache)
    with pytest.raises(UsageError, match="cached without VIF"):
        step(model, cache)


def test_a_cache_that_was_cut_within_its_prompt_is_refused(model, batch):
    cache = prefill(model, batch)
    cache.crop(-3)
    with pytest.raises(UsageError, match=f"{batch.length - 3} cached tokens of a prompt of {batch.length}; expected"):
        step(model, cache)


def test_a_cache_of_other_rows_is_refused(model, batch):
    cache = prefill(model, batch)
    cache.batch_repeat_interleave(2)
    with pytest.raises(UsageError, match=r"4 sequences that go on from a prefill of 2; expected the prefill's"):
        step(model, cache, WORDS.repeat(2, 1))


def test_assisted_generation_says_what_greedy_does(model):
    """Candidates stand in the prefill behind the prompt, and several come at once in the steps."""
    batch = model.vlm.encode(tiny_samples(1))
    options = {"max_new_tokens": 9, "min_new_tokens": 9, "do_sample": False}
    assistant = tiny_model("llava").model
    assisted = model.generate(**batch.inputs, **options, assistant_model=assistant)
    assert torch.equal(assisted, model.generate(**batch.inputs, **options))
