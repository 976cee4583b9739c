"""VIF attaches to, trains and generates with models of the families that people train."""

from __future__ import annotations

import pytest
import torch

FAMILIES = ("llava", "llava_next", "qwen2_5_vl", "qwen3_vl", "internvl", "gemma3", "smolvlm", "mistral3")


@pytest.mark.parametrize("family", FAMILIES)
def test_it_trains_two_steps_and_generates(family, make, encode):
    model = make(family).train()
    batch = encode(model.vlm)
    labels = batch.inputs["input_ids"].clone()
    for row, layout, pad in zip(labels, batch.layouts, batch.pad, strict=True):
        row[: pad + layout.response_start] = -100
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(2):
        optimizer.zero_grad()
        torch.manual_seed(0)
        out = model(**batch.inputs, use_cache=False, labels=labels)
        out.loss.backward()
        optimizer.step()
        losses.append(out.loss.item())
    assert losses[1] < losses[0]
    prompts = encode(model.eval().vlm, None)
    answer = model.generate(**prompts.inputs, max_new_tokens=3, min_new_tokens=3, do_sample=False)
    assert answer.shape == (3, prompts.length + 3)
    with model.disable_vif():
        plain = model.generate(**prompts.inputs, max_new_tokens=3, min_new_tokens=3, do_sample=False)
    assert plain.shape == answer.shape
