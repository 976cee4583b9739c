"""The page of all figures draws them, and asks nobody for anything."""

from __future__ import annotations

import pytest

from vifscope.drawing import draw
from vifscope.runs import RunStore

pytestmark = pytest.mark.browser


def test_the_page_of_figures_stands_alone(page, run_folders, tmp_path):
    draw([RunStore.open(folder) for folder in run_folders], tmp_path, ["html"], paper=True)
    asked, complaints = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto((tmp_path / "figures.html").as_uri())
    plots = page.locator(".plotly-graph-div")
    assert plots.count() == 4 + 5 + 6
    for number in range(plots.count()):
        plots.nth(number).locator(".main-svg").first.wait_for()
    assert not complaints
    assert not [address for address in asked if not address.startswith(("file:", "data:", "blob:"))]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing is wider than the page"
    page.get_by_role("link", name="Step through samples and layers").last.click()
    page.locator("#map").wait_for()
