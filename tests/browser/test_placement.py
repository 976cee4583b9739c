"""Maps of pictures that are no squares, of padded grids, undefined layers, and runs of other depths."""

from __future__ import annotations

import runpy
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from vifscope_browser.catalogue import Catalogue

pytestmark = pytest.mark.browser

made = runpy.run_path(str(Path(__file__).parents[1] / "vifscope" / "conftest.py"))
WIDE, HIGH = 100, 50
RECT = [0.0, -25.0, 100.0, 75.0]  # padded above and below to a square
NAN, ZERO = 3, 5


def record(layers, rect):
    found = made["sample_record"](0, layers=layers)
    encoded = BytesIO()
    Image.new("RGB", (WIDE, HIGH), "gray").save(encoded, "PNG")
    grids = [grid | {"rect_px": rect} for grid in found.sample["images"]]
    flow = found.flows["raw"]
    flow.maps[NAN] = np.nan
    for values in flow.layers.values():
        values[NAN] = np.nan
    flow.maps[ZERO] = 0
    return replace(found, sample=found.sample | {"images": grids}, pictures=[encoded.getvalue()])


@pytest.fixture(scope="module")
def opened(tmp_path_factory, serving):
    """Opens a sample of two runs, of so many layers and such rectangles, on a page."""

    def address(*kinds):
        folders = [tmp_path_factory.mktemp("runs") / f"run-{i}" for i in range(len(kinds))]
        for folder, kind in zip(folders, kinds, strict=True):
            made["write_run"](folder, [record(*kind)], None)
        catalogue = Catalogue.open(folders)
        return f"{serving(catalogue)}/sample?sample={catalogue.samples.index[0]}&layer="

    return address


def show(page, address, layer):
    page.goto(f"{address}{layer}")
    page.wait_for_function(f"document.querySelector('#panels')?.dataset.layer === '{layer}'")


def ends(page, panel):
    return page.locator("#panels .bar").nth(panel).inner_text().strip()


def test_a_padded_grid_reaches_over_its_picture(page, opened):
    show(page, opened((16, RECT), (16, RECT)), 0)
    names = ["img", "canvas", ".ruler i"]
    boxes = "(names) => names.map((name) => document.querySelector(`#panels ${name}`).getBoundingClientRect().toJSON())"
    picture, canvas, ruler = page.evaluate(boxes, names)
    assert picture["width"] == pytest.approx(2 * picture["height"], rel=0.01)
    assert canvas["width"] == pytest.approx(picture["width"], abs=1)
    assert canvas["height"] == pytest.approx(2 * picture["height"], abs=1)
    assert picture["y"] - canvas["y"] == pytest.approx(picture["height"] / 2, abs=1)
    assert ruler["width"] == pytest.approx(picture["width"] * 20 / WIDE, abs=1)
    assert page.locator("#panels .ruler").first.inner_text() == "20 px   visual token 8.33 × 8.33 px"


def test_an_undefined_layer_is_said_to_be_so_and_saved_by_nobody(page, opened):
    show(page, opened((16, RECT), (16, RECT)), NAN)
    assert [ends(page, panel) for panel in range(3)] == [f"Undefined in layer {NAN}."] * 3
    assert page.locator("#panels canvas:visible").count() == 0
    assert "visual ratio –" in page.inner_text("#said")


def test_a_map_of_nothing_is_drawn(page, opened):
    show(page, opened((16, RECT), (16, RECT)), ZERO)
    assert page.locator("#panels canvas:visible").count() == 3
    assert f"layer {ZERO}" in page.inner_text("#said")


def test_a_run_of_fewer_layers_shows_no_other_layer_s_map(page, opened):
    show(page, opened((16, RECT), (8, RECT)), 12)
    assert [page.locator("#panels canvas").nth(panel).is_visible() for panel in range(3)] == [True, False, False]
    assert ends(page, 1) == ends(page, 2) == "Undefined in layer 12."


def test_maps_that_lie_elsewhere_have_no_difference(page, opened):
    show(page, opened((16, RECT), (16, [25.0, 0.0, 75.0, 50.0])), 0)
    assert ends(page, 2) == "The runs' maps lie differently: no difference."
    assert page.locator("#panels canvas:visible").count() == 2


def test_scrolling_with_a_finger_and_other_buttons_choose_no_layer(page, opened):
    address = opened((16, RECT), (16, RECT))
    show(page, address, 2)
    box = page.locator("#spine .area").bounding_box()
    at = (box["x"] + 0.8 * box["width"], box["y"] + 20)
    page.mouse.click(*at, button="right")
    area = page.locator("#spine .area")
    for kind, y in (("pointerdown", at[1]), ("pointermove", at[1] + 40), ("pointercancel", at[1] + 40)):
        area.dispatch_event(kind, {"pointerType": "touch", "button": 0, "clientX": at[0], "clientY": y})
    assert page.get_attribute("#panels", "data-layer") == "2"
    page.mouse.click(*at)
    page.wait_for_function("document.querySelector('#panels').dataset.layer === '12'")


def test_playing_ends_with_the_sample(page, address):
    page.goto(f"{address}/samples")
    page.locator(".card").first.click()
    page.wait_for_selector("#panels canvas")
    page.click("#play")
    page.keyboard.press("j")
    page.wait_for_function("document.querySelector('#play')?.innerText === '▶'")
    layer = page.get_attribute("#panels", "data-layer")
    page.wait_for_timeout(1200)
    assert page.get_attribute("#panels", "data-layer") == layer
