"""Batches: padding, labels, and turns that see their own question and never an answer before its time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from vif_core.data.conversation import Conversation, Exchange
from vif_core.load import load
from vif_core.train.collate import collate_rows
from vif_core.train.conversations import Reader, conversation_row
from vif_core.train.packed import PackedRows
from vif_core.train.packing import PackOptions
from vif_core.train.rows import IGNORED, SHARED
from vif_core.vif.turns import NONE
from vif_core.vlm.tiny import tiny_model

A, B = Image.new("RGB", (60, 40), "red"), Image.new("RGB", (84, 56), "blue")


def talk(*exchanges, images=(A,)):
    return Conversation("talk", images, tuple(Exchange(*each) for each in exchanges))


TALKS = (
    talk(((None, "One?"), "yes", ((0, 0, 30, 40),)), (("Two?",), "no, sir")),
    talk((("Hi?",), "hello"), images=()),
    talk((("Before?",), "none"), ((None, "And this?"), "red"), images=(B,)),
)


@pytest.fixture(scope="module", params=["llava", "llava_next", "qwen2_5_vl"])
def vlm(request):
    return tiny_model(request.param)


@pytest.fixture(scope="module")
def rows(vlm):
    return [conversation_row(each, Reader.of(vlm), 2048) for each in TALKS]


@pytest.fixture(scope="module")
def batch(vlm, rows):
    return collate_rows(rows, vlm.tokenizer.pad_token_id)


def positions(listed):
    return [int(position) for position in listed if position != NONE]


def test_rows_are_padded_on_the_right(vlm, rows, batch):
    for i, row in enumerate(rows):
        assert batch["inputs"]["input_ids"][i, : len(row)].tolist() == row.input_ids.tolist()
        assert (batch["inputs"]["input_ids"][i, len(row) :] == vlm.tokenizer.pad_token_id).all()
        assert batch["inputs"]["attention_mask"][i].sum() == len(row)
        assert (batch["labels"][i, len(row) :] == IGNORED).all()
        assert (batch["label_weights"][i] > 0).equal(batch["labels"][i] != IGNORED)


@torch.no_grad()
def test_logits_of_a_row_do_not_depend_on_the_others(vlm, rows, batch):
    together = vlm.model(**batch["inputs"]).logits
    for i, row in enumerate(rows):
        alone = vlm.model(**collate_rows([row], vlm.tokenizer.pad_token_id)["inputs"]).logits[0]
        difference = (together[i, : len(row)] - alone).abs().max().item()
        print(f"max difference {difference:.1e}")
        assert difference < 2e-5


def test_turns_with_an_image_before_them_have_maps(rows, batch):
    turns = batch["turns"]
    assert turns.sample.tolist() == [0, 0, 2], "rows of words alone, and turns before the image, have none"
    numbers = [int(rows[b].turn[(turns.of[b, : len(rows[b])] == m).numpy()][0]) for m, b in enumerate(turns.sample)]
    assert numbers == [1, 2, 2]


def test_the_prior_reads_questions_and_never_an_answer(rows, batch):
    turns = batch["turns"]
    for m, number in enumerate((1, 2, 2)):
        row = rows[turns.sample[m]]
        asked = (row.turn <= number) & ~row.answer & ~row.visual
        assert positions(turns.prior[m]) == np.flatnonzero(asked).tolist()
        own = asked | ((row.turn == number) & row.answer)
        assert positions(turns.posterior[m]) == np.flatnonzero(own).tolist()


def test_only_a_turn_s_own_rows_take_its_map(rows, batch):
    turns = batch["turns"]
    for m, number in enumerate((1, 2, 2)):
        row, of = rows[turns.sample[m]], turns.of[turns.sample[m]].numpy()
        after = np.arange(len(row)) > np.flatnonzero(row.visual)[0]
        expected = (row.turn == number) & ~row.visual & after
        assert np.flatnonzero(of == m).tolist() == np.flatnonzero(expected).tolist()


def test_visual_tokens_and_their_places_are_listed(rows, batch):
    turns = batch["turns"]
    for b, row in enumerate(rows):
        assert positions(turns.visual[b]) == np.flatnonzero(row.visual).tolist()
        known = turns.points[b, : len(row.places[0])].numpy()
        assert np.allclose(known, row.places[0], equal_nan=True)
    assert (turns.seen.sum(1) == torch.tensor([rows[b].visual.sum() for b in turns.sample])).all()


def test_covered_tokens_are_known_where_boxes_are(batch):
    covered = batch["covered"]
    assert covered.shape == batch["turns"].seen.shape
    assert covered[0].isfinite().all()
    assert 0 < covered[0].mean() < 1
    assert covered[1:].isnan().all()


def test_a_batch_of_words_alone_has_no_turns_and_no_pictures(vlm, rows):
    batch = collate_rows([rows[1]], vlm.tokenizer.pad_token_id)
    assert len(batch["turns"]) == 0
    assert batch["covered"].shape[0] == 0
    assert "pixel_values" not in batch["inputs"]


def test_skipped_rows_are_summed(vlm, rows):
    rows[0].skipped, before = 2, rows[0].skipped
    assert collate_rows(rows, 0)["skipped"] == 2
    rows[0].skipped = before


@pytest.fixture(scope="module")
def mini():
    return load("mini-llava", device="cpu")


@pytest.fixture(scope="module")
def packed(mini):
    options = PackOptions(length=300, questions=4, kinds={"attribute": 1.0, "text": 1.0})
    return PackedRows.of(mini, options, seed=0, phase=0)


def test_packed_questions_are_turns_that_do_not_see_one_another(mini, packed):
    row = packed[0]
    turns = collate_rows([row], mini.tokenizer.pad_token_id)["turns"]
    assert len(turns) == row.turn.max() == 4
    shared = np.flatnonzero((row.turn == SHARED) & ~row.visual).tolist()
    for m in range(4):
        own = row.turn == m + 1
        asked = np.flatnonzero(own & ~row.answer).tolist()
        answer = np.flatnonzero(own & row.answer).tolist()
        assert positions(turns.prior[m]) == shared + asked
        assert positions(turns.posterior[m]) == shared + asked + answer
        assert np.flatnonzero(turns.of[0].numpy() == m).tolist() == np.flatnonzero(own).tolist()
    words = mini.tokenizer.convert_ids_to_tokens(row.input_ids[row.answer & (row.turn == 1)].tolist())
    assert words[-1] == "</s>"
    assert row.input_ids[np.flatnonzero(row.answer)[0] - 1] == mini.tokenizer.get_vocab()["ASSISTANT:"]


def test_packed_rows_know_where_their_targets_are(mini, packed):
    covered = collate_rows([packed[0], packed[1]], mini.tokenizer.pad_token_id)["covered"]
    assert covered.shape == (8, 144)
    assert ((covered.sum(1) > 0) & (covered.mean(1) < 0.3)).all()


@torch.no_grad()
def test_packed_rows_and_conversations_share_a_batch(mini, packed):
    row = conversation_row(talk(((None, "what colour is the star ?"), "red")), Reader.of(mini), 2048)
    rows = [packed[0], row]
    batch = collate_rows(rows, mini.tokenizer.pad_token_id)
    assert batch["inputs"]["attention_mask"].shape[1] == 1
    together = mini.model(**batch["inputs"]).logits
    for i, own in enumerate(rows):
        alone = mini.model(**collate_rows([own], 0)["inputs"]).logits[0]
        kept = own.turn >= 0
        difference = (together[i, : len(own)][kept] - alone[kept]).abs().max().item()
        print(f"max difference {difference:.1e}")
        assert difference < 1e-4
    assert batch["turns"].sample.tolist() == [0] * 4 + [1]
