"""What is measured of a batch is what the parts of the house say of it, one by one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from vif_core.data.open import open_source
from vif_core.vif import VIFConfig, add_vif
from vif_core.vif.losses import kl_divergence
from vif_core.vlm.layout import box_weights
from vif_core.vlm.tiny import tiny_model
from vifscope.ablation.measures import FLOW, answer_rows, flow_rows, made, map_rows, posterior_lights
from vifscope.evidence.answers import answer
from vifscope.scoring.answers import score_response


def with_vif(**options):
    vlm = tiny_model("llava")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vif = add_vif(vlm, VIFConfig(pairs=((0, 1), (1, 2)), slots=4, width=16, depth=1, **options))
    with torch.no_grad():
        vif.generator.slots.read.weight.mul_(8)  # maps that differ from question to question
    return vlm


@pytest.fixture(scope="module")
def vlm():
    return with_vif()


@pytest.fixture(scope="module")
def samples(data):
    source = open_source(data)
    return [source[i] for i in range(4)]


def test_answers_are_those_of_the_model_scored_by_the_rule_of_their_kind(vlm, samples):
    rows = answer_rows(vlm, samples)
    said = answer(vlm, samples, 16 + 2 * len("ab"))
    scored = [score_response(sample, text) for sample, text in zip(samples, said, strict=True)]
    assert [(row["response"], (row["correct"], row["score"])) for row in rows] == list(zip(said, scored, strict=True))


def test_flow_is_a_value_a_layer(vlm, samples):
    rows = flow_rows(vlm, samples)
    assert all(len(row[name]) == 3 for row in rows for name in FLOW)
    assert all(ratio >= 0.5 for row in rows for ratio in row["visual_ratio"][1:]), "at least alpha where injected"


def test_map_numbers_equal_those_of_each_sample_alone(vlm, samples):
    together = map_rows(vlm, samples)
    for sample, row in zip(samples, together, strict=True):
        (alone,) = map_rows(vlm, [sample])
        for name, values in alone.items():
            assert np.allclose(row[name], values, rtol=1e-4, atol=1e-5), name


def test_lift_entropy_and_centre_of_a_map_by_hand(vlm, samples):
    sample = samples[0]
    batch = vlm.encode([sample], [[*vlm.response_ids("ab"), vlm.tokenizer.eos_token_id]])
    with torch.inference_mode(), vlm.vif.drawing("posterior-mean"):
        vlm.vif.base(**batch.inputs)
    reading = vlm.vif.current.readings[2]
    used, layout = reading.prior_maps[0].double().numpy(), batch.layouts[0]
    weights = box_weights(layout.grids, len(layout.visual), sample.boxes)
    (row,) = map_rows(vlm, [sample])
    assert row["map_box_lift"][1] == pytest.approx((used * weights).sum() / weights.mean(), rel=1e-4)
    assert row["map_entropy"][1] == pytest.approx(-(used * np.log(used)).sum(), rel=1e-4)
    down = (np.arange(4).repeat(4) + 0.5) / 4
    assert row["centre"][1][0] == pytest.approx((used * down).sum(), rel=1e-4)
    assert row["kl_nats"][1] == pytest.approx(kl_divergence(reading.posterior, reading.prior).sum().item(), rel=1e-4)


def test_without_a_posterior_there_is_no_kl(samples):
    rows = map_rows(with_vif(variant="no-posterior"), samples)
    assert set(rows[0]) == {"map_entropy", "map_box_lift", "centre"}


def test_maps_over_the_whole_sequence_are_measured_on_the_picture_alone(samples):
    rows = map_rows(with_vif(variant="full-sequence"), samples)
    assert all(0 <= value <= np.log(16) + 1e-6 for row in rows for value in row["map_entropy"])
    assert all(len(row["centre"][0]) == 2 for row in rows)


def test_an_unknown_target_has_no_lift(vlm, samples):
    rows = map_rows(vlm, [replace(samples[0], boxes=()), samples[1]])
    assert rows[0]["map_box_lift"] == [None, None]
    assert None not in rows[1]["map_box_lift"]


def lights_in_use(vlm, samples, maps):
    with made(vlm, samples, maps):
        answer_rows(vlm, samples)
        return vlm.vif.current.readings[1].lights.centres


def test_maps_are_made_as_asked_and_as_ever_afterwards(vlm, samples):
    own = lights_in_use(vlm, samples, "trained")
    assert torch.equal(lights_in_use(vlm, samples, "posterior"), posterior_lights(vlm, samples)[1].centres)
    assert not torch.equal(lights_in_use(vlm, samples, "draw"), own)
    assert torch.equal(lights_in_use(vlm, samples, "draw"), lights_in_use(vlm, samples, "draw"))
    assert torch.allclose(lights_in_use(vlm, samples, "swapped"), own.roll(-1, 0), atol=1e-5)
    assert torch.equal(lights_in_use(vlm, samples, "trained"), own)
