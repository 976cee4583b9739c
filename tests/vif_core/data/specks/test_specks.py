"""specks: the same scene for the same index, no scene in two splits, answers that are true, and none that is common."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from vif_core.data.specks import SPLITS, Specks
from vif_core.data.specks.questions import KINDS, description, names
from vif_core.data.specks.scenes import IMAGE_PX, Thing
from vif_core.data.specks.words import HELD_OUT_PAIRS, SIZE_PX, vocabulary
from vif_core.errors import UsageError


def thing(**changes) -> Thing:
    return Thing(**{"shape": "star", "colour": "red", "size": "tiny", "x": 8, "y": 16, "side_px": 5, **changes})


def test_a_sample_is_the_same_each_time_it_is_made():
    first, again = Specks("val")[17], Specks("val")[17]
    assert first.images[0].tobytes() == again.images[0].tobytes()
    assert (first.question, first.answer, first.boxes) == (again.question, again.answer, again.boxes)
    assert first.images[0].tobytes() != Specks("val", seed=1)[17].images[0].tobytes()


def test_no_scene_is_in_two_splits_or_twice_in_one():
    hashes = Counter(Specks(split).scene(i)[0].sha for split in SPLITS for i in range(150))
    assert len(hashes) == 150 * len(SPLITS)


def test_held_out_pairs_are_shown_and_asked_about_in_their_split_alone():
    for split in ("train", "val", "test"):
        shown = {(t.shape, t.colour) for i in range(200) for t in Specks(split).scene(i)[0].things}
        assert not shown & HELD_OUT_PAIRS
    for index in range(0, 140, 7):  # attribute questions
        scene, question = Specks("heldout").scene(index)
        asked = [t for t in scene.things if t.box in question.boxes]
        assert all((t.shape, t.colour) in HELD_OUT_PAIRS for t in asked)
    assert len(HELD_OUT_PAIRS) == 8


def test_sizes_and_boxes_lie_where_they_are_declared():
    for index in range(100):
        scene, question = Specks("test").scene(index)
        assert 4 <= len(scene.things) <= 10
        for t in scene.things:
            low, high = SIZE_PX[t.size]
            assert low <= t.side_px <= high
        for x0, y0, x1, y1 in question.boxes:
            assert 0 <= x0 < x1 <= IMAGE_PX
            assert 0 <= y0 < y1 <= IMAGE_PX


def test_every_word_of_questions_and_answers_is_in_the_vocabulary():
    known = set(vocabulary())
    for index in range(350):
        sample = Specks("test")[index]
        for text in (sample.question, sample.answer, sample.system):
            assert set(text.split(" ")) <= known


def test_kinds_take_turns():
    assert [Specks("test")[i].kind for i in range(14)] == [*KINDS, *KINDS]


@pytest.mark.parametrize(("kind", "most"), [("existence", 0.56), ("relation", 0.25), ("count", 0.36), ("text", 0.18)])
def test_no_answer_of_a_kind_is_much_more_common_than_the_others(kind, most):
    first = list(KINDS).index(kind)
    answers = Counter(Specks("val")[i].answer for i in range(first, 7 * 400, 7))
    answer, count = answers.most_common(1)[0]
    assert count / 400 <= most, f"{answer}: {count / 400:.2f}"


def test_answers_are_true_of_the_scene():
    """Each answer is found again from the scene alone."""
    checked = Counter()
    for index in range(420):
        scene, question = Specks("test").scene(index)
        asked = [t for t in scene.things if t.box in question.boxes]
        if question.kind == "count":
            assert question.answer == ("zero", "one", "two", "three")[len(asked)]
        elif question.kind == "text":
            assert question.answer in {t.letter for t in scene.things if t.letter_box in question.boxes}
        elif question.kind == "attribute":
            assert question.answer in (asked[0].colour, asked[0].shape, asked[0].size)
        elif question.kind == "existence":
            assert bool(asked) == (question.answer == "yes")
        elif question.kind == "relation" and question.answer in ("left", "right", "above", "below"):
            (x0, y0), (x1, y1) = (((b[0] + b[2]) / 2, (b[1] + b[3]) / 2) for b in question.boxes)
            step = {"left": (x0 < x1), "right": (x0 > x1), "above": (y0 < y1), "below": (y0 > y1)}
            assert step[question.answer]
        elif question.kind == "describe":
            assert all(names(t, "zcs") in question.answer for t in scene.things)
        checked[question.kind] += 1
    assert set(checked) == set(KINDS)


def test_cells_leave_out_patches_that_an_object_barely_touches():
    assert thing(x=8, y=16).cells == (3, 3, 2, 2)
    assert thing(x=5, y=16, side_px=6).cells == (3, 3, 1, 2)  # 3 px in each column
    assert thing(x=6, y=16, side_px=6).cells == (3, 3, 2, 2)  # 2 px in the first


def test_a_description_says_where_things_are_from_top_to_bottom():
    things = [thing(x=4, y=60), thing(x=4, y=10, colour="orange", size="small", side_px=10), thing(x=80, y=10)]
    assert description(things) == (
        "there are three objects . on the left there is a small orange star , a tiny red star . "
        "in the middle there is nothing . on the right there is a tiny red star ."
    )


def test_an_unknown_split_names_those_there_are():
    with pytest.raises(UsageError, match=r"no split 'dev'; expected one of train, val, test, heldout"):
        Specks("dev")


def test_pictures_are_noisy_and_in_range():
    pixels = np.asarray(Specks("test")[0].images[0])
    assert pixels.shape == (IMAGE_PX, IMAGE_PX, 3)
    assert pixels.dtype == np.uint8
    assert pixels.std() > 5
