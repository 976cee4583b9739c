"""The model with VIF that ships: its maps depend on the question and lie on what it asks about."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from vif_core.data.specks import Specks
from vif_core.load import EMBEDDED, load, load_vif
from vif_core.vlm.layout import box_weights
from vifscope.ablation.measures import flow_rows
from vifscope.ablation.words import card_text
from vifscope.evidence.answers import answer_all
from vifscope.evidence.blind import accuracy_by_kind

FOLDER = EMBEDDED["mini-llava-vif"]
CARD = json.loads((FOLDER / "card.json").read_text())


@pytest.fixture(scope="module")
def model():
    return load_vif("mini-llava-vif")


@pytest.fixture(scope="module")
def asked():
    source = Specks("test")
    kinds = ("attribute", "text", "existence")
    samples = (source[i] for i in range(700))
    return [sample for sample in samples if sample.kind in kinds and len(sample.boxes) == 1][:48]


def test_it_is_small_and_injects_into_the_last_layer(model):
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 15_000_000
    assert model.config.pairs == ((7, 15),)
    assert load("mini-llava-vif").vif is not None


def test_its_maps_lie_on_what_the_question_asks_about(model, asked):
    lift = map_box_lift(model, asked)
    assert lift >= 4, lift


def test_maps_of_other_samples_do_not(model, asked):
    model.maps_from = "swapped"
    try:
        swapped = map_box_lift(model, asked)
    finally:
        model.maps_from = "own"
    assert swapped < 0.5 * map_box_lift(model, asked), swapped


def test_the_map_moves_with_the_question(model):
    source = Specks("test")
    (first, second) = (source[i] for i in (0, 7))
    both = [replace(first, question=first.question), replace(first, question=second.question)]
    one, other = (reading(model, [sample])[0].maps[0] for sample in both)
    assert (one - other).abs().sum() > 0.1


def test_it_narrows_the_attention_of_its_layer_and_of_no_layer_before(model, asked):
    with_vif, without = (
        np.array([row["visual_entropy"] for row in flow_rows(vlm, asked)], dtype=float).mean(0)
        for vlm in (model.vlm, load("mini-llava"))
    )
    assert with_vif[15] < 0.7 * without[15], (with_vif[15], without[15])
    assert with_vif[:15] == pytest.approx(without[:15], abs=0.1)


def test_it_answers(model):
    samples = [Specks("test")[i] for i in range(70)]
    right = accuracy_by_kind(samples, answer_all(model.vlm, samples))
    assert right["overall"] >= 0.75, right


def test_its_card_says_what_it_was_compared_with():
    text = (FOLDER / "README.md").read_text()
    assert CARD["name"] == "mini-llava-vif"
    assert text == card_text(CARD), "its words follow from its numbers"
    for word in ("control", "another sample's", "tiny", "swapped"):
        assert word in text


def reading(model, samples):
    with torch.inference_mode():
        model.base(**model.vlm.encode(samples).inputs)
    assert model.current is not None
    return list(model.current.readings.values())


def map_box_lift(model, samples) -> float:
    grids = [layout.grids for layout in model.vlm.encode(samples).layouts]
    weights = np.stack([box_weights(g, 144, sample.boxes) for g, sample in zip(grids, samples, strict=True)])
    maps = reading(model, samples)[-1].maps.numpy()
    return float(np.mean((maps * weights).sum(1) / weights.mean(1)))
