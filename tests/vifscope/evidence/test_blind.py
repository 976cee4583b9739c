"""Baselines that do not look."""

from __future__ import annotations

import numpy as np
from PIL import Image

from vif_core.data.sample import Sample
from vifscope.evidence.blind import accuracy_by_kind, blank, majority_answers, majority_elsewhere, without_image


def asked(question: str, answer: str | None, kind: str = "attribute") -> Sample:
    return Sample("s", (Image.new("RGB", (4, 2), "red"),), question, answer, kind=kind)


def test_the_majority_answer_is_that_of_the_template_whatever_it_names():
    seen = [
        asked("what colour is the tiny star ?", "red"),
        asked("what colour is the large ring ?", "red"),
        asked("what colour is the small heart ?", "blue"),
        asked("is there a red star ?", "no", "existence"),
    ]
    rule = majority_answers(seen)
    assert rule(asked("what colour is the large circle ?", "?")) == "red"
    assert rule(asked("is there a blue ring ?", "?", "existence")) == "no"
    assert rule(asked("which colour has it ?", "?")) == "red"  # a new template: the kind's majority


def test_a_question_without_an_answer_has_no_say_in_the_majority():
    seen = [asked("is it red ?", "yes"), *(asked("is it red ?", None) for _ in range(3))]
    assert majority_answers(seen)(seen[1]) == "yes"


def test_a_blank_image_keeps_its_size_and_shows_nothing():
    pixels = np.asarray(blank(asked("q", "a")).images[0])
    assert pixels.shape == (2, 4, 3)
    assert (pixels == 127).all()
    assert without_image(asked("q", "a")).images == ()


def test_a_blank_video_keeps_its_frames_and_shows_nothing():
    film = Sample("s", (), "q", frames=(Image.new("RGB", (4, 2), "red"), Image.new("RGB", (4, 2))))
    assert np.array([np.asarray(frame) for frame in blank(film).frames]).tolist() == np.full((2, 2, 4, 3), 127).tolist()
    assert without_image(film).frames == ()


def test_accuracy_counts_each_kind_and_all():
    samples = [asked("q", "red"), asked("q", "blue"), asked("q", "yes", "existence")]
    assert accuracy_by_kind(samples, ["red", "red", "Yes."]) == {"attribute": 0.5, "existence": 1.0, "overall": 2 / 3}


def test_the_majority_elsewhere_is_learned_from_other_images():
    """Every image has its own answer, so that none can be had from the others; twenty agree on a second question."""
    own = [asked("what letter is it ?", str(i), "text") for i in range(20)]
    same = [asked("is there a ring ?", "yes", "existence") for _ in range(20)]
    units = [f"image-{i}" for i in range(20)] * 2
    said = majority_elsewhere([*own, *same], units)
    assert said[20:] == ["yes"] * 20
    assert all(answer != sample.answer for answer, sample in zip(said, own, strict=False))


def test_questions_about_one_image_alone_have_no_majority():
    assert majority_elsewhere([asked("q", "a"), asked("q", "a")], ["image"] * 2) == [None, None]


def test_a_kind_of_question_without_an_answer_elsewhere_has_no_majority():
    samples = [asked("is it ?", "yes", "existence"), asked("q", "a", "text"), asked("is it ?", None, "existence")]
    assert majority_elsewhere(samples, ["one", "two", "two"]) == [None, None, "yes"]
