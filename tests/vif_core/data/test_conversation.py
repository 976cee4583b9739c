"""Conversations to learn from: every exchange, images in their places, and what was left out is counted."""

import doctest
import json
import os

import pytest
from PIL import Image

from vif_core.data import llava
from vif_core.data.conversation import Conversation
from vif_core.data.open import open_source, open_training
from vif_core.data.sample import Sample
from vif_core.errors import SampleError, UsageError


def said(*texts):
    return [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(texts)]


@pytest.fixture
def opened(tmp_path):
    """Opens rows as a LLaVA file with the pictures a.png and images/b.png beside it."""
    (tmp_path / "images").mkdir()
    Image.new("RGB", (20, 10), "red").save(tmp_path / "a.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "images" / "b.png")

    def open_rows(*rows):
        (tmp_path / "llava.json").write_text(json.dumps(rows))
        return open_training(tmp_path / "llava.json")

    return open_rows


def test_all_exchanges_of_a_row_are_read(opened):
    system = [{"from": "system", "value": "Be brief."}]
    rows = opened(
        {"id": "x/1", "image": "a.png", "conversations": system + said("<image>\nOne?", "yes ", "Two?", "no")}
    )
    (talk,) = [rows[i] for i in range(len(rows))]
    assert (talk.sample_id, talk.system) == ("x-1", "Be brief.")
    assert [(each.question, each.answer) for each in talk.exchanges] == [((None, "One?"), "yes"), (("Two?",), "no")]
    assert [image.size for image in talk.open_images()] == [(20, 10)]


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("<image>\nWhich?", (None, "Which?")),
        ("Which?\n<image>", (None, "Which?")),
        ("Which?", (None, "Which?")),
        ("Is this <image> it?", ("Is this ", None, " it?")),
        ("<image>", (None, "")),
    ],
    ids=["before", "after", "none", "between words", "no words"],
)
def test_an_image_at_either_end_comes_first_and_one_between_words_stays(opened, text, question):
    assert opened({"image": "a.png", "conversations": said(text, "yes")})[0].exchanges[0].question == question


def test_several_images_stand_in_their_questions(opened):
    talk = opened({"image": ["a.png", "b.png"], "conversations": said("<image>One?", "a", "And <image>?", "b")})[0]
    assert [each.question for each in talk.exchanges] == [(None, "One?"), ("And ", None, "?")]
    assert [image.size for image in talk.open_images()] == [(20, 10), (8, 8)], "b.png is found in images/"


def test_rows_of_words_alone_are_kept_without_placeholders(opened):
    talk = opened({"conversations": said("What is <image> in HTML?", "a tag like <image>")})[0]
    assert talk.images == ()
    assert (talk.exchanges[0].question, talk.exchanges[0].answer) == (("What is   in HTML?",), "a tag like")


def test_what_an_assistant_says_first_and_a_last_question_are_left_out(opened):
    turns = said("", "Hello!", "One?", "yes", "Two?")[1:]
    assert [each.answer for each in opened({"conversations": turns})[0].exchanges] == ["yes"]


@pytest.mark.parametrize("role", ["from", "role"])
def test_what_one_says_in_several_entries_is_one_turn(opened, tmp_path, role):
    speakers = {"from": ("human", "gpt"), "role": ("user", "assistant")}[role]
    text = "value" if role == "from" else "content"
    told = [(0, "<image>"), (0, "One?"), (1, "yes"), (1, "surely"), (0, "Two?"), (1, "no")]
    talk = opened({"image": "a.png", "conversations": [{role: speakers[who], text: said} for who, said in told]})[0]
    found = [(each.question, each.answer) for each in talk.exchanges]
    assert found == [((None, "One?"), "yes\nsurely"), (("Two?",), "no")]
    analysed = open_source(tmp_path / "llava.json")[0]
    assert (analysed.question, analysed.answer) == ("One?", "yes\nsurely"), "the same is asked, and given"


@pytest.mark.parametrize("blank", ["", " \n", "<image>"])
def test_a_blank_answer_is_none(opened, tmp_path, blank):
    row = {"image": "a.png", "conversations": said("<image>One?", blank, "Two?", "no")}
    assert [(each.question, each.answer) for each in opened(row)[0].exchanges] == [((None, "Two?"), "no")]
    analysed = open_source(tmp_path / "llava.json")[0]
    assert (analysed.question, analysed.answer) == ("One?", None)
    rows = opened(row, {"conversations": said("One?", blank)})
    assert "1 rows, the first: " in rows.skipped
    assert "entry 2 has no answered question" in rows.skipped


@pytest.mark.parametrize("blank", ["", " "])
def test_a_listing_s_blank_answer_is_none_and_its_blank_question_is_refused(tmp_path, blank):
    Image.new("RGB", (20, 10), "red").save(tmp_path / "a.png")
    rows = [{"image": "a.png", "question": "Which?", "answer": blank}, {"image": "a.png", "question": blank}]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    learned = open_training(tmp_path)
    assert learned[0].exchanges[0].answer is None
    for read in (lambda: learned[1], open_source(tmp_path)[1].open_images):
        with pytest.raises(SampleError, match="sample 000001 has an empty question; expected some text"):
            read()


def test_rows_that_cannot_be_used_are_counted_with_the_first_cause(opened):
    good = {"image": "a.png", "conversations": said("One?", "yes")}
    rows = opened(
        good,
        {"image": "a.png", "conversations": said("<image> or <image>?", "b")},
        {"conversations": []},
        {"image": "a.png", "conversations": said("One?", None)},
        {"image": "a.png"},
    )
    assert len(rows) == 1
    assert rows.skipped.startswith("4 rows, the first: ")
    assert "entry 2 has 1 images and 2 placeholders; expected equal numbers" in rows.skipped
    with pytest.raises(UsageError, match=r"none of the 1 rows .* can be used; the first: .* no answered question"):
        opened({"conversations": []})


@pytest.mark.parametrize("conversation", ["text", [{"from": "human", "value": 3}], ["hello"]])
def test_an_unreadable_conversation_is_refused_with_its_row(opened, conversation):
    with pytest.raises(UsageError, match="entry 1 has no readable conversation"):
        opened({"image": "a.png", "conversations": conversation})


def test_a_missing_picture_costs_its_row_when_it_is_opened(opened):
    talk = opened({"image": "gone.png", "conversations": said("One?", "yes")})[0]
    with pytest.raises(SampleError, match=r"gone\.png does not exist"):
        talk.open_images()


def test_samples_of_other_sources_are_conversations_of_one_exchange(tmp_path):
    Image.new("RGB", (20, 10), "red").save(tmp_path / "a.png")
    (tmp_path / "mine.jsonl").write_text('{"image": "a.png", "question": "Which?", "answer": "red"}')
    for data in (tmp_path, tmp_path / "mine.jsonl"):
        assert open_training(data)[0].exchanges[0].question == (None, "Which?")
    scenes = open_training("specks:train")
    assert (scenes.name, len(scenes)) == ("specks-train", 1_000_000)
    assert scenes[5].exchanges[0].boxes


def test_a_sample_s_images_come_before_its_question():
    picture = Image.new("RGB", (4, 4))
    sample = Sample("s", (picture, picture), " Same? ", "no", ((0, 0, 1, 1),), system="Look.")
    talk = Conversation.of(sample)
    assert (talk.exchanges[0].question, talk.exchanges[0].answer, talk.system) == ((None, None, "Same?"), "no", "Look.")


def test_conversations_of_the_hub_keep_their_turns_and_their_rows_of_words(monkeypatch):
    datasets = pytest.importorskip("datasets") if not os.environ.get("CI") else __import__("datasets")
    turns = [said("<image>One?", "yes", "Two?", "no"), said("Hi?", "hello")]
    rows = datasets.Dataset.from_dict({"image": [Image.new("RGB", (4, 4)), None], "conversations": turns})
    monkeypatch.setattr(datasets, "get_dataset_split_names", lambda *_: ["train"])
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: rows)
    source = open_training("hub:owner/name")
    assert (source.name, len(source)) == ("owner--name-train", 2)
    assert [each.answer for each in source[0].exchanges] == ["yes", "no"]
    assert (source[1].images, source[1].exchanges[0].question) == ((), ("Hi?",))


def test_examples_in_docstrings_hold():
    found = doctest.DocTestFinder().find(llava)
    results = [doctest.DocTestRunner().run(each) for each in found]
    assert sum(result.attempted for result in results) > 0
    assert sum(result.failed for result in results) == 0


def test_a_video_is_not_trained_on():
    with pytest.raises(SampleError, match="sample s is a video; expected images"):
        Conversation.of(Sample("s", (), "What?", frames=(Image.new("RGB", (8, 8)),)))
