"""Training rows are what the model is asked and told: token for token, answers alone, visual tokens whole."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from vif_core.data.conversation import Conversation, Exchange
from vif_core.data.sample import Sample
from vif_core.errors import GridMismatch, SampleError
from vif_core.train.conversations import Reader, conversation_row
from vif_core.train.rows import IGNORED
from vif_core.vlm.tiny import TINY_FAMILIES, tiny_model

A, B = Image.new("RGB", (60, 40), "red"), Image.new("RGB", (84, 56), "blue")


def talk(*exchanges, images=(A,), system=""):
    return Conversation("talk", images, tuple(Exchange(*each) for each in exchanges), system)


@pytest.fixture(scope="module", params=TINY_FAMILIES)
def vlm(request):
    return tiny_model(request.param)


@pytest.fixture(scope="module")
def llava():
    return tiny_model("llava")


def row_of(vlm, conversation, max_length=2048):
    return conversation_row(conversation, Reader.of(vlm), max_length)


def spelled(vlm, row, chosen):
    return vlm.tokenizer.decode(row.input_ids[chosen & ~row.visual].tolist())


@pytest.mark.parametrize("system", ["", "Be brief."])
@pytest.mark.parametrize("images", [(A,), (A, B), ()], ids=["image", "images", "no image"])
def test_a_row_of_one_question_is_the_prompt_and_the_response(vlm, images, system):
    sample = Sample("one", images, "  What is it?", answer="a cat", system=system)
    batch = vlm.encode([sample], [vlm.response_ids("a cat")])
    row = row_of(vlm, Conversation.of(sample))
    assert row.input_ids[:-1].tolist() == batch.layouts[0].input_ids.tolist()
    assert row.input_ids[-1] == vlm.tokenizer.eos_token_id
    assert np.flatnonzero(row.visual).tolist() == batch.layouts[0].visual.tolist()
    for name, values in row.tokens.items():
        assert values[: len(row) - 1].tolist() == batch.inputs[name][0].tolist(), name
    for name, values in row.images.items():
        assert values.equal(batch.inputs[name]), name


def test_no_token_of_paligemmas_prompt_sees_the_answer():
    """Tokens of type 0 see one another both ways, so that an answer of type 0 would tell itself."""
    row = row_of(tiny_model("paligemma"), talk(((None,), "red or blue")))
    assert row.tokens["token_type_ids"].tolist() == row.answer.astype(int).tolist()


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl"])
def test_only_answers_and_their_ends_are_learned(family):
    vlm = tiny_model(family)
    row = row_of(vlm, talk(((None, "One?"), "yes"), (("Two?",), "no, sir")))
    learned = row.labels != IGNORED
    assert vlm.tokenizer.decode(row.labels[learned].tolist()) == "yes</s>no, sir</s>"
    assert (row.labels[learned] == row.input_ids[learned]).all()
    assert (row.weights == learned).all()
    assert (row.answer == learned).all()


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl"])
def test_each_turn_holds_its_question_and_its_answer(family):
    vlm = tiny_model(family)
    row = row_of(vlm, talk(((None, "One?"), "yes"), (("Two?",), "no")))
    for number, question, answer in ((1, "One?", "yes"), (2, "Two?", "no")):
        own = row.turn == number
        assert question in spelled(vlm, row, own & ~row.answer)
        assert spelled(vlm, row, own & row.answer) == answer + "</s>"
    assert set(row.turn) == {1, 2}


@pytest.mark.parametrize("family", ["llava", "llava_next", "qwen2_5_vl"])
def test_the_second_prompt_goes_on_from_the_first_with_its_answer(family):
    vlm = tiny_model(family)
    both = row_of(vlm, talk(((None, "One?"), "yes"), (("Two?",), "no")))
    first = row_of(vlm, talk(((None, "One?"), "yes")))
    assert both.input_ids[: len(first)].tolist() == first.input_ids.tolist()


@pytest.mark.parametrize("family", ["llava", "llava_next", "qwen2_5_vl"])
def test_images_stand_where_they_are_shown(family):
    vlm = tiny_model(family)
    row = row_of(vlm, talk(((None, "One?"), "yes"), (("Is ", None, " it?"), "no"), images=(A, B)))
    turns = row.turn[row.visual]
    assert set(turns) == {1, 2}
    before = spelled(
        vlm, row, (row.turn == 2) & (np.arange(len(row)) < np.flatnonzero(row.visual & (row.turn == 2))[0])
    )
    assert before.replace("<boi>", "").endswith("Is ")
    alone = [row_of(vlm, talk(((None, "One?"), "x"), images=(image,))) for image in (A, B)]
    assert [int((turns == n).sum()) for n in (1, 2)] == [int(each.visual.sum()) for each in alone]
    assert len(row.places[0]) == row.visual.sum()


def test_a_row_without_images_has_words_alone(llava):
    row = row_of(llava, talk((("Hi?",), "hello"), images=()))
    assert not row.visual.any()
    assert row.images == {}
    assert spelled(llava, row, row.turn == 1) == "<s>USER: Hi? ASSISTANT:hello</s>"


def test_a_long_row_ends_with_the_last_answer_that_begins_within_it(llava):
    long = talk(((None, "One?"), "yes"), (("Two?",), "no"), (("Three?",), "maybe"))
    whole = row_of(llava, long)
    third = np.flatnonzero((whole.turn == 3) & ~whole.answer)
    cut = row_of(llava, long, max_length=int(third[5]))
    assert cut.input_ids.tolist() == whole.input_ids[: third[0]].tolist(), "no question without an answer"
    inside = row_of(llava, long, max_length=int(third[-1]) + 3)
    assert spelled(llava, inside, (inside.turn == 3) & inside.answer) == "ma"


def test_visual_tokens_are_never_cut(llava):
    late = talk((("One?",), "yes"), ((None, "Two?"), "no"))
    whole = row_of(llava, late)
    last = int(np.flatnonzero(whole.visual)[-1])
    with pytest.raises(
        SampleError, match=rf"has 16 visual tokens, which end at token {last + 1}; .* max_length {last}"
    ):
        row_of(llava, late, max_length=last)


def test_a_row_whose_answer_does_not_fit_is_refused(llava):
    with pytest.raises(SampleError, match="no answer within 10 tokens"):
        row_of(llava, talk((("What is the meaning of it?",), "42"), images=()), max_length=10)


def test_a_question_without_answer_is_refused(llava):
    with pytest.raises(SampleError, match="sample talk has no answer"):
        row_of(llava, talk((("Hi?",), None), images=()))


def test_target_boxes_are_laid_on_the_grid(llava):
    row = row_of(llava, talk(((None, "One?"), "yes", ((0, 0, 60, 40),)), (("Two?",), "no")))
    assert list(row.covered) == [1]
    assert row.covered[1].shape == (16,)
    assert row.covered[1].min() > 0.9


def test_placeholders_of_the_model_in_words_are_refused():
    vlm = tiny_model("qwen2_5_vl")
    with pytest.raises(SampleError, match="the answer of sample talk holds the image placeholder <image>"):
        row_of(vlm, talk(((None, "One?"), "an <image>")))


@pytest.mark.parametrize("size", [(4000, 10), (10, 4000)])
def test_a_picture_that_the_processor_refuses_costs_one_row(size):
    vlm = tiny_model("qwen2_5_vl")
    with pytest.raises(SampleError, match=r"the processor refuses sample talk \(absolute aspect ratio .* got 400"):
        row_of(vlm, talk(((None, "One?"), "yes"), images=(Image.new("RGB", size),)))


def test_tokens_that_do_not_fit_the_grid_are_an_error():
    vlm = tiny_model("llava")
    vlm.processor.num_additional_image_tokens = 3
    with pytest.raises(GridMismatch, match="18 visual tokens"):
        row_of(vlm, talk(((None, "One?"), "yes")))


def test_a_template_that_rewrites_what_it_wrote_is_refused():
    vlm = tiny_model("llava")
    vlm.tokenizer.chat_template = "{{ messages | length }} {% for m in messages %}{{ m.content }} {% endfor %}"
    with pytest.raises(SampleError, match="rewrites earlier turns of sample talk; expected a template that adds"):
        row_of(vlm, talk(((None, "One?"), "yes"), (("Two?",), "no")))
