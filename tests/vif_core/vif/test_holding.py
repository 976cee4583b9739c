"""Spotlights that are held stand in for those of later prefills."""

from __future__ import annotations

import pytest
import torch

from vif_core.errors import UsageError
from vif_core.vif import VIFConfig, add_vif
from vif_core.vlm.tiny import tiny_model, tiny_samples


@pytest.fixture
def vif():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return add_vif(tiny_model("llava"), VIFConfig(pairs=((0, 1), (1, 2)), slots=4, width=16, depth=1))


def told(vif, samples, draw="prior-mean"):
    """Logits and readings of a pass over prompts with answers."""
    answers = [vif.vlm.response_ids(word) for word in ("red", "five", "no")[: len(samples)]]
    with torch.inference_mode(), vif.drawing(draw):
        logits = vif.base(**vif.vlm.encode(samples, answers).inputs).logits
    return logits, vif.current.readings


def test_held_maps_of_the_posterior_give_the_posteriors_pass_from_the_prior(vif):
    samples = tiny_samples(3)
    wanted, readings = told(vif, samples, "posterior-mean")
    own, _ = told(vif, samples)
    with vif.holding({deep: reading.lights for deep, reading in readings.items()}):
        held, now = told(vif, samples)
    assert not torch.allclose(own, wanted)
    assert torch.equal(held, wanted)
    assert torch.equal(now[2].prior.mean, readings[2].prior.mean), "the latents are read as ever"
    assert torch.equal(told(vif, samples)[0], own), "outside the block maps are their own again"


def test_a_prompt_that_is_generated_from_keeps_the_held_maps(vif):
    samples = tiny_samples(2)
    _, readings = told(vif, samples, "posterior-mean")
    with vif.holding({deep: reading.lights for deep, reading in readings.items()}):
        vif.vlm.generate(samples, 3)
        assert torch.equal(vif.current.readings[2].lights.centres, readings[2].lights.centres)


def test_layers_that_are_not_held_make_their_own_maps(vif):
    samples = tiny_samples(2)
    _, readings = told(vif, samples, "posterior-mean")
    with vif.holding({1: readings[1].lights}):
        _, now = told(vif, samples)
    assert now[1].lights is readings[1].lights
    assert not torch.equal(now[2].lights.centres, readings[2].lights.centres)


def test_spotlights_of_another_number_of_turns_are_refused(vif):
    _, readings = told(vif, tiny_samples(3), "posterior-mean")
    with (
        vif.holding({deep: reading.lights for deep, reading in readings.items()}),
        pytest.raises(UsageError, match="spotlights of 3 turns held over a batch with 2; expected one for each turn"),
    ):
        told(vif, tiny_samples(2))
