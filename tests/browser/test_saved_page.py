"""A saved page draws what its data hold, in a real browser."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from vifscope.figures.viewer import viewer_html

pytestmark = pytest.mark.browser


@pytest.fixture
def opened(page, catalogue, tmp_path) -> Callable[..., dict[str, Any]]:
    """Opens the page of a sample after changes to its data, and returns these."""
    page.add_init_script("""window.ellipses = [];
        const ellipse = CanvasRenderingContext2D.prototype.ellipse;
        CanvasRenderingContext2D.prototype.ellipse = function (...given) {
            window.ellipses.push(given); return ellipse.apply(this, given); };""")

    def opens(**changes: Any) -> dict[str, Any]:
        text = viewer_html([(catalogue.runs[1].store, catalogue.samples.index[1])])
        held = re.search(r'id="data">(.*?)</script>', text, re.S)[1]
        data = json.loads(held)
        data["samples"][0] |= changes
        file = tmp_path / "sample.html"
        file.write_text(text.replace(held, json.dumps(data)))
        page.goto(file.as_uri())
        page.wait_for_selector("body[data-layer='0']")
        return data["samples"][0]

    return opens


def test_a_wide_picture_keeps_its_shape_and_its_spotlights_are_ellipses(page, opened):
    light = [30.0, 12.0, 8.0, 2.0, 1.0]
    opened(wide=384, high=96, spotlights={"0": {"mid": 0, "prior": [light]}})
    shown = page.evaluate("(c => [c.clientWidth / c.clientHeight, c.width / c.height])(document.getElementById('map'))")
    assert shown[0] == pytest.approx(shown[1], rel=0.01)
    assert page.evaluate("window.ellipses.map(given => given.slice(0, 4))") == [light[:4]]


def test_the_page_says_which_grid_is_shown_and_lets_the_reader_choose(page, opened):
    tiles, thumbnail = (
        {"name": name, "rect": [0, 0, 96, 96], "lines": [], "scale": "", "maps": [[[share, 1 - share]]]}
        for name, share in (("tiles", 0.0), ("thumbnail", 1.0))
    )
    opened(grids=[tiles, thumbnail], of=" of picture 1 of 2")
    assert "Map of the tiles of picture 1 of 2, each layer over its own maximum" in page.inner_text("#legend")
    shown = page.evaluate("document.getElementById('map').toDataURL()")
    page.select_option("#part", "1")
    assert "Map of the thumbnail of picture 1 of 2" in page.inner_text("#legend")
    assert page.evaluate("document.getElementById('map').toDataURL()") != shown


def test_there_is_nothing_to_choose_of_one_grid_and_nothing_drawn_without_any(page, opened):
    opened()
    assert not page.is_visible("#parts")
    assert not page.is_visible("#which")
    opened(grids=[])
    assert "No map" in page.inner_text("#legend")


@pytest.mark.parametrize(
    ("values", "stretches", "dots"), [([0.5], 0, 1), ([0.5, 0.4, None, 0.3, None, 0.2, 0.1], 2, 1), ([None], 0, 0)]
)
def test_a_curve_has_gaps_where_undefined_and_dots_where_a_layer_stands_alone(page, opened, values, stretches, dots):
    opened(depth=len(values), curves={"visual ratio": values}, grids=[])
    drawn = page.evaluate("""[...document.querySelectorAll('#curves polyline')].map(line => line.points.length)""")
    assert [points for points in drawn if points] == [2] * stretches
    assert page.locator("#curves circle").count() == dots
