"""A question asked in the browser is answered without and with VIF, and leads to where both looked."""

from __future__ import annotations

import base64
import io
import time

import pytest
from PIL import Image
from vifscope_browser import ask
from vifscope_browser.ask import Asker, picture_of
from vifscope_browser.catalogue import Catalogue

from vif_core.data.sample import Sample
from vif_core.errors import SampleError, UsageError
from vif_core.vlm.tiny import tiny_model, tiny_samples
from vifscope.api import open_run


def data_url(image: Image.Image | bytes, kind: str = "png") -> str:
    if isinstance(image, Image.Image):
        encoded = io.BytesIO()
        image.save(encoded, kind)
        image = encoded.getvalue()
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_an_uploaded_picture_is_read(kind):
    assert picture_of(data_url(Image.new("RGB", (40, 30), "red"), kind)).size == (40, 30)


def test_sixteen_bits_of_grey_become_eight():
    assert picture_of(data_url(Image.new("I;16", (1, 1), 32896))).getpixel((0, 0)) == (128, 128, 128)


@pytest.mark.parametrize(
    ("sent", "line"),
    [
        (data_url(b"no picture"), "a file that is no picture; expected one of PNG"),
        (data_url(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), "a file that is no picture"),
        (data_url(b"0" * (ask.PICTURE_BYTES + 1)), "of 8.0 MiB; expected a picture of at most 8 MiB"),
        ("data:image/png;base64,!!", "a file that cannot be read"),
        ("/etc/passwd", "a file that cannot be read"),
        ("", "a file that cannot be read"),
    ],
)
def test_what_is_no_picture_is_one_line(sent, line):
    with pytest.raises(SampleError, match=line):
        picture_of(sent)


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(monkeypatch):
    monkeypatch.setattr(Image.Image, "convert", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(SampleError, match=r"a picture of 6000 x 5000 pixels; expected at most 25 million"):
        picture_of(data_url(Image.new("L", (6000, 5000))))


def finished(asker: Asker, number: int) -> ask.Asked:
    for _ in range(600):
        if asker.asked[number].sample_id or asker.asked[number].failed:
            return asker.asked[number]
        time.sleep(0.1)
    raise AssertionError(f"still {asker.asked[number].said}")


def test_questions_wait_for_their_turn_and_one_that_fails_stops_nobody(catalogue, tmp_path):
    asker = Asker(Catalogue(catalogue.runs), tiny_model("llava"), tmp_path)
    sample = tiny_samples(1)[0]
    numbers = [asker.ask(each) for each in (sample, Sample("x", sample.images, "has <image> in it?"), sample)]
    first, bad, last = (finished(asker, number) for number in numbers)
    assert (first.sample_id, last.sample_id) == ("asked-0001", "asked-0003")
    assert "holds the image placeholder" in bad.failed
    (run,) = asker.catalogue.holders("asked-0001")
    assert (run.name, run.store.sample("asked-0001")["question"]) == ("tiny-llava", sample.question)
    assert open_run(tmp_path / "0001-tiny-llava").sample_ids == ["asked-0001"], "it is a run like any other"
    assert all(each.sample.images == () for each in asker.asked), "pictures are not kept twice"


def test_numbers_go_on_after_those_that_are_there_and_a_hub_id_names_no_folders(catalogue, tmp_path):
    (tmp_path / "10041-other").mkdir()
    vlm = tiny_model("llava")
    vlm.name = "owner/tiny"
    asker = Asker(Catalogue(catalogue.runs), vlm, tmp_path)
    assert finished(asker, asker.ask(tiny_samples(1)[0])).sample_id == "asked-10042"
    assert (tmp_path / "10042-tiny" / "manifest.json").exists()


def test_no_more_wait_than_can_be_kept(catalogue, tmp_path, monkeypatch):
    monkeypatch.setattr(Asker, "_work", lambda _: None)
    asker = Asker(Catalogue(catalogue.runs), "nobody", tmp_path)
    for _ in range(ask.MOST_WAITING):
        asker.ask(tiny_samples(1)[0])
    with pytest.raises(UsageError, match="16 questions wait already"):
        asker.ask(tiny_samples(1)[0])


def test_a_picture_is_turned_as_its_camera_says():
    image = Image.new("RGB", (40, 30), "red")
    turned = Image.Exif()
    turned[0x0112] = 6
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", exif=turned)
    assert picture_of(data_url(encoded.getvalue(), "jpeg")).size == (30, 40)


@pytest.fixture(scope="module")
def asking(run_folders, tmp_path_factory, serving):
    catalogue = Catalogue.open(run_folders)
    asker = Asker(catalogue, "mini-llava-vif", tmp_path_factory.mktemp("asked"))
    return asker, serving(catalogue, asker=asker)


@pytest.mark.browser
def test_a_picture_from_specks_is_asked_about_and_leads_to_its_maps(page, asking):
    asker, address = asking
    page.goto(address)
    page.click("#to-ask")
    page.click("#ask-draw")
    page.wait_for_function("document.querySelector('#ask-preview').src.startsWith('data:image/png')")
    question = page.input_value("#ask-question")
    page.click("#ask-send")
    page.wait_for_selector("#ask-see", timeout=120_000)
    told = page.inner_text("#ask-said")
    assert "mini-llava-vif without VIF:" in told
    assert "mini-llava-vif with VIF:" in told
    page.click("#ask-see")
    page.wait_for_function("document.querySelectorAll('#panels[data-layer] canvas').length === 3")
    assert page.inner_text("h1") == question
    plain, lit = asker.catalogue.holders("asked-0001")
    assert plain.store.sample("asked-0001")["spotlights"] is None
    assert lit.store.sample("asked-0001")["spotlights"]


@pytest.mark.browser
def test_an_uploaded_picture_is_asked_about_and_what_lacks_is_said(page, asking, tmp_path):
    _, address = asking
    page.goto(f"{address}/ask")
    page.click("#ask-send")
    page.wait_for_selector("text=there is no picture")
    (tmp_path / "words.png").write_bytes(b"no picture")
    page.set_input_files("#ask-upload input", tmp_path / "words.png")
    page.wait_for_selector("text=a file that is no picture")
    Image.new("RGB", (96, 96), "red").save(tmp_path / "red.png")
    page.set_input_files("#ask-upload input", tmp_path / "red.png")
    page.wait_for_function("!document.querySelector('#ask-preview').hidden")
    page.fill("#ask-question", "")
    page.click("#ask-send")
    page.wait_for_selector("text=there is no question")
    page.fill("#ask-question", "what colour is the large circle ?")
    page.keyboard.press("Enter")
    page.fill("#ask-question", "")
    page.click("#ask-send")  # a press that is refused does not lose the question before it
    page.wait_for_selector("#ask-see", timeout=120_000)
    assert "there is no question" in page.inner_text("#ask-wrong")


@pytest.mark.browser
def test_without_a_model_the_page_says_how_to_get_one(page, address):
    page.goto(f"{address}/ask")
    page.wait_for_selector("text=vifscope app --model mini-llava-vif")
    assert page.query_selector("#to-ask") is None
