"""The model that ships answers because it looks, and its card tells the truth."""

from __future__ import annotations

import json

import pytest
from safetensors import safe_open

from vif_core.data.specks import Specks
from vif_core.data.specks.questions import KINDS
from vif_core.load import EMBEDDED, load
from vifscope import api
from vifscope.evidence.answers import answer_all
from vifscope.evidence.blind import accuracy_by_kind, blank
from vifscope.evidence.card import LOOKS
from vifscope.evidence.knockout import box_knockout

FOLDER = EMBEDDED["mini-llava"]
CARD = json.loads((FOLDER / "card.json").read_text())


@pytest.fixture(scope="module")
def vlm():
    return load("mini-llava")


def test_it_is_a_real_llava_of_sixteen_layers_in_bf16(vlm):
    assert type(vlm.model).__name__ == "LlavaForConditionalGeneration"
    assert (vlm.num_layers, vlm.num_heads) == (16, 4)
    weights = FOLDER / "model.safetensors"
    assert weights.stat().st_size <= 12_000_000
    with safe_open(weights, "pt") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"BF16"}  # noqa: SIM118


def test_the_chat_template_writes_the_prompt_that_it_was_trained_on(vlm):
    sample = Specks("test")[0]
    assert vlm.prompt_text(sample) == f"{sample.system} USER: <image>\n{sample.question} ASSISTANT:"
    layout = vlm.encode([sample]).layouts[0]
    grid = layout.grids[0]
    assert (grid.rows, grid.cols, len(layout.visual)) == (12, 12, 144)
    assert vlm.tokenizer.unk_token_id not in layout.input_ids


def test_it_finds_what_it_is_asked_for(vlm):
    samples = [Specks("test")[i] for i in range(70)]
    right = accuracy_by_kind(samples, answer_all(vlm, samples))
    assert right["overall"] >= 0.75, right


@pytest.mark.slow
def test_the_accuracy_on_the_card_is_what_is_measured(vlm):
    samples = [Specks("test")[i] for i in range(700)]
    measured = accuracy_by_kind(samples, answer_all(vlm, samples))
    for kind in ("overall", *KINDS):
        claimed = CARD["accuracy"]["test"][kind]
        n = 700 if kind == "overall" else 100
        assert abs(measured[kind] - claimed) <= 3 * (claimed * (1 - claimed) / n) ** 0.5 + 0.01, kind
    blind = accuracy_by_kind(samples, answer_all(vlm, [blank(sample) for sample in samples]))
    assert measured["overall"] - blind["overall"] >= 0.4


@pytest.mark.slow
def test_it_looks_at_the_target_and_loses_the_answer_without_it(vlm, tmp_path):
    samples = [s for s in (Specks("test")[i] for i in range(420)) if s.kind in LOOKS]
    cut = box_knockout(vlm, samples)
    shares = cut[["clean", "target", "distractor"]].mean()
    assert shares["clean"] - shares["target"] >= 0.4, shares
    assert shares["clean"] - shares["distractor"] <= 0.05, shares
    run = api.analyze(vlm, Specks("test"), 140, tmp_path / "run", figures=False)
    assert max(layer["box_lift"] for layer in run.summary_dict()["layers"]) >= 5
