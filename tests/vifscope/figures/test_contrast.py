from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from vifscope.comparison import Comparison
from vifscope.figures.contrast import PANELS, accuracy_figure, curves_figure, differences_figure
from vifscope.figures.strip import of_runs, strip_figure
from vifscope.figures.theme import DARK, LIGHT, TEXT_IN

PAIRS = ((6, 11), (7, 13), (8, 15))


@pytest.fixture(scope="module")
def comparison(run_of):
    """A model, the same with three injected layers, and one with the layer 14 alone."""
    vif, single = (run_of(12, model=f"mini-llava-{len(pairs)}", pairs=pairs) for pairs in (PAIRS, PAIRS[:1]))
    return Comparison([run_of(12, model="mini-llava"), vif, single])


def draw_all(comparison, theme=LIGHT):
    return [comparison.figure(name, theme) for name in comparison.figures]


def panel(figure, metric):
    (axes,) = (axes for axes in figure.axes if axes.get_title() == PANELS[metric])
    return axes


def hollow(axes):
    return [line for line in axes.lines if line.get_marker() == "o"]


def test_nothing_is_cut_and_nothing_overlaps(comparison, assert_legible):
    for figure in draw_all(comparison, DARK):
        assert_legible(figure)
        assert figure.get_size_inches()[0] == TEXT_IN


@pytest.mark.parametrize("layers", [1, 32])
def test_any_depth_is_legible(run_of, layers, assert_legible):
    for figure in draw_all(Comparison([run_of(3, layers=layers)] * 2)):
        assert_legible(figure)


def test_long_names_of_models_are_legible(run_of, assert_legible):
    runs = [run_of(3, model=f"a-model-with-a-very-long-name-of-$many$-words-{i}") for i in range(5)]
    comparison = Comparison(runs)
    for name in ("curves", "differences", "accuracy", "maps"):
        assert_legible(comparison.figure(name))


def test_the_curves_are_the_frame(comparison):
    figure = curves_figure(comparison.curves)
    for metric in PANELS:
        lines = [line.get_ydata() for line in panel(figure, metric).lines if len(line.get_xdata()) == 16]
        wanted = comparison.curves[comparison.curves["metric"] == metric].groupby("run", sort=False)["mean"]
        np.testing.assert_allclose(lines, [values for _, values in wanted])


def test_the_differences_are_the_frame_and_start_from_no_change(comparison):
    figure = differences_figure(comparison.differences)
    axes = panel(figure, "visual_entropy")
    wanted = comparison.differences.query("metric == 'visual_entropy' and run == 'mini-llava-3' and scope == 'layer'")
    np.testing.assert_allclose(axes.lines[0].get_ydata(), wanted["difference"])
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == pytest.approx((wanted["low"].min(), wanted["high"].max()))
    assert any(list(line.get_ydata()) == [0, 0] for line in axes.lines)


def test_a_run_keeps_its_colour(comparison):
    colours = dict(zip(comparison.names, LIGHT.runs, strict=False))
    drawn = (curves_figure(comparison.curves), differences_figure(comparison.differences))
    for figure in (*drawn, accuracy_figure(comparison.accuracy)):
        (legend,) = figure.legends
        for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True):
            if text.get_text() in colours:
                assert to_hex(handle.get_color()) == colours[text.get_text()]


@pytest.mark.parametrize("metric", PANELS)
def test_what_an_injected_map_holds_up_is_hollow_and_nothing_else_is(comparison, metric):
    drawn = (curves_figure(comparison.curves), differences_figure(comparison.differences))
    for figure in drawn:
        layers = {int(layer) for line in hollow(panel(figure, metric)) for layer in line.get_xdata()}
        assert layers == ({11, 13, 15} if metric in ("visual_ratio", "ratio_lift") else set())
        words = [text.get_text() for text in figure.legends[0].get_texts()]
        assert "held up by the injected map: no finding" in words
        assert "injected layer" in words


def test_without_vif_nothing_is_said_of_injection(run_of):
    comparison = Comparison([run_of(3)] * 2)
    for name in ("curves", "differences"):
        figure = comparison.figure(name)
        assert not any(hollow(axes) for axes in figure.axes)
        assert [text.get_text() for text in figure.legends[0].get_texts()][-1] == "deep layers"


def test_deep_layers_are_shaded(comparison):
    for axes in comparison.figure("curves").axes:
        (shade,) = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
        assert shade.get_x() == 11.5


def test_metrics_without_values_are_said_to_be_undefined(run_of, assert_legible):
    comparison = Comparison([run_of(3, boxes=False)] * 2)
    for name in ("curves", "differences"):
        figure = comparison.figure(name)
        assert_legible(figure)
        for metric in PANELS:
            words = [text.get_text() for text in panel(figure, metric).texts]
            assert words == (["undefined"] if metric.startswith("box") else [])


def test_no_line_of_no_change_strikes_out_what_is_undefined(run_of):
    figure = Comparison([run_of(3, boxes=False)] * 2).figure("differences")
    dashed = {m: [line.get_linestyle() for line in panel(figure, m).lines].count("--") for m in PANELS}
    assert dashed == {metric: 0 if metric.startswith("box") else 1 for metric in PANELS}


def test_accuracies_are_the_frame_with_the_number_of_pairs(comparison):
    axes = accuracy_figure(comparison.accuracy).axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels[0] == "all (12)"
    assert len(labels) == 1 + 4 + 3
    first = comparison.accuracy.query("run == 'mini-llava-3'")
    (points,) = [line for line in axes.lines if line.get_marker() == "o" and to_hex(line.get_color()) == LIGHT.runs[1]]
    np.testing.assert_allclose(points.get_xdata(), 100 * first["difference"])


def test_maps_stand_side_by_side_by_run_and_layer(comparison):
    figure = comparison.figure("maps")
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == ["image", "layer 13", "layer 15", "layer 13", "layer 15"]
    assert [text.get_text() for text in figure.texts][:2] == ["mini-llava", "mini-llava-3"]
    captions = [text.get_text() for text in figure.texts][2:]
    assert len(captions) == 4
    assert all("   mini-llava: " in caption and "   mini-llava-3: " in caption for caption in captions)


def test_what_is_drawn_side_by_side_is_the_frame_on_one_scale(comparison):
    maps = comparison._maps(1)
    figure = strip_figure(of_runs(maps))
    drawn = [axes.images[0] for axes in figure.axes[:-1] if axes.images and axes.images[0].get_array().ndim == 2]
    wanted = [shown for _, sample in maps.groupby("sample_id", sort=False) for shown in sample["map"]]
    for image, shown in zip(drawn, wanted, strict=True):
        np.testing.assert_allclose(image.get_array(), shown)
    assert len({(image.norm.vmin, image.norm.vmax) for image in drawn}) == 1
