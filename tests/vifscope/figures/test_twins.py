"""Interactive figures show the tables that the drawn ones show, under the same titles and units."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from plotly.colors import sample_colorscale

from vifscope.comparison import Comparison
from vifscope.figures import frames, static, twins
from vifscope.figures.contrast import PANELS
from vifscope.figures.gallery import FIGURES, Gallery
from vifscope.figures.palette import MAP_COLOURS, RUNS
from vifscope.figures.strip import of_lights, of_runs

PAIRS = ((6, 11), (7, 13), (8, 15))


@pytest.fixture(scope="module")
def lit(run_of):
    return run_of(12, model="mini-llava-vif", pairs=PAIRS)


@pytest.fixture(scope="module")
def comparison(run_of, lit):
    return Comparison([run_of(12, model="mini-llava"), lit])


def words_of(figure) -> set[str]:
    """Titles of axes and panels, names in the legend, and words on the figure."""
    layout = figure.layout
    titles = [axis.title.text for axis in (*figure.select_xaxes(), *figure.select_yaxes())]
    named = [trace.name for trace in figure.data if trace.showlegend is not False]
    bars = [layout.coloraxis.colorbar.title.text]
    return {word for word in (*titles, *named, *bars, *(note.text for note in layout.annotations)) if word}


def drawn_words(figure) -> set[str]:
    """The same of a drawn figure; without the numbers of its axes."""
    texts = {text.get_text() for text in figure.findobj(Text) if text.get_visible()}
    return {text for text in texts if text.strip() and not any(char.isdigit() for char in text)}


@pytest.mark.parametrize("name", [name for name in FIGURES if name != "video"])
def test_a_run_s_figures_say_the_same_drawn_and_interactive(lit, name):
    gallery = Gallery(lit)
    captions = {"maps", "spotlights"}  # their lines break elsewhere
    drawn, shown = drawn_words(gallery.figure(name)), words_of(gallery.interactive(name))
    if name in captions:
        drawn = {word for word in drawn if "   " not in word and "Response" not in word}
    assert drawn <= shown


def test_videos_say_the_same_drawn_and_interactive():
    layers, frame = np.meshgrid(np.arange(3), np.arange(4))
    columns = {"layer": layers.ravel(), "frame": frame.ravel(), "visual_ratio": 0.1, "visual_entropy": 2.0}
    table = pd.DataFrame({"sample_id": "a", **columns})
    figure = twins.video_figure(table)
    words = {bar.colorbar.title.text for bar in figure.data} | words_of(figure)
    assert drawn_words(static.video_figure(table)) <= words
    assert [np.shape(bar.z) for bar in figure.data] == [(4, 3), (4, 3)]


@pytest.mark.parametrize("name", ["curves", "differences", "accuracy", "maps"])
def test_comparisons_say_the_same_drawn_and_interactive(comparison, name):
    drawn, shown = drawn_words(comparison.figure(name)), words_of(comparison.interactive(name))
    if name == "accuracy":
        assert comparison.interactive(name).layout.yaxis.ticktext[0] == "all (12)"
    if name == "maps":
        drawn = {word for word in drawn if "   " not in word}
    assert drawn <= shown


def test_the_curves_of_a_run_are_its_frame(run):
    frame = frames.attenuation_frame(run)
    figure = twins.attenuation_figure(frame)
    ratio, lift = [trace for trace in figure.data if trace.fill is None]
    np.testing.assert_allclose(ratio.y, frame["visual_ratio"])
    np.testing.assert_allclose(lift.y, frame["ratio_lift"])
    np.testing.assert_allclose(ratio.customdata, frame[["visual_ratio_low", "visual_ratio_high"]])
    assert [shape.x0 for shape in figure.layout.shapes if shape.type == "rect"] == [11.5] * 2, "deep layers"


def test_without_boxes_the_lift_is_said_to_be_undefined(run_of):
    figure = twins.focus_figure(frames.focus_frame(run_of(3, boxes=False)))
    assert "undefined: no target boxes" in words_of(figure)


def test_shares_are_stacked_to_one(run):
    figure = twins.shares_figure(frames.shares_frame(run))
    assert figure.layout.barmode == "stack"
    np.testing.assert_allclose(np.sum([bar.y for bar in figure.data], 0), 1, rtol=1e-5)


def test_curves_of_several_runs_are_the_frame_with_hollow_marks_where_a_map_holds_them_up(comparison):
    figure = comparison.interactive("curves")
    lines = [trace for trace in figure.data if trace.mode == "lines+markers"]
    assert len(lines) == len(PANELS) * 2
    wanted = [
        comparison.curves.query("metric == @metric and run == @run")["mean"]
        for metric in PANELS
        for run in comparison.names
    ]
    for line, mean in zip(lines, wanted, strict=True):
        np.testing.assert_allclose(line.y, mean)
    hollow = {layer for layer, symbol in enumerate(lines[1].marker.symbol) if symbol == "circle-open"}
    assert hollow == {11, 13, 15}
    assert set(lines[3].marker.symbol) == {"circle"}, "entropy is not held up"


def test_injected_layers_are_marked_at_the_foot_of_each_panel(comparison):
    for name in ("curves", "differences"):
        figure = comparison.interactive(name)
        marks = [trace for trace in figure.data if trace.marker.symbol == "triangle-up" and trace.name is None]
        marks = [trace for trace in marks if len(trace.x)]
        assert len(marks) == len(PANELS)
        for mark in marks:
            assert tuple(mark.x) == (11, 13, 15)
            axis = figure.layout["yaxis" + (mark.yaxis or "y")[1:]]
            assert set(mark.y) == {axis.range[0]}


def test_a_run_keeps_its_colour_beyond_the_last_of_them(run_of):
    comparison = Comparison([run_of(2, model=f"model-{number}") for number in range(8)])
    drawn = {
        name: {trace.name: trace.line.color for trace in comparison.interactive(name).data if trace.line.color}
        for name in ("curves", "differences")
    }
    drawn["accuracy"] = {trace.name: trace.marker.color for trace in comparison.interactive("accuracy").data}
    colours = drawn.pop("curves")
    assert [*colours.values()] == [*RUNS, *RUNS[:2]]
    for own in drawn.values():
        assert own == {name: colour for name, colour in colours.items() if name != "model-0"}


def test_metrics_without_values_are_said_to_be_undefined(run_of):
    comparison = Comparison([run_of(3, boxes=False)] * 2)
    for name in ("curves", "differences"):
        figure = comparison.interactive(name)
        assert [note.text for note in figure.layout.annotations].count("undefined") == 2, "box mass and box lift"
        assert all(np.isfinite(axis.range).all() for axis in figure.select_yaxes())


def test_accuracies_are_the_frame_in_points(comparison):
    (points,) = comparison.interactive("accuracy").data
    np.testing.assert_allclose(points.x, 100 * comparison.accuracy["difference"])
    np.testing.assert_allclose(points.customdata, 100 * comparison.accuracy[["low", "high"]])


def test_maps_are_the_frame_s_where_it_lays_them(comparison):
    """Each value over the same share of the picture, without the rows and columns that repeat."""
    maps = comparison._maps(1)
    figure = comparison.interactive("maps")
    wanted = [shown for _, part in maps.groupby("sample_id", sort=False) for shown in part["map"]]
    assert len(figure.data) == len(wanted)
    for trace, shown in zip(figure.data, wanted, strict=True):
        assert trace.z.shape == (12, 12)
        assert trace.x[-1] - trace.x[0] == pytest.approx(trace.y[-1] - trace.y[0]), "a square picture"
        place = (np.arange(240) + 0.5) / 240
        col = np.searchsorted((trace.x - trace.x[0]) / (trace.x[-1] - trace.x[0]), place) - 1
        row = np.searchsorted((trace.y - trace.y[0]) / (trace.y[-1] - trace.y[0]), place) - 1
        np.testing.assert_allclose(trace.z[np.ix_(row, col)], shown, rtol=1e-6)
    assert figure.layout.coloraxis.cmax == of_runs(maps).largest


def test_colours_are_on_a_square_root_scale(lit):
    scale = dict(Gallery(lit).interactive("maps").layout.coloraxis.colorscale)
    assert scale[0.25] == sample_colorscale(MAP_COLOURS, [0.5])[0]


def test_images_have_their_grid_and_a_scale_bar_of_the_length_it_says(lit):
    figure = Gallery(lit).interactive("maps")
    shapes, image = figure.layout.shapes, figure.layout.images[0]
    paths = [shape.path for shape in shapes if shape.type == "path"]
    assert len(paths) == len(figure.layout.images) == 4
    assert all(path.count("M") == 13 + 13 for path in paths)
    bar = next(shape for shape in shapes if shape.type == "line")
    assert (bar.x1 - bar.x0) / image.sizex * 96 == pytest.approx(20), "of a picture 96 pixels wide"
    assert bar.y0 > image.y + image.sizey
    assert "20 px   visual token 8 × 8 px" in words_of(figure)


def test_each_spotlight_is_an_ellipse_of_one_spread(records_run):
    def stretched(records):
        for record in records:
            record.sample["images"][0]["rect_px"] = [0.0, 0.0, 96.0, 24.0]
        return records

    gallery = Gallery(records_run(12, model="mini-llava-vif", pairs=PAIRS, change=stretched))
    figure = gallery.interactive("spotlights")
    drawn = [shape for shape in figure.layout.shapes if shape.type == "circle"]  # an ellipse to plotly
    radii = [((shape.x1 - shape.x0) / 2, (shape.y1 - shape.y0) / 2) for shape in drawn]
    lights = np.concatenate([light for row in of_lights(gallery.lights).rows for light in row.lights])
    np.testing.assert_allclose(radii, figure.layout.images[0].sizex / 96 * lights[:, 2:4])
    assert lights[0, 2] == pytest.approx(4 * lights[0, 3])


def test_words_of_data_are_no_markup(run_of):
    figure = Gallery(run_of(2, question='Is <b>this</b> & "that" red?')).interactive("maps")
    assert any('Is &lt;b&gt;this&lt;/b&gt; &amp; "that" red?' in note.text for note in figure.layout.annotations)


def test_wide_letters_wrap_sooner(run_of):
    note = max(
        Gallery(run_of(1, question="这是什么" * 60)).interactive("maps").layout.annotations, key=lambda n: len(n.text)
    )
    assert max(map(len, note.text.split("<br>"))) <= twins.TEXT_PX / 12


@pytest.mark.parametrize("layers", [1, 32])
def test_any_depth_can_be_drawn(run_of, layers):
    run = run_of(3, layers=layers)
    for name in ("attenuation", "violins", "focus", "shares", "maps"):
        assert Gallery(run).interactive(name).data
