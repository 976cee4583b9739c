"""Under flash attention VIF says what it says under sdpa: flash takes no mask of edges, and aligns bottom-right."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from vif_core.vif import VIFConfig, add_vif
from vif_core.vlm.discover import decoder_of
from vif_core.vlm.tiny import tiny_model, tiny_samples


def flash(_module, query, key, value, mask, scaling=None, **_):
    """What a flash kernel computes, without one: query i of Q sees keys up to K - Q + i, less those of the padding."""
    assert mask is None or mask.dim() == 2
    n_queries, n_keys = query.shape[2], key.shape[2]
    seen = torch.ones(1, 1, n_queries, n_keys, dtype=torch.bool).tril(n_keys - n_queries)
    seen = seen if mask is None else seen & mask[:, None, None].bool()
    added = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(query.dtype).min)
    return F.scaled_dot_product_attention(
        query, key, value, added, scale=scaling, enable_gqa=True
    ).transpose(1, 2), None  # fmt: skip


@pytest.fixture(params=["llava", "qwen2_5_vl"])
def both(request, monkeypatch):
    """The same model with VIF, under sdpa and under flash attention."""
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, "flash_attention_2", flash)
    models = []
    for attn in ("sdpa", "flash_attention_2"):
        vlm = tiny_model(request.param)
        decoder_of(vlm.model).config._attn_implementation = attn  # what asks for the package is set_attn_implementation
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            models.append(add_vif(vlm, VIFConfig(pairs=((0, 1), (1, 2)), slots=4, width=32, depth=1)))
            torch.nn.init.normal_(models[-1].generator.slots.read.weight, std=0.5)
    return models


def test_logits_and_generated_tokens_are_those_under_sdpa(both):
    logits, tokens = [], []
    for model in both:
        batch = model.vlm.encode(tiny_samples(3))
        with torch.inference_mode():
            logits.append(model.base(**batch.inputs).logits[batch.inputs["attention_mask"].bool()])
        tokens.append(model.generate(**batch.inputs, max_new_tokens=6, min_new_tokens=6, do_sample=False))
    print(f"max difference {(logits[0] - logits[1]).abs().max():.1e}")
    torch.testing.assert_close(*logits, atol=1e-4, rtol=0)
    assert torch.equal(*tokens)


def test_several_cached_queries_without_a_mask_are_those_under_sdpa(both):
    found = []
    for model in both:
        model.alpha = torch.tensor(0.5)  # as it is warmed up: what rows see is asked of each
        batch = model.vlm.encode(tiny_samples(1))
        with torch.inference_mode():
            cache = model.base(**batch.inputs, use_cache=True).past_key_values
            found.append(model.base(input_ids=torch.tensor([[20, 30, 40]]), past_key_values=cache).logits)
    torch.testing.assert_close(*found, atol=1e-4, rtol=0)
