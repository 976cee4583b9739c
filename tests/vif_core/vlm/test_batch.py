"""Encoded batches: padding, responses, segments, and one bad sample."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from vif_core.data.sample import Sample
from vif_core.errors import GridMismatch, SampleError
from vif_core.vlm.layout import SEGMENTS
from vif_core.vlm.tiny import TINY_FAMILIES, tiny_model, tiny_samples

RESPONSES = [[20, 30], [], [40, 50, 60, 70]]


@pytest.fixture(params=TINY_FAMILIES)
def vlm(request):
    return tiny_model(request.param)


def test_padding_is_on_the_left_and_responses_on_the_right(vlm):
    batch = vlm.encode(tiny_samples(3), RESPONSES)
    assert min(batch.pad) == 0
    for i, (layout, response) in enumerate(zip(batch.layouts, RESPONSES, strict=True)):
        ids, seen = batch.inputs["input_ids"][i], batch.inputs["attention_mask"][i]
        assert ids[batch.pad[i] :].tolist() == layout.input_ids.tolist()
        assert (ids[: batch.pad[i]] == vlm.tokenizer.pad_token_id).all()
        assert seen.tolist() == [0] * batch.pad[i] + [1] * len(layout)
        assert layout.input_ids[layout.response_start :].tolist() == response
        assert len(layout) + batch.pad[i] == batch.length


def test_a_batch_without_responses_is_what_the_processor_gives(vlm):
    samples = tiny_samples(2)
    texts = [vlm.prompt_text(sample) for sample in samples]
    written = texts[0].startswith("<s>")
    images = [sample.open_images() for sample in samples]
    expected = vlm.processor(
        text=texts, images=images, padding=True, add_special_tokens=not written, return_tensors="pt"
    )
    inputs = vlm.encode(samples).inputs
    assert inputs.keys() == expected.keys()
    assert all(torch.equal(inputs[name], expected[name]) for name in inputs)


def test_every_position_has_one_segment(vlm):
    for layout in vlm.encode(tiny_samples(3), RESPONSES).layouts:
        assert layout.segment.shape == layout.input_ids.shape
        visual = np.flatnonzero(layout.segment == SEGMENTS.index("visual"))
        assert visual.tolist() == layout.visual.tolist()
        assert set(layout.input_ids[visual]) == {vlm.image_token_id}
        response = np.flatnonzero(layout.segment == SEGMENTS.index("response"))
        assert response.tolist() == list(range(layout.response_start, len(layout)))
        assert layout.segment[0] == SEGMENTS.index("bos")
        assert SEGMENTS.index("question") in layout.segment


def test_several_images_of_a_sample_have_their_own_grids():
    vlm = tiny_model("qwen2_5_vl")
    one, two = Image.new("RGB", (56, 56)), Image.new("RGB", (84, 28))
    layouts = vlm.encode([Sample("a", (one,), "one?"), Sample("b", (two, one), "two?")]).layouts
    assert [(grid.image, grid.rows, grid.cols) for grid in layouts[0].grids] == [(0, 4, 4)]
    assert [(grid.image, grid.rows, grid.cols) for grid in layouts[1].grids] == [(0, 2, 6), (1, 4, 4)]


def test_a_prompt_without_image_has_no_visual_tokens():
    vlm = tiny_model("llava")
    batch = vlm.encode([Sample("a", (), "hello?")])
    assert len(batch.layouts[0].visual) == 0
    assert batch.layouts[0].grids == ()
    assert "pixel_values" not in batch.inputs


@pytest.mark.parametrize(
    ("bad", "line"),
    [
        (lambda path: Sample("bad", (path / "gone.png",), "what?"), "sample bad: image .*gone.png does not exist"),
        (lambda path: Sample("bad", (PICTURE,), "  "), "sample bad has an empty question"),
    ],
    ids=["missing-image", "empty-question"],
)
def test_a_bad_sample_is_named(tmp_path, bad, line):
    with pytest.raises(SampleError, match=line):
        tiny_model("llava").encode([bad(tmp_path)])


def test_tokens_that_do_not_fit_the_grid_are_an_error_with_both_numbers():
    vlm = tiny_model("llava")
    vlm.processor.num_additional_image_tokens = 3
    line = "grid 4x4 has 16 cells but the prompt holds 18 visual tokens; expected equal counts"
    with pytest.raises(GridMismatch, match=line):
        vlm.encode(tiny_samples(1))


PICTURE = Image.new("RGB", (60, 40))
