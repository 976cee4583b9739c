"""Every page is clicked through in a real browser, and what is drawn is what the runs hold.

With VIFSCOPE_SCREENSHOTS=FOLDER each test leaves a picture there.
"""

from __future__ import annotations

import json
import os
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from plotly.colors import sample_colorscale, unlabel_rgb
from vifscope_browser.catalogue import Chosen
from vifscope_browser.content import as_csv

from vifscope.figures.lights import spotlight_frame
from vifscope.figures.viewer import viewer_html

pytestmark = pytest.mark.browser

PANEL = "document.querySelectorAll('#panels figure')[place].panel"
SETTLED = """document.querySelectorAll('#panels[data-layer] figure').length === 3
    && [...document.querySelectorAll('#panels img')].every(each => each.complete)"""
PIXELS = """canvas => {
    const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    return {size: [canvas.height, canvas.width, 4], data: [...data]};
}"""


@pytest.fixture(autouse=True)
def no_errors(page, request):
    """No page may raise, and none may be left without its picture."""
    raised: list[str] = []
    page.set_default_timeout(30_000)
    page.on("pageerror", lambda error: raised.append(str(error)))
    page.on("response", lambda response: raised.append(response.url) if response.status >= 500 else None)
    yield
    if folder := os.environ.get("VIFSCOPE_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{request.node.name.replace('/', '-')}.png", full_page=True)
    assert raised == []


@pytest.fixture
def sample(page, address, catalogue):
    sample_id = catalogue.samples.index[1]
    page.goto(f"{address}/sample?sample={sample_id}&layer=3")
    page.wait_for_function(SETTLED)
    layer_is(page, 3)
    return sample_id


def drawn(page, place: int) -> np.ndarray:
    """The values of a panel's map, once it is sure that its pixels show them."""
    of = f"place => {{ const {{values, low, top, run, looks}} = {PANEL}; "
    found = page.evaluate(f"{of} return {{values: [...values], low, top, shape: run.shape.slice(1), looks}}; }}", place)
    values = np.array(found["values"]).reshape(found["shape"])
    scale = "RdBu_r" if place == 2 else found["looks"]["colours"]
    shares = (values - found["low"]) / (found["top"] - found["low"])
    wanted = [unlabel_rgb(colour) for colour in sample_colorscale(scale, shares.clip(0, 1).ravel())]
    shown = pixels(page, page.locator("#panels figure canvas").nth(place))
    np.testing.assert_allclose(shown[..., :3].reshape(-1, 3), wanted, atol=4)
    return values.astype(np.float32)


def pixels(page, canvas) -> np.ndarray:
    found = canvas.evaluate(PIXELS)
    return np.array(found["data"]).reshape(found["size"])


def layer_is(page, layer: int) -> None:
    page.wait_for_selector(f"#panels[data-layer='{layer}']")
    page.wait_for_function(f"document.querySelector('#said').innerText.includes('layer {layer}:')")


def test_the_overview_shows_runs_layers_and_violins(page, address, catalogue):
    page.goto(address)
    page.wait_for_selector("#violins .scatterlayer path")
    assert page.locator(".findings article").count() == 2
    strip = pixels(page, page.locator("#overview-spine canvas.strip").nth(1))
    assert strip.shape == (12, 16 * 13, 4)
    assert (strip[:, 12::13, 3] == 0).all(), "a clear column after each map"
    for layer, values in enumerate(catalogue.runs[1].mean_maps):
        wanted = [unlabel_rgb(colour) for colour in sample_colorscale("cividis", (values / values.max()).ravel())]
        shown = strip[:, 13 * layer : 13 * layer + 12, :3]
        np.testing.assert_allclose(shown.reshape(-1, 3), wanted, atol=4)
    curves = "[...document.querySelectorAll('#overview-spine path')]"
    ratio = page.evaluate(f"{curves}.find(p => p.run === 'vif' && p.metric === 'visual_ratio').values")
    layers = catalogue.runs[1].layers.groupby("layer")["visual_ratio"].mean()
    assert ratio == pytest.approx(layers.tolist())


def test_clicking_a_layer_of_the_overview_leads_to_its_samples(page, address):
    page.goto(address)
    page.wait_for_selector("#overview-spine canvas.strip")
    plot = page.locator("#overview-spine .area").bounding_box()
    page.mouse.click(plot["x"] + plot["width"] * 5.6 / 16, plot["y"] + 30)
    page.wait_for_url("**/samples?layer=5")
    page.locator(".card").first.click()
    page.wait_for_url("**/sample?sample=*&layer=5")


def test_samples_are_searched_filtered_and_opened(page, address, catalogue):
    page.goto(f"{address}/samples")
    page.wait_for_selector(".card")
    assert page.locator(".card").count() == len(catalogue.samples)
    page.keyboard.press("/")
    page.keyboard.type("letter", delay=40)  # as a quick typist; keys at once change places in the component
    wanted = int(catalogue.samples["question"].str.contains("letter", case=False).sum())
    page.wait_for_function(f"document.querySelector('#count').innerText.startsWith('{wanted} of')")
    page.fill("#search", "no such words")
    page.wait_for_selector("text=No sample fits")


def test_the_way_back_leads_to_the_samples_that_were_asked_for(page, address, catalogue):
    kind = catalogue.samples["kind"].iloc[0]
    wanted = (catalogue.samples["kind"] == kind).sum()
    page.goto(f"{address}/samples")
    page.wait_for_selector(".card")
    page.click("#kind")
    page.locator("[role=option]").get_by_text(kind, exact=True).click()
    said = f"document.querySelector('#count')?.innerText.startsWith('{wanted} of')"
    page.wait_for_function(said)
    page.wait_for_url(f"**/samples?kind={kind}")
    page.locator(".card").first.click()
    page.wait_for_url("**/sample?*")
    page.wait_for_selector("#panels[data-layer]")
    page.go_back()
    page.wait_for_url(f"**/samples?kind={kind}")
    page.wait_for_function(said)
    assert page.inner_text("#kind") == kind


def test_the_heatmaps_are_the_runs_maps_at_every_step(page, sample, catalogue):
    for layer in range(3, 8):
        layer_is(page, layer)
        for place, run in enumerate(catalogue.runs):
            assert np.array_equal(drawn(page, place), run.maps(sample, Chosen())[layer])
        page.keyboard.press("ArrowRight")


def test_the_difference_is_that_of_renormalised_maps(page, sample, catalogue):
    base, vif = (run.maps(sample, Chosen())[3].astype(float) for run in catalogue.runs)
    assert drawn(page, 2) == pytest.approx(vif / vif.sum() - base / base.sum(), abs=1e-6)


def test_a_layer_step_asks_the_server_nothing(page, sample):
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if request.method == "POST" else None)
    page.keyboard.press("ArrowRight")
    layer_is(page, 4)
    page.click("#play")
    page.wait_for_function("Number(document.querySelector('#said').innerText.match(/layer (\\d+):/)[1]) >= 6")
    page.click("#play")
    assert asked == []


def test_scrubbing_the_spine_moves_everything(page, sample):
    strip = page.locator("#spine canvas.strip").first
    strip.scroll_into_view_if_needed()
    plot = strip.bounding_box()
    page.mouse.move(plot["x"] + plot["width"] * 2.6 / 16, plot["y"] + plot["height"] / 2)
    page.mouse.down()
    layer_is(page, 2)
    page.mouse.move(plot["x"] + plot["width"] * 13.6 / 16, plot["y"] + plot["height"] / 2)
    layer_is(page, 13)
    page.mouse.up()
    mark = page.locator("#spine .here").bounding_box()
    label = page.locator("#spine .numbers span").get_by_text("13", exact=True).bounding_box()
    assert mark["x"] + mark["width"] / 2 == pytest.approx(label["x"] + label["width"] / 2, abs=3)
    assert mark["x"] + mark["width"] / 2 == pytest.approx(plot["x"] + plot["width"] * 13.5 / 16, abs=6)
    page.wait_for_function("document.querySelector('#layer [role=slider]').getAttribute('aria-valuenow') === '13'")
    page.wait_for_url("**layer=13*")


def test_a_screen_reader_is_told_what_is_shown(page, sample, catalogue):
    tree = page.locator("main").aria_snapshot()
    values = catalogue.runs[1].maps(sample, Chosen())[3]
    row, col = np.unravel_index(values.argmax(), values.shape)
    for named in (
        *('group "Layer"', 'group "Opacity"', 'group "Head"', 'group "Colour map"', 'button "Play"'),
        *('link "Next sample (j)"', 'link "Previous sample (k)"', f'img "Picture of sample {sample}"'),
        f'img "vif, layer 3: largest {values.max():.3g} in row {row}, column {col}"',
        'img "Maps and metrics of layers 0 to 15: base, vif"',
    ):
        assert named in tree
    assert page.locator("[aria-live=polite]").get_by_text("base, layer 3:").count() == 1


def test_a_token_shows_the_row_that_produces_it(page, sample, catalogue):
    stored = catalogue.runs[0].store.sample(sample)
    place = stored["measured"].index(True)
    page.locator(".tokens button.measured").first.click()
    page.wait_for_function("window.location.search.includes('token=')")
    position = stored["query_rows"][place]
    assert f"token={position}" in page.url
    want = catalogue.runs[0].maps(sample, Chosen(row=position))[3]
    page.wait_for_function(f"(place => {PANEL}.values[0] === {json.dumps(float(want[0, 0]))})(0)")
    assert np.array_equal(drawn(page, 0), want)


def test_a_link_restores_the_view(page, address, sample, catalogue):
    page.goto(f"{address}/sample?sample={sample}&layer=13&head=2")
    page.wait_for_function(SETTLED)
    layer_is(page, 13)
    assert np.array_equal(drawn(page, 1), catalogue.runs[1].maps(sample, Chosen(head=2))[13])


def test_a_patch_shows_its_weight_and_rank_and_who_looks_at_it(page, sample, catalogue):
    plot = page.locator("#panels .stage").first.bounding_box()
    at = plot["x"] + plot["width"] * 7.5 / 12, plot["y"] + plot["height"] * 5.5 / 12
    page.mouse.move(*at)
    values = catalogue.runs[0].maps(sample, Chosen())[3]
    tip = page.inner_text("#panels .tip >> nth=0")
    assert f"rank {1 + (values > values[5, 7]).sum()} of 144" in tip
    assert float(tip.split()[1]) == pytest.approx(values[5, 7], rel=1e-3)
    page.mouse.click(*at)
    page.wait_for_selector("#patch .heatmaplayer image")
    assert "base: patch in row 5, column 7." in page.inner_text("#patch-said")
    assert "rows of text are not" in page.inner_text("#patch-said")


def test_a_map_lies_where_its_grid_lies_on_the_picture(page, sample, catalogue):
    (grid,) = catalogue.runs[0].store.grids(sample)
    wide, high = catalogue.runs[0].store.image_size(sample)
    picture, canvas = (page.locator(f"#panels {name}").first.bounding_box() for name in ("img", "canvas"))
    x0, y0, x1, y1 = grid["rect_px"]
    for side, edge, near, far, whole in (("width", "x", x0, x1, wide), ("height", "y", y0, y1, high)):
        assert (canvas[edge] - picture[edge]) / picture[side] == pytest.approx(near / whole, abs=0.01)
        assert canvas[side] / picture[side] == pytest.approx((far - near) / whole, abs=0.01)
    (box,) = catalogue.runs[0].store.sample(sample)["boxes"]
    rect = page.locator("#panels rect").first
    shown = [float(rect.get_attribute(name)) for name in ("x", "y", "width", "height")]
    assert shown == [box[0], box[1], box[2] - box[0], box[3] - box[1]]


def test_a_token_and_a_head_let_each_other_go_and_say_so(page, address, sample, catalogue):
    page.locator(".tokens button.measured").first.click()
    page.wait_for_selector(".tokens button[aria-pressed='true']")
    page.click("#head")
    page.click("text=Head 2")
    page.wait_for_function("document.querySelector('#said')?.innerText.includes('the token is let go')")
    assert page.locator(".tokens button[aria-pressed='true']").count() == 0
    assert np.array_equal(drawn(page, 0), catalogue.runs[0].maps(sample, Chosen(head=2))[3])
    page.wait_for_url("**head=2*")
    page.locator(".tokens button.measured").first.click()
    page.wait_for_function("document.querySelector('#said').innerText.includes('the head is let go')")
    assert "Mean of heads" in page.inner_text("#head")
    page.goto(f"{address}/sample?sample={sample}&head=1&token=5")
    page.wait_for_function("document.querySelector('#said')?.innerText.includes('the token is let go')")


def test_all_heads_of_the_layer_are_drawn(page, sample):
    page.click("#show-heads")
    page.wait_for_function("document.querySelectorAll('#heads .heatmaplayer image').length === 8")


def test_all_layers_are_drawn_each_over_its_own_maximum(page, sample, catalogue):
    page.click("#show-layers")
    page.wait_for_function("document.querySelectorAll('#layers .heatmaplayer image').length === 32")
    drawn = page.evaluate("document.querySelectorAll('#layers .js-plotly-plot')[1].data.map(trace => trace.z)")
    wanted = catalogue.runs[1].maps(sample, Chosen())
    np.testing.assert_allclose(np.float32(drawn), wanted / wanted.max((1, 2), keepdims=True), atol=1e-5)


def test_the_scale_smoothing_and_opacity_change_what_is_drawn(page, sample, catalogue):
    page.click("#smooth input")
    page.wait_for_function("getComputedStyle(document.querySelector('#panels canvas')).imageRendering === 'auto'")
    page.click("#scale")
    page.click("text=Scale: all layers")
    most = float(catalogue.runs[0].maps(sample, Chosen()).max())
    page.wait_for_function(f"(place => Math.abs({PANEL}.top - {most}) < 1e-6)(0)")
    assert np.array_equal(drawn(page, 0), catalogue.runs[0].maps(sample, Chosen())[3])
    page.locator("#opacity [role=slider]").press("Home")
    page.wait_for_function("getComputedStyle(document.querySelector('#panels canvas')).opacity === '0'")


def test_spotlights_stand_where_the_run_has_them_in_injected_layers_alone(page, address, catalogue):
    sample_id = catalogue.samples.index[1]
    vif = catalogue.runs[1]
    stored = vif.store.sample(sample_id)
    found = spotlight_frame(stored)
    mid, deep = (int(found[name].iloc[0]) for name in ("mid", "deep"))
    found = found[(found["deep"] == deep) & (found["weight"] >= 0.01)]
    ellipses = """place => [...document.querySelectorAll('#panels svg')[place].querySelectorAll('ellipse')].map(
        c => Object.fromEntries([...c.attributes].map(a => [a.name, a.value])))"""
    page.goto(f"{address}/sample?sample={sample_id}&layer={deep}")
    page.wait_for_function(f"{SETTLED} && ({ellipses})(1).length > 0")
    assert f"spotlights made from layer {mid}" in page.inner_text("#said")
    for branch, option in (("prior", None), ("posterior", "Spotlights: with the answer")):
        if option:
            page.click("#lights")
            page.click(f"text={option}")
            page.wait_for_function(f"({ellipses})(1).every(s => s['stroke-dasharray'])")
        own = found[found["branch"] == branch]
        drawn = page.evaluate(ellipses, 1)
        for name, column in (("cx", "x_px"), ("cy", "y_px"), ("rx", "radius_x_px"), ("ry", "radius_y_px")):
            assert [float(s[name]) for s in drawn] == pytest.approx(own[column].tolist(), abs=1e-3)
        assert {s["stroke"] for s in drawn} == {{"prior": "#00e5ff", "posterior": "#ff4fd8"}[branch]}
    assert page.evaluate(ellipses, 0) == page.evaluate(ellipses, 2) == []
    page.keyboard.press("ArrowLeft")
    layer_is(page, deep - 1)
    assert page.evaluate(ellipses, 1) == []


@pytest.mark.parametrize("button", ["png", "svg", "csv", "html"])
def test_the_view_is_saved(page, sample, catalogue, button):
    with page.expect_download() as download:
        page.click(f"#{button}")
    named, data = download.value.suggested_filename, Path(download.value.path()).read_bytes()
    assert named.startswith(f"{sample}-layer-3-" if button in ("png", "svg") else f"{sample}.")
    assert named.endswith(f".{button}")
    if button == "png":
        wide, high = Image.open(BytesIO(data)).size
        assert wide == 900 < high
    if button == "svg":
        assert f"{sample}, layer 3: " in data.decode()
    if button == "csv":
        assert data.decode().splitlines() == as_csv(catalogue, sample, Chosen()).splitlines()
    if button == "html":
        assert data.decode() == viewer_html([(run.store, sample) for run in catalogue.runs])


def test_the_next_sample_opens_in_the_same_layer_and_head_and_looks_the_same(page, address, sample, catalogue):
    page.goto(f"{address}/sample?sample={sample}&layer=12&head=1")
    page.wait_for_function(SETTLED)
    page.keyboard.press("ArrowRight")
    layer_is(page, 13)
    page.click("#smooth input")
    page.wait_for_function("getComputedStyle(document.querySelector('#panels canvas')).imageRendering === 'auto'")
    page.keyboard.press("j")
    following = catalogue.samples.index[2]
    page.wait_for_url(f"**sample={following}*layer=13*")
    page.wait_for_function(f"{SETTLED} && document.querySelector('#panels img').alt.endsWith('{following}')")
    layer_is(page, 13)
    assert np.array_equal(drawn(page, 0), catalogue.runs[0].maps(following, Chosen(head=1))[13])
    assert page.evaluate("getComputedStyle(document.querySelector('#panels canvas')).imageRendering") == "auto"


def test_a_key_that_has_nothing_to_do_keeps_its_own_meaning(page, address):
    page.set_viewport_size({"width": 1280, "height": 300})
    page.goto(address)
    page.wait_for_selector("#overview-spine canvas.strip")
    page.keyboard.press("Space")
    page.wait_for_function("window.scrollY > 0")


def test_keys_lead_through_samples_and_help(page, sample, catalogue):
    page.keyboard.press("?")
    page.wait_for_selector("dialog[open]")
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.wait_for_url(f"**sample={catalogue.samples.index[2]}*")


@pytest.mark.parametrize(
    ("query", "line"),
    [("sample=nothing", "no run holds sample nothing"), ("layer=x", "layer is 'x' in the address")],
)
def test_an_address_that_shows_nothing_says_so(page, address, query, line):
    page.goto(f"{address}/sample?{query}")
    page.wait_for_selector(f"text={line}")


@pytest.mark.parametrize("width", [1280, 768])
@pytest.mark.parametrize("path", ["/", "/samples", "/sample"])
def test_nothing_is_cut_off_at_the_side(page, address, width, path):
    page.set_viewport_size({"width": width, "height": 720})
    page.goto(address + path)
    page.wait_for_selector("#page section")
    page.wait_for_timeout(500)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth + 1")


def test_a_saved_page_stands_alone_and_steps_through_layers_and_runs(page, catalogue, tmp_path):
    sample_id = catalogue.samples.index[1]
    file = tmp_path / "sample.html"
    file.write_text(viewer_html([(run.store, sample_id) for run in catalogue.runs]))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    page.wait_for_selector("body[data-layer='0']")
    blank = page.evaluate("document.getElementById('map').toDataURL()")
    for _ in range(15):
        page.click("#on")
    page.wait_for_selector("body[data-layer='15']")
    assert page.inner_text("#at") == "15 of 15"
    mine = catalogue.runs[0].curves(sample_id).set_index("layer").loc[15]
    assert f"entropy (nats) {mine['visual_entropy']:.3g}" in page.inner_text("#said")
    base = page.evaluate("document.getElementById('map').toDataURL()")
    page.select_option("#sample", "1")
    assert "VIF's spotlights" in page.inner_text("#legend")
    assert len({blank, base, page.evaluate("document.getElementById('map').toDataURL()")}) == 3
    assert [address for address in asked if not address.startswith(("file:", "data:"))] == []
