from __future__ import annotations

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import same_color
from matplotlib.patches import Rectangle
from PIL import Image

from vifscope.figures import frames
from vifscope.figures.strip import LIGHTS_UNIT, Strip, of_layers, strip_figure
from vifscope.figures.theme import COLUMN_IN, TEXT_IN

LONG = "Which of the objects that lie between the red square and the green circle is the smallest one? " * 9


def map_strip_figure(strip, **how):
    return strip_figure(of_layers(strip), **how)


def captions(figure):
    return [text.get_text() for text in figure.texts]


def test_a_row_is_the_image_and_its_maps(run):
    figure = map_strip_figure(frames.map_strip(run, ["s004", "s005"], [0, 7, 15]))
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == ["image", "layer 0", "layer 7", "layer 15"]
    assert len(figure.axes) == 2 * (4 + 1) + 1  # each row's scale bar, and the colour bar
    assert figure.get_size_inches()[0] == TEXT_IN


def test_what_is_drawn_is_the_frame_on_one_scale(run):
    strip = frames.map_strip(run, ["s004", "s005"], [0, 7])
    figure = map_strip_figure(strip)
    maps = [axes.images[0] for axes in figure.axes[:-1] if axes.images and axes.images[0].get_array().ndim == 2]
    for shown, wanted in zip(maps, strip["map"], strict=True):
        np.testing.assert_allclose(shown.get_array(), wanted)
    assert len({(shown.norm.vmin, shown.norm.vmax) for shown in maps}) == 1
    assert "one square-root scale for all maps" in figure.axes[-1].get_xlabel()


def test_the_target_box_is_drawn_on_every_map(run):
    strip = frames.map_strip(run, ["s004"], [0, 7])
    x0, y0, x1, y1 = strip["boxes"].iloc[0][0]
    image, first, second = map_strip_figure(strip).axes[:3]
    for axes in (first, second):
        (box,) = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
        assert box.get_bbox().extents.tolist() == [x0, y0, x1, y1]
    assert all(patch.get_bbox().extents[0] < x0 for patch in image.patches)  # outside, so that it hides nothing


def test_a_box_ends_with_the_image(run):
    strip = frames.map_strip(run, ["s004"], [0])
    strip["boxes"] = [[[-500.0, 10.0, 500.0, 20.0]]]
    image, shown = map_strip_figure(strip).axes[:2]
    assert shown.patches[0].get_bbox().extents.tolist() == [0, 10, 96, 20]
    assert image.patches[0].get_bbox().extents[2] < 100


def scale_bar(figure):
    (axes,) = [axes for axes in figure.axes if len(axes.lines) == 1]
    return axes


@pytest.mark.parametrize("size", [(96, 96), (640, 480), (100, 900)])
def test_the_scale_bar_is_as_long_as_it_says_on_the_image(run, size, assert_legible):
    strip = frames.map_strip(run, ["s004"], [0, 7])
    strip["picture"] = [Image.new("RGB", size)] * 2
    strip["grid"] = [strip["grid"].iloc[0] | {"rect_px": [0, 0, *size]}] * 2
    figure = map_strip_figure(strip)
    assert_legible(figure)
    bar = scale_bar(figure)
    (words,) = [text.get_text() for text in bar.texts]
    start, end = bar.lines[0].get_xdata()
    assert words.startswith(f"{end - start} px   visual token ")
    figure.draw_without_rendering()
    image, under = figure.axes[0].get_window_extent(), bar.get_window_extent()
    assert (under.x0, under.width, under.y1) == pytest.approx((image.x0, image.width, image.y0), abs=0.1)
    assert bar.get_xlim() == (0, size[0]), "as many pixels of the image as lie above it"


def grid_of(figure):
    return [part for part in figure.axes[0].collections if isinstance(part, LineCollection)]


def test_the_image_has_the_grid_s_lines_unless_they_are_not_wanted(run):
    strip = frames.map_strip(run, ["s004"], [0])
    (lines,) = grid_of(map_strip_figure(strip))
    assert len(lines.get_segments()) == 13 + 13
    assert np.unique(np.array(lines.get_segments())[..., 0]).tolist() == list(range(0, 97, 8))
    assert not grid_of(map_strip_figure(strip, grid=False))


@pytest.mark.parametrize("cells", [12, 24, 64])
def test_lines_cover_little_of_the_image(run, cells):
    strip = frames.map_strip(run, ["s004"], [0])
    strip["grid"] = [strip["grid"].iloc[0] | {"rows": cells, "cols": cells}]
    figure = map_strip_figure(strip)
    (lines,) = grid_of(figure)
    token_pt = 72 / figure.dpi * figure.axes[0].get_window_extent().width / cells
    assert lines.get_linewidth()[0] < 0.11 * token_pt


@pytest.mark.parametrize(("shade", "colour"), [("#222", "white"), ("#eee", "black")])
def test_lines_stand_out_from_dark_and_light_images(run, shade, colour):
    strip = frames.map_strip(run, ["s004"], [0])
    strip["picture"] = [Image.new("RGB", (96, 96), shade)]
    (lines,) = grid_of(map_strip_figure(strip))
    assert same_color(lines.get_colors()[0][:3], colour)


def test_a_caption_has_question_answer_and_response(run):
    sample = run.samples().set_index("sample_id").loc["s004"]
    (caption,) = captions(map_strip_figure(frames.map_strip(run, ["s004"])))
    verdict = "right" if sample["correct"] else "wrong"
    assert caption == f"{sample['question']}   Answer: {sample['answer']}   Response: {sample['response']} ({verdict})"


def test_without_an_answer_a_caption_makes_no_verdict(run_of):
    (caption,) = captions(map_strip_figure(frames.map_strip(run_of(1, answers=False))))
    assert "Answer" not in caption
    assert "right" not in caption
    assert "wrong" not in caption


@pytest.mark.parametrize(
    "question",
    [LONG, "W" * 900, "Is $x^2_{ $ < <b>5</b> & \\alpha?", "物体は何色ですか?" * 20, "two\n\nlines\tand a tab?"],
    ids=["long", "one long word", "mathematics", "glyphs that the font lacks", "white space"],
)
def test_any_question_fits(run_of, question, assert_legible):
    figure = map_strip_figure(frames.map_strip(run_of(2, question=question)))
    assert_legible(figure)
    for caption in captions(figure):
        assert len(caption.splitlines()) <= 4
        assert "Response: " in " ".join(caption.split())


def test_what_looks_like_mathematics_is_drawn_as_written(run_of):
    (caption,) = captions(map_strip_figure(frames.map_strip(run_of(1, question="Is $x_1$ red?"))))
    assert caption.startswith("Is $x_1$ red?")


def test_captions_lie_under_their_panels(run_of, boxes_of_text):
    figure = map_strip_figure(frames.map_strip(run_of(3, question=LONG)))
    texts = [box for name, box in boxes_of_text(figure).items() if name.startswith("Which")]
    panels = [axes.get_window_extent() for axes in figure.axes if axes.axison]
    assert len(texts) == 3
    assert not any(text.y0 < panel.y1 - 1 and panel.y0 + 1 < text.y1 for text in texts for panel in panels)


@pytest.mark.parametrize("size", [(400, 100), (100, 400), (100, 900)])
def test_images_keep_their_shape(run, size, assert_legible):
    strip = frames.map_strip(run, ["s004"], [0, 7])
    strip["picture"] = [Image.new("RGB", size)] * 2
    figure = map_strip_figure(strip)
    assert_legible(figure)
    figure.draw_without_rendering()
    extent = figure.axes[0].get_window_extent()
    assert extent.width / extent.height == pytest.approx(size[0] / size[1], rel=1e-3)


def test_undefined_maps_are_left_blank(run, assert_legible):
    strip = frames.map_strip(run, ["s004"], [0, 7])
    strip["map"] = [np.full((20, 20), np.nan)] * 2
    assert_legible(map_strip_figure(strip))


def test_a_figure_of_one_narrow_map_says_whole_what_its_colours_are(run, assert_legible):
    strip = Strip(of_layers(frames.map_strip(run, ["s004"], [0])).rows, ["question alone"], LIGHTS_UNIT)
    assert_legible(strip_figure(strip, width_in=COLUMN_IN))
