"""Packed rows equal as many plain prompts, and a resumed run sees the same rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import LlavaForConditionalGeneration

from vif_core.data.specks.words import vocabulary
from vif_core.train.mini_llava import PIXEL_MEAN, PIXEL_STD, config, draw_weights
from vif_core.train.packing import PackedSpecks, PackOptions, collate

WORD_IDS = {word: i for i, word in enumerate(vocabulary())}


def packs(**options) -> PackedSpecks:
    return PackedSpecks(PackOptions(**options), WORD_IDS, seed=3, stage=1, rows=8)


@pytest.fixture(scope="module")
def model() -> LlavaForConditionalGeneration:
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration(config(layers=2)).eval()
    draw_weights(model)
    return model


@torch.no_grad()
@pytest.mark.parametrize("text_only", [0.0, 1.0], ids=["picture", "scene in words"])
def test_logits_of_a_packed_question_equal_those_of_the_question_alone(model, text_only):
    batch = collate([packs(text_only=text_only, length=420)[2]])
    pixels = (batch["pixels"].float() - PIXEL_MEAN) / PIXEL_STD if "pixels" in batch else None
    packed = model(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        position_ids=batch["position_ids"],
        pixel_values=pixels,
    ).logits[0]
    segment = torch.from_numpy(packs(text_only=text_only, length=420)[2]["segment"])
    prefix = batch["input_ids"][0, segment == 0]
    worst = 0.0
    for number in range(1, int(segment.max()) + 1):
        own = batch["input_ids"][0, segment == number]
        plain = model(input_ids=torch.cat([prefix, own])[None], pixel_values=pixels).logits[0, len(prefix) :]
        worst = max(worst, (plain - packed[segment == number]).abs().max().item())
    print(f"max difference {worst:.1e}")
    assert worst < 1e-5


def test_a_row_does_not_depend_on_the_rows_before_it():
    straight = [packs(text_only=0.5)[i] for i in range(4)]
    again = packs(text_only=0.5)[3]
    assert all(np.array_equal(straight[3][key], again[key]) for key in again)


def test_the_loss_falls_on_answers_alone_unless_asked():
    row = packs()[0]
    told = row["labels"] >= 0
    assert told.any()
    assert (row["weights"][~told] == 0).all()
    assert set(np.unique(row["kind"][told])) - {-1}
    ids = row["input_ids"]
    first_answers = np.flatnonzero(told & ~np.roll(told, 1))
    assert (ids[first_answers - 1] == WORD_IDS["ASSISTANT:"]).all()
    assert (packs(text_only=1.0, text_weight=0.1)[0]["weights"] == np.float32(0.1)).sum() > 100


def test_reasons_come_before_the_answer_where_there_are_some():
    words = vocabulary()
    row = packs(reasons=True, kinds={"relation": 1.0})[0]
    segment, labels = row["segment"], row["labels"]
    answer = [words[i] for i in labels[(segment == 1) & (labels >= 0)]]
    assert [word.partition("-")[0] for word in answer[:6]] == ["row", "column", "and", "row", "column", ","]
    assert answer[6] in ("left", "right", "above", "below", "yes", "no")


def test_a_blind_row_shows_no_scene():
    row = packs(blind=True)[0]
    assert "pixels" not in row
    assert not {WORD_IDS["<image>"], WORD_IDS["scene"]} & set(row["input_ids"].tolist())


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="unknown question kinds"):
        PackOptions(kinds={"colour": 1.0})
