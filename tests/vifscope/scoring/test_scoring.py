"""Responses are scored as a reader would."""

import pytest

from vif_core.data.sample import Sample
from vifscope.scoring.answers import exact_match, fact_f1, relaxed_match, score_response
from vifscope.scoring.cells import read_cells
from vifscope.scoring.corners import read_corners
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


def test_a_minus_is_a_hyphen_before_a_number():
    assert relaxed_match("\N{MINUS SIGN}5", "-5")
    assert not relaxed_match("\N{MINUS SIGN}5", "5")


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


BOX = "[10, 20, 110, 220]"


@pytest.mark.parametrize(
    "text",
    [
        BOX,
        "(10,20),(110,220)",
        "10 20 110 220.",
        "[ 10. 20. 110. 220.]",
        '```json\n[\n\t{"bbox_2d": [10, 20, 110, 220], "label": "dog 2"}\n]\n```',
        "<|box_start|>(10,20),(110,220)<|box_end|>",
        '{"x0": 10, "y0": 20, "x1": 110, "y1": 220}',
        "xmin=10, ymin=20, xmax=110, ymax=220",
        "Of 3 dogs, dog 2: [10, 20, 110, 220] or [1, 2, 3, 4]",
        "1. [10, 20, 110, 220]",
    ],
)
def test_places_are_read_from_four_numbers_that_stand_together(text):
    assert read_corners(text) == (10, 20, 110, 220)


@pytest.mark.parametrize(
    "text", ["10, 20, 110", "10, 20, wide 100, high 200", "y0=20, x0=10, y1=220, x1=110", "v1.2.3.4 on 127.0.0.1", ""]
)
def test_other_numbers_are_no_place(text):
    assert read_corners(text) is None


def test_corners_may_be_fractions_and_negative():
    assert read_corners("[0.25, .5, 0.75, 1]") == (0.25, 0.5, 0.75, 1)
    assert read_corners("[-1, \N{MINUS SIGN}2, 3, 4]") == (-1, -2, 3, 4)


@pytest.mark.parametrize(
    ("response", "score"),
    [
        (BOX, 1.0),
        ("[11, 20, 110, 220]", 0.99),
        ('{"bbox_2d": [10, 20, 110, 120]}', 0.5),
        ("[10, 20, 110, 119]", 0.495),
        ("[0.01, 0.02, 0.11, 0.22]", 0.0),
        ("row 1 column 2", 0.0),
        ("10, 20", 0.0),
    ],
    ids=["same", "a pixel off", "half", "less than half", "in another unit", "in words", "a point"],
)
def test_a_place_in_numbers_is_scored_by_overlap_in_the_answer_s_unit(response, score):
    assert score_response(sample(BOX, "grounding"), response) == (score >= 0.5, pytest.approx(score))


@pytest.mark.parametrize(
    "answer", ["3 of 4 dogs, 2 by 2", "[10, 20, 110, 220], [0, 0, 5, 5]", "[110, 220, 10, 20]", "[100, 100, 50, 50]"]
)
def test_an_answer_that_is_no_box_is_matched_in_words(answer):
    assert score_response(sample(answer, "grounding"), answer) == (True, 1.0)
    assert score_response(sample(answer, "grounding"), BOX) == (False, 0.0)


def test_a_box_is_a_place_for_grounding_alone():
    assert score_response(sample(BOX, "count"), "[11, 20, 110, 220]") == (False, 0.0)


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


@pytest.mark.parametrize(
    ("response", "answer", "correct"),
    [
        ("Lyon, France", "Paris, France", False),
        ("Paris, France", "Paris, France", True),
        ("Paris France", "Paris, France", True),
        ("it flew north , Paris, France", "Paris, France", True),
        ("France", "Paris, France", False),
        ("3,200", "1,200", False),
        ("1200", "1,200", True),
        ("3,200", "200", False),
        ("two rows of 600, 1,200", "1,200", True),
    ],
)
def test_a_conclusion_is_as_long_as_the_answer_and_numbers_stay_whole(response, answer, correct):
    assert score_response(sample(answer, "relation"), response)[0] is correct


def test_numbers_in_a_description_stay_whole():
    for response, answer in (("4.7", "4.5"), ("1,300", "1,200"), (".5", "5"), ("\N{MINUS SIGN}5", "5")):
        assert score_response(sample(answer, "describe"), response) == (False, 0.0)
        assert score_response(sample(answer, "describe"), answer) == (True, 1.0)
    assert fact_f1("It costs 4.50, or 1,200 cents.Two of it", "it costs 4.5. Or 1200 cents; two of it") == 2 / 3
