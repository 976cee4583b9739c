"""The variants of Table 3 leave out what they say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vif_core.errors import UsageError
from vif_core.vlm.tiny import TINY_FAMILIES, tiny_samples


def test_no_posterior_draws_from_the_prior_in_training_too_and_has_no_kl(trained):
    model, batch, labels = trained(variant="no-posterior")
    out = model(**batch.inputs, labels=labels)
    reading = out.readings[0]
    assert reading.posterior is None
    assert torch.equal(reading.lights.centres, model.generator.slots(reading.prior.at(model.current.noise[0])).centres)
    assert out.kl == 0
    sparse = out.entropy + out.volume
    torch.testing.assert_close(out.loss, out.cross_entropy + 0.1 * sparse)


def test_no_sparsity_leaves_its_losses_out(trained):
    model, batch, labels = trained(variant="no-sparsity")
    out = model(**batch.inputs, labels=labels)
    assert out.volume > 0
    torch.testing.assert_close(out.loss, out.cross_entropy + 0.1 * out.kl)


def test_full_sequence_weighs_text_as_well_as_visual_tokens(make, encode, maps_of, split):
    model = make(variant="full-sequence")
    batch = encode(model.vlm, None)
    (maps, *_), layout = maps_of(model, split(batch)), batch.layouts[0]
    own = maps[0, batch.pad[0] :]
    torch.testing.assert_close(own.sum(), torch.tensor(1.0))
    text = np.setdiff1d(np.arange(len(layout)), layout.visual)
    assert (own[torch.from_numpy(text)] > 0).all()
    assert model.spotlights(tiny_samples(1)[0])[0, 1]["prior"].centres.shape == (4, 1)


def test_deep_only_reads_the_injection_layers_own_input(make, encode):
    model = make(variant="deep-only", pairs=((0, 2),))
    assert model.config.pairs == ((1, 2),)
    batch = encode(model.vlm)
    seen = []
    deep = model.base.get_decoder().layers[2]
    handle = deep.register_forward_pre_hook(lambda _, args, kwargs: seen.append(args[0]), with_kwargs=True)
    with torch.inference_mode():
        reading = model(**batch.inputs).readings[0]
        latent = model.generator(seen[0], batch.inputs["turns"], reading.canvas, posterior=False).prior
    handle.remove()
    assert torch.equal(latent.mean, reading.prior.mean)


def test_mid_feature_mixes_hidden_states_of_visual_tokens_in_place_of_flow(make, encode):
    model = make(variant="mid-feature", alpha=0.25, pairs=((0, 2),))
    batch = encode(model.vlm)
    layers = model.base.get_decoder().layers
    mid, before, after = [], [], []
    handles = [
        layers[0].register_forward_hook(lambda _, __, output: mid.append(output)),
        layers[1].register_forward_hook(lambda _, __, output: before.append(output)),
        layers[2].register_forward_pre_hook(lambda _, args, kwargs: after.append(args[0]), with_kwargs=True),
    ]
    with torch.inference_mode():
        out = model(**batch.inputs)
    for handle in handles:
        handle.remove()
    visual = batch.inputs["input_ids"] == model.vlm.image_token_id
    assert visual.sum() == 48
    torch.testing.assert_close(after[0][visual], 0.75 * before[0][visual] + 0.25 * mid[0][visual])
    assert torch.equal(after[0][~visual], before[0][~visual])
    assert out.readings == ()
    with pytest.raises(UsageError, match="has no spotlights"):
        model.spotlights(tiny_samples(1)[0])


@pytest.mark.parametrize("variant", ["no-posterior", "no-sparsity", "full-sequence", "deep-only", "mid-feature"])
@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_every_variant_answers(family, variant, make, encode, logits_of):
    model = make(family, variant=variant, pairs=((0, 2),))
    batch = encode(model.vlm)
    changed = logits_of(model, batch)
    with model.disable_vif():
        assert not torch.allclose(logits_of(model, batch), changed, atol=1e-3)
    assert [len(ids) for ids in model.vlm.generate(tiny_samples(2), 3)] == [3, 3]
