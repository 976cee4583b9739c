"""What belongs to which turn: its rows, the text that its prior and posterior may see, and where visual tokens lie."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vif_core.vif.turns import NONE, grid_places, turns_of, turns_of_layouts
from vif_core.vlm.layout import ImageGrid
from vif_core.vlm.tiny import tiny_model, tiny_samples

# position:       0   1  2  3  4  5  6  7  8  9  10 11 12
TURN = np.array([[-1, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2]])
VISUAL = np.array([[0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0]], dtype=bool)
ANSWER = np.array([[0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 1]], dtype=bool)
"""Padding, a system token, four visual tokens, a question of 2 and its answer of 2, a question of 2 and an answer."""

GRID = ImageGrid(0, "image", 2, 2, 0, 2, (0, 0, 20, 20))


def places(count=1):
    return [grid_places([GRID], 4)] * count


@pytest.fixture
def turns():
    return turns_of(TURN, ANSWER, VISUAL, places())


def listed(positions):
    return [[position for position in row if position != NONE] for row in positions.tolist()]


def test_each_question_with_its_answer_is_a_turn(turns):
    assert len(turns) == 2
    assert turns.sample.tolist() == [0, 0]
    assert turns.of[0].tolist() == [NONE] * 6 + [0] * 4 + [1] * 3


def test_no_prior_sees_a_response(turns):
    assert listed(turns.prior) == [[1, 6, 7], [1, 6, 7, 10, 11]]


def test_a_posterior_sees_its_own_answer_and_no_other(turns):
    assert listed(turns.posterior) == [[1, 6, 7, 8, 9], [1, 6, 7, 10, 11, 12]]


def test_a_turn_that_waits_for_its_answer_has_no_posterior():
    assert turns_of(TURN, np.zeros_like(ANSWER), VISUAL, places()).posterior is None


def test_text_before_the_image_takes_no_map():
    visual = np.roll(VISUAL, 5, axis=1)  # the picture in the middle of the first question
    turn = np.where(visual, 1, TURN)
    turns = turns_of(turn, ANSWER & ~visual, visual, places())
    assert (turns.of[0, :11] == NONE).all()


def test_a_turn_sees_the_images_before_its_rows_alone():
    """Two pictures, the second of which comes with the second question."""
    turn = np.array([[1, 1, 1, 1, 2, 2, 2]])
    visual = np.array([[1, 1, 0, 0, 1, 1, 0]], dtype=bool)
    wide = ImageGrid(0, "image", 1, 2, 0, 2, (0, 0, 20, 10))
    second = ImageGrid(1, "image", 1, 2, 2, 2, (0, 0, 20, 10))
    turns = turns_of(turn, np.zeros_like(visual), visual, [grid_places([wide, second], 4)])
    assert turns.seen.tolist() == [[True, True, False, False], [True] * 4]
    assert turns.visual.tolist() == [[0, 1, 4, 5]]
    assert turns.ahead
    assert turns.repeated(2).ahead


def test_text_between_the_images_of_a_turn_is_known():
    wide = [ImageGrid(i, "image", 1, 2, 2 * i, 2, (0, 0, 20, 10)) for i in (0, 1)]
    visual = np.array([[1, 1, 0, 1, 1, 0]], dtype=bool)
    turns = turns_of(np.ones((1, 6), dtype=int), visual & False, visual, [grid_places(wide, 4)])
    assert turns.of.tolist() == [[NONE, NONE, 0, NONE, NONE, 0]]
    assert turns.seen.all()
    assert not turns.ahead
    assert not turns.repeated(2).ahead


def test_a_sequence_of_text_alone_has_no_turns():
    turns = turns_of(TURN, ANSWER, VISUAL & False, [grid_places([], 0)])
    assert len(turns) == 0
    assert (turns.of == NONE).all()


def test_text_beside_a_picture_in_one_batch():
    both = turns_of(
        np.repeat(TURN, 2, 0),
        np.repeat(ANSWER, 2, 0),
        np.concatenate([VISUAL & False, VISUAL]),
        [grid_places([], 0), *places()],
    )
    assert both.sample.tolist() == [1, 1]
    assert (both.of[0] == NONE).all()
    assert both.visual.tolist() == [[NONE] * 4, [2, 3, 4, 5]]


def test_centres_lie_in_the_middle_of_patches_and_newlines_nowhere():
    tiles = ImageGrid(0, "tile", 2, 4, 0, 5, (0, 0, 40, 20))
    centres, extent = grid_places([tiles], 10)
    assert centres[0].tolist() == [0.25, 0.125]  # ((row + 0.5) / 2, (col + 0.5) / 4)
    assert centres[8].tolist() == [0.75, 0.875]
    assert np.isnan(centres[[4, 9]]).all()
    assert extent[0].tolist() == [0.5, 1.0]


def test_the_first_row_with_a_map_is_known(turns):
    assert turns.first == 6


def test_repeated_sequences_have_turns_of_their_own(turns):
    two = turns_of(
        np.concatenate([TURN, TURN.clip(max=1)]),
        np.concatenate([ANSWER, ANSWER]),
        np.concatenate([VISUAL] * 2),
        places(2),
    )
    again = two.repeated(3)
    assert again.sample.tolist() == [0, 0, 1, 1, 2, 2, 3, 4, 5]
    assert again.of[:, 7].tolist() == [0, 2, 4, 6, 7, 8]
    assert again.of[:, 12].tolist() == [1, 3, 5, 6, 7, 8]
    assert (again.of[:, :6] == NONE).all()
    assert listed(again.prior)[2:5] == [*listed(turns.prior), listed(turns.prior)[0]]
    for name in ("visual", "points", "extent"):
        assert torch.equal(getattr(again, name), getattr(two, name).repeat_interleave(3, 0))
    assert again.to(torch.device("cpu")).seen.shape == (9, 4)


def test_samples_have_one_turn_each_whose_question_ends_where_the_response_starts():
    vlm = tiny_model("llava")
    batch = vlm.encode(tiny_samples(3), [[20, 30], [40], [50, 60, 70]])
    turns = turns_of_layouts(batch.layouts, batch.length)
    for b, (layout, pad) in enumerate(zip(batch.layouts, batch.pad, strict=True)):
        start = pad + layout.response_start
        assert max(listed(turns.prior)[b]) == start - 1
        assert sorted(set(listed(turns.posterior)[b]) - set(listed(turns.prior)[b])) == list(range(start, batch.length))
        assert (turns.of[b, start:] == b).all()
    prefill = turns_of_layouts(batch.layouts, batch.length, responses=False)
    assert [(prefill.of[b] == b).sum().item() for b in range(3)] == [
        (turns.of[b] == b).sum().item() - n for b, n in enumerate((2, 1, 3))
    ]
