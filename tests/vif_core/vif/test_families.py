"""VIF attaches to, trains and generates with every family whose visual tokens lie on a map; others are refused."""

from __future__ import annotations

import pytest
import torch

from vif_core.errors import UnsupportedModel, UsageError
from vif_core.vif.config import VIFConfig
from vif_core.vif.model import add_vif
from vif_core.vlm.tiny import ALL_FAMILIES, tiny_model, tiny_samples

LATENT = ("aria", "blip-2", "granite4_vision", "idefics2", "instructblip")
CROSSING = ("florence2", "idefics", "mllama")
"""Their decoders see the image by cross-attention."""
STREAMS = ("glm5_next", "qwen4_exp")
"""Their blocks hand on several streams a position."""


@pytest.mark.parametrize("family", [family for family in ALL_FAMILIES if family not in (*LATENT, *CROSSING, *STREAMS)])
def test_it_trains_two_steps_and_generates(family, make, encode):
    first, *_, last = (layer.index for layer in tiny_model(family).layers)
    model = make(family, pairs=((first, last),)).train()
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


@pytest.mark.parametrize(
    ("family", "line"),
    [
        *((family, "no map reached the injection layers") for family in LATENT),
        *((family, "the decoder of tiny-.* sees the image by cross-attention; expected image") for family in CROSSING),
        *(
            (family, "decoder blocks of tiny-.* hand on .* features a position; expected one stream")
            for family in STREAMS
        ),
    ],
)
def test_others_are_refused_and_work_as_before(family, line):
    vlm = tiny_model(family)
    pairs = ((vlm.layers[0].index, vlm.layers[-1].index),)
    with pytest.raises(UnsupportedModel, match=line):
        add_vif(vlm, VIFConfig(pairs=pairs, width=8))
    assert vlm.vif is None
    assert all(len(ids) <= 3 for ids in vlm.generate(tiny_samples(2), max_new_tokens=3))


@pytest.mark.parametrize("family", ["granite_docling", "internvl", "idefics3", "llama4"])
def test_inputs_that_do_not_tell_how_tiles_lie_are_refused(family, make):
    """They would pass for as many pictures as there are tiles."""
    model = make(family)
    inputs = model.vlm.encode(tiny_samples(1)).inputs
    inputs.pop("turns")
    with pytest.raises(UsageError, match=r"without turns, whose pictures may be cut into tiles; expected all that"):
        model(**inputs)
