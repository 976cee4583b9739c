"""A VLM generates greedily, and knows its layers, its name and its family."""

from __future__ import annotations

import pytest
import torch

from vif_core.vlm.tiny import TINY_FAMILIES, tiny_model, tiny_samples


@pytest.fixture(params=TINY_FAMILIES)
def vlm(request):
    return tiny_model(request.param)


def test_it_knows_its_layers(vlm):
    assert [layer.index for layer in vlm.layers] == list(range(vlm.num_layers))
    assert vlm.num_heads == 4
    assert vlm.attention in ("sdpa", "eager")


def test_the_same_seed_gives_the_same_model():
    one, same, other = (tiny_model("llava", seed=seed).model.lm_head.weight for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_building_one_leaves_the_random_state_alone():
    state = torch.get_rng_state()
    tiny_model("llava")
    assert torch.equal(torch.get_rng_state(), state)


def test_generation_is_greedy_and_padding_does_not_change_it(vlm):
    samples = tiny_samples(3)
    together = vlm.generate(samples, 5)
    assert together == [vlm.generate([sample], 5)[0] for sample in samples]
    batch = vlm.encode(samples[:1])
    tokens = []
    for _ in together[0]:
        with torch.inference_mode():
            tokens.append(vlm.model(**vlm.encode(samples[:1], [tokens]).inputs).logits[0, -1].argmax().item())
    assert tokens == together[0]
    assert len(batch) == 1


def test_what_ends_a_response_is_left_out():
    vlm = tiny_model("llava")
    samples = tiny_samples(3)
    free = vlm.generate(samples, 6)
    vlm.model.generation_config.eos_token_id = [2, free[0][2]]
    assert vlm.eos_ids == {2, free[0][2]}
    ended = vlm.generate(samples, 6)
    for short, long in zip(ended, free, strict=True):
        assert short == long[: len(short)]
        assert not vlm.eos_ids & set(short)
    assert len(ended[0]) <= 2


def test_a_given_response_is_tokenised_without_special_tokens(vlm):
    ids = vlm.response_ids("a red circle")
    assert vlm.decode(ids) == "a red circle"
    assert vlm.tokenizer.bos_token_id not in ids


def test_special_tokens_are_not_decoded(vlm):
    assert vlm.decode([*vlm.response_ids("yes"), vlm.tokenizer.eos_token_id]) == "yes"
