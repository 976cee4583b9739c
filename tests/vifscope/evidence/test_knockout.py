"""Knockout of a box: where it is moved, and what it costs a model."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from vif_core.data.sample import Sample
from vif_core.data.specks import Specks
from vif_core.vlm.tiny import tiny_model
from vifscope.evidence.knockout import _moved, _touch, box_knockout


def sample(*boxes, answer="red", side=96) -> Sample:
    return Sample("s", (Image.new("RGB", (side, side)),), "what colour ?", answer, boxes)


def test_the_distractor_keeps_the_targets_shape_and_stays_clear_of_it():
    target = ((10, 20, 30, 34), (40, 20, 46, 26))
    for seed in range(50):
        moved = _moved(sample(*target), np.random.default_rng(seed))
        assert not any(_touch(a, b) for a in moved for b in target)
        shifts = {(m[0] - t[0], m[1] - t[1], m[2] - t[2], m[3] - t[3]) for m, t in zip(moved, target, strict=True)}
        ((dx, dy, dx1, dy1),) = shifts
        assert (dx, dy) == (dx1, dy1)
        assert all(0 <= x0 < x1 <= 96 and 0 <= y0 < y1 <= 96 for x0, y0, x1, y1 in moved)


@pytest.mark.parametrize("boxes", [(), ((2, 2, 94, 94),)], ids=["no box", "no room"])
def test_a_target_that_cannot_be_moved_is_left_out(boxes):
    assert _moved(sample(*boxes), np.random.default_rng(0)) == ()
    assert box_knockout(tiny_model("llava"), [sample(*boxes)]).empty


def test_a_target_that_reaches_over_the_picture_is_left_out():
    assert _moved(sample((-10, 10, 95, 20)), np.random.default_rng(0)) == ()


def test_a_video_has_the_size_of_its_first_frame():
    film = Sample("s", (), "what ?", "red", ((10, 10, 20, 20),), frames=(Image.new("RGB", (96, 64)),))
    ((_, _, x1, y1),) = _moved(film, np.random.default_rng(0))
    assert x1 <= 96
    assert y1 <= 64


def test_each_sample_gets_a_row_with_three_verdicts():
    samples = [s for s in (Specks("val")[i] for i in range(14)) if s.kind in ("attribute", "grounding")]
    frame = box_knockout(tiny_model("llava"), samples, batch_size=2, max_new_tokens=3)
    assert list(frame["sample_id"]) == [s.sample_id for s in samples]
    assert frame[["clean", "target", "distractor"]].dtypes.eq(bool).all()
