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
