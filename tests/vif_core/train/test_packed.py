"""Packed rows of specks for models with its vocabulary."""

from __future__ import annotations

import numpy as np
import pytest

from vif_core.data.specks.words import vocabulary
from vif_core.errors import UsageError
from vif_core.load import load
from vif_core.train.packed import PackedRows
from vif_core.train.packing import PackedSpecks, PackOptions
from vif_core.vlm.tiny import tiny_model

WORD_IDS = {word: i for i, word in enumerate(vocabulary())}


def packed(**options):
    return PackedRows(PackedSpecks(PackOptions(**options), WORD_IDS, seed=3, stage=0, rows=0), WORD_IDS["<image>"])


def test_a_model_with_another_vocabulary_is_refused_and_told_what_to_use():
    with pytest.raises(
        UsageError, match=r"whose tokenizer has no token '.*'; expected a model with the .* specks:train"
    ):
        PackedRows.of(tiny_model("llava"), PackOptions(), seed=0, phase=0)


@pytest.mark.parametrize(
    ("length", "line"),
    [(150, "166 tokens before the first question"), (168, "no question fits into packed rows of 168")],
)
def test_rows_too_short_for_a_question_are_refused(length, line):
    with pytest.raises(UsageError, match=f"{line}.*; expected a greater pack.length"):
        PackedRows.of(load("mini-llava"), PackOptions(length=length), seed=0, phase=0)


@pytest.mark.parametrize("questions", [1, 3])
def test_the_number_of_questions_can_be_limited(questions):
    assert [packed(questions=questions)[i].turn.max() for i in range(3)] == [questions] * 3


def test_a_limited_row_begins_like_a_full_one():
    few, many = packed(questions=2)[1], packed()[1]
    kept = few.turn >= 0
    assert (few.input_ids[kept] == many.input_ids[kept]).all()


def test_answers_and_questions_are_told_apart():
    row = packed(text_weight=0.1, text_only=1.0, length=400)[0]
    assert (row.labels >= 0).sum() > row.answer.sum(), "words of the question may be learned too"
    for number in range(1, row.turn.max() + 1):
        own = np.flatnonzero(row.turn == number)
        first = own[row.answer[own]][0]
        assert row.answer[own].tolist() == (own >= first).tolist()
        assert row.input_ids[first - 1] == WORD_IDS["ASSISTANT:"]


def test_a_scene_in_words_has_no_visual_tokens():
    row = packed(text_only=1.0, length=400)[0]
    assert not row.visual.any()
    assert row.covered == {}
    assert row.images == {}
