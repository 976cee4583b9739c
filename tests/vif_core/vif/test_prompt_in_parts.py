"""A prompt that is read in parts has no map: it is refused, in place of an answer without VIF or with an older map."""

from __future__ import annotations

import pytest
import torch
from transformers import DynamicCache

from vif_core.errors import UsageError
from vif_core.vif import VIFConfig, add_vif
from vif_core.vlm.tiny import tiny_model, tiny_samples

REFUSED = "expected the whole prompt in one pass"


@pytest.fixture
def vif():
    return add_vif(tiny_model("llava"), VIFConfig(pairs=((0, 1),), slots=4, width=16, depth=1))


@pytest.fixture
def told(vif):
    return vif.vlm.encode(tiny_samples(1)).inputs


@pytest.fixture
def cache(vif, told):
    """Of the whole prompt."""
    cache = DynamicCache()
    with torch.inference_mode():
        vif.base(**told, past_key_values=cache, use_cache=True)
    return cache


def test_a_prompt_in_chunks_is_refused(vif, told):
    with pytest.raises(UsageError, match=f"4 tokens of a prompt of .*{REFUSED}"):
        vif.generate(**told, max_new_tokens=2, prefill_chunk_size=4)


def test_generating_on_from_a_cache_is_refused(vif, told, cache):
    with pytest.raises(UsageError, match=f"tokens are cached already; {REFUSED}"):
        vif.generate(**told, max_new_tokens=2, past_key_values=cache)


def test_turns_of_a_cached_prompt_are_refused(vif, told, cache):
    step = {"input_ids": told["input_ids"][:, -1:], "turns": told["turns"], "past_key_values": cache}
    with pytest.raises(UsageError, match=f"tokens are cached already; {REFUSED}"):
        vif.base(**step)


def test_without_vif_prompts_may_come_in_parts(vif, told):
    with vif.disable_vif():
        whole = vif.generate(**told, max_new_tokens=2)
        assert torch.equal(vif.generate(**told, max_new_tokens=2, prefill_chunk_size=4), whole)
