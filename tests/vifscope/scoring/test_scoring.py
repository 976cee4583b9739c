"""Responses are scored as a reader would."""

import pytest

from vif_core.data.sample import Sample
from vifscope.scoring.answers import exact_match, fact_f1, relaxed_match, score_response
from vifscope.scoring.cells import read_cells
from vifscope.scoring.iou import iou


def sample(answer, kind=""):
    return Sample("s", (), "?", answer, kind=kind)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((0, 0, 2, 2), (0, 0, 2, 2), 1.0),
        ((0, 0, 2, 2), (2, 0, 4, 2), 0.0),
        ((0, 0, 2, 1), (1, 0, 3, 1), 1 / 3),
        ((1, 1, 1, 1), (1, 1, 1, 1), 0.0),
    ],
    ids=["same", "touching", "a third", "empty"],
)
def test_iou_is_shared_area_over_covered_area(first, second, expected):
    assert iou(first, second) == pytest.approx(expected)
    assert iou(second, first) == pytest.approx(expected)


def test_places_are_read_from_words():
    assert read_cells("it is in Rows 3 to 5, columns 2 to 4 .") == (1, 2, 4, 5)
    assert read_cells("row 1 column 12") == (11, 0, 12, 1)
    assert read_cells("row-7 column-9 to row-10 column-12") == (8, 6, 12, 10)
    assert read_cells("on the left") is None
    assert read_cells("row 3") is None


@pytest.mark.parametrize("response", ["The Red  ball.", "a red ball", " red ball! "])
def test_relaxed_match_ignores_case_punctuation_and_articles(response):
    assert relaxed_match(response, "red ball")
    assert not exact_match(response, "red ball")


def test_an_article_alone_is_still_an_answer():
    assert relaxed_match("A", "a.")
    assert not relaxed_match("A", "B")
    assert not relaxed_match("Plan A", "Plan")


@pytest.mark.parametrize(
    ("one", "other"),
    [("-3", "3"), ("3.5", "35"), ("-", "+"), ("", "<"), ("कि", "का"), ("ไม่", "ไม้"), ("3-5", "-5"), (".5", "5")],
)
def test_signs_points_and_marks_make_a_difference(one, other):
    assert not relaxed_match(one, other)
    assert relaxed_match(one, one)


def test_a_number_may_begin_with_its_point():
    assert relaxed_match("It is .5", "it is 0.5")
    assert relaxed_match("-.5", "-0.5")
    assert relaxed_match("Yes.5", "yes 5"), "a full stop without a space"


def test_commas_between_thousands_make_none():
    assert relaxed_match("1,000 cups.", "1000 cups")
    assert relaxed_match("row-3 column-2", "row 3 column 2")
    assert not relaxed_match("1,2", "12")


def test_a_response_with_more_words_is_not_the_answer():
    assert score_response(sample("red"), "red or blue") == (False, 0.0)


def test_without_an_answer_nothing_is_scored():
    assert score_response(sample(None), "red") == (None, None)


@pytest.mark.parametrize(
    ("response", "correct", "score"),
    [
        ("rows 1 to 2 columns 1 to 2", True, 1.0),
        ("rows 1 to 2 columns 1 to 4", True, 0.5),
        ("rows 1 to 2 columns 2 to 3", False, 1 / 3),
        ("on the left", False, 0.0),
    ],
)
def test_grounding_is_right_from_half_overlap_on(response, correct, score):
    got = score_response(sample("rows 1 to 2 columns 1 to 2", "grounding"), response)
    assert got == (correct, pytest.approx(score))


def test_grounding_without_cells_in_the_answer_is_matched_in_words():
    assert score_response(sample("on the left", "grounding"), "On the left.") == (True, 1.0)


def test_a_description_is_scored_by_the_facts_it_states():
    answer = "there are two objects . on the left there is a red star , a blue ring ."
    assert fact_f1(answer, answer) == 1.0
    assert fact_f1("on the left there is a red star and a blue ring", answer) == pytest.approx(0.8)
    assert fact_f1("a red star", answer) == 0.0
    assert score_response(sample(answer, "describe"), "a blue ring , a blue ring , nothing") == (
        False,
        pytest.approx(1 / 3),
    )


def test_a_relation_is_scored_by_what_it_concludes():
    sample = Sample("s", (), "where is a relative to b ?", "above", kind="relation")
    assert score_response(sample, "row-3 column-2 and row-9 column-4 , above") == (True, 1.0)
    assert score_response(sample, "above") == (True, 1.0)
    assert score_response(sample, "row-3 column-2 and row-9 column-4 , left") == (False, 0.0)
