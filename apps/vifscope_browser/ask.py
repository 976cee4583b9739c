"""The page that asks a model live: a picture, a question, and where it looked as it answered, without and with VIF."""

from __future__ import annotations

import base64
import binascii
import io
import queue
import random
import threading
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from dash import Dash, Input, Output, State, dcc, html, no_update
from PIL import Image

from vif_core.data.listed import Listed
from vif_core.data.open import open_source
from vif_core.data.sample import BROKEN, Sample, as_rgb
from vif_core.errors import SampleError, UsageError, VifError
from vifscope_browser.address import address_of
from vifscope_browser.catalogue import Browsed, Catalogue
from vifscope_browser.dot import dot

if TYPE_CHECKING:
    from vif_core.vlm.model import VLM

MOST_PIXELS = 25_000_000
PICTURE_BYTES = 8 * 2**20
SENT_BYTES = 11 * 2**20  # larger ones the browser drops by itself, without a word
MOST_WAITING = 16
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
QUESTION_CHARS = 500
PLAIN, WITH = "without VIF", "with VIF"


@dataclass
class Asked:
    """One question in the queue. said: what is being done.     sample_id: where the answer is shown, once it is there.

    failed: the line that says why there is none.
    """

    sample: Sample
    said: str = "waiting"
    sample_id: str = ""
    failed: str = ""


class Asker:
    """One worker that asks `model` one question after another. Each leaves a run in `folder`, or two: without VIF, and
    with it. The model is loaded with the first question."""

    def __init__(self, catalogue: Catalogue, model: str | VLM, folder: Path, device: str = "auto") -> None:
        self.catalogue, self.model, self.folder, self.device = catalogue, model, folder, device
        self.asked: list[Asked] = []
        self._lock = threading.Lock()
        self._waiting: queue.Queue[Asked] = queue.Queue()
        threading.Thread(target=self._work, daemon=True).start()

    def ask(self, sample: Sample) -> int:
        """Puts a question into the queue and returns its number. Raises UsageError where MOST_WAITING wait already."""
        with self._lock:
            if self._waiting.qsize() >= MOST_WAITING:
                raise UsageError(f"{MOST_WAITING} questions wait already", next_step="Ask again when some are answered")
            asked = Asked(sample)
            self.asked.append(asked)
            self._waiting.put(asked)
            return len(self.asked) - 1

    def _work(self) -> None:
        while True:
            asked = self._waiting.get()
            sample_id = failed = ""
            try:
                sample_id = self._answer(asked)
            except VifError as error:
                failed = str(error)
            except Exception as error:  # whatever a model raises: the worker goes on
                failed = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
            asked.sample = replace(asked.sample, images=())  # the run keeps them
            asked.sample_id, asked.failed = sample_id, failed  # last: whoever asks takes these for the end

    def _answer(self, asked: Asked) -> str:
        """The id under which the catalogue holds the answer's runs."""
        from vif_core.load import load  # the app starts without torch
        from vifscope.measure import Reading
        from vifscope.pipeline import analyze

        asked.said = "loading the model"
        if isinstance(self.model, str):
            self.model = load(self.model, device=self.device)
        vlm, reading = self.model, Reading(store_rows="text")
        taken = (path.name.split("-")[0] for path in self.folder.glob("[0-9]*-*"))
        number = 1 + max((int(each) for each in taken if each.isdigit()), default=0)
        name = PurePath(vlm.name).name
        sample = replace(asked.sample, sample_id=f"asked-{number:04d}")
        source = Listed("asked", f"asked-{number:04d}", [sample])
        found = []
        for kind in (PLAIN, WITH) if vlm.vif is not None else ("",):
            asked.said = f"answering {kind}".rstrip()
            out = self.folder / f"{number:04d}-{name}{'-' if kind else ''}{kind.replace(' ', '-')}"
            with vlm.vif.disable_vif() if vlm.vif is not None and kind == PLAIN else nullcontext():
                path = analyze(vlm, source, 1, out, reading)
            found.append((path, f"{name} {kind}".rstrip()))
        self.catalogue.add_answers(found)
        return sample.sample_id


def picture_of(data_url: str) -> Image.Image:
    """The picture that a browser uploaded, RGB. Raises SampleError for what is no picture, and for one too large."""
    head, _, body = (data_url or "").partition(",")
    try:
        data = base64.b64decode(body, validate=True) if head.endswith(";base64") else b""
    except binascii.Error:
        data = b""
    if not data or len(data) > PICTURE_BYTES:
        size = f"of {len(data) / 2**20:.1f} MiB" if data else "that cannot be read"
        raise SampleError(f"a file {size}", expected=f"a picture of at most {PICTURE_BYTES // 2**20} MiB")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            wide, high = image.size
            if wide * high <= MOST_PIXELS:
                return as_rgb(image, "a picture")
    except BROKEN as error:
        raise SampleError(
            "a file that is no picture", expected=f"one of {', '.join(FORMATS)}", next_step="Save it anew as PNG"
        ) from error
    raise SampleError(
        f"a picture of {wide} x {high} pixels",
        expected=f"at most {MOST_PIXELS // 1_000_000} million",
        next_step="Shrink it",
    )


def layout(asker: Asker | None) -> html.Section:
    if asker is None:
        return html.Section([html.H1("Ask a model"), html.P("Start the app with --model, such as: vifscope app "
                             "--model mini-llava-vif", className="empty")])  # fmt: skip
    name = getattr(asker.model, "name", asker.model)
    return html.Section(
        [
            html.H1(f"Ask {name}"),
            html.P(f"Each answer is kept as a run in {asker.folder}.", className="note"),
            html.Div(
                [
                    dcc.Upload(html.Span(f"Drop a picture here, or click (at most {PICTURE_BYTES // 2**20} MiB)"),
                               id="ask-upload", className="upload", max_size=SENT_BYTES, accept="image/*"),
                    html.Button("Take one from specks", id="ask-draw"),
                ],
                className="controls",
            ),
            html.Img(id="ask-preview", alt="The picture that is asked about", className="preview", hidden=True),
            html.Div(
                [
                    html.Label([html.Span("Question", className="hidden"),
                                dcc.Input(id="ask-question", placeholder="what colour is the large circle ?",
                                          maxLength=QUESTION_CHARS, n_submit=0, debounce=False, className="asking")]),
                    html.Button("Ask", id="ask-send"),
                ],
                className="controls",
            ),
            html.Div(id="ask-wrong"),
            html.Div(id="ask-said", role="status", **{"aria-live": "polite"}),
            dcc.Store(id="ask-picture"),
            dcc.Store(id="ask-number"),
            dcc.Interval(id="ask-tick", interval=400, disabled=True),
        ]
    )  # fmt: skip


def register(app: Dash, asker: Asker) -> None:
    specks = open_source("specks")

    @app.callback(
        Output("ask-picture", "data"), Output("ask-preview", "src"), Output("ask-preview", "hidden"),
        Output("ask-wrong", "children"), Input("ask-upload", "contents"), prevent_initial_call=True,
    )  # fmt: skip
    def upload(contents):
        try:
            shown = picture_of(contents)
        except VifError as error:
            return None, no_update, True, html.P(str(error), className="problem", role="alert")
        return {"upload": contents}, _address(shown), False, ""

    @app.callback(
        Output("ask-picture", "data", allow_duplicate=True), Output("ask-preview", "src", allow_duplicate=True),
        Output("ask-preview", "hidden", allow_duplicate=True), Output("ask-question", "value"),
        Output("ask-wrong", "children", allow_duplicate=True), Input("ask-draw", "n_clicks"), prevent_initial_call=True,
    )  # fmt: skip
    def draw(_clicks):
        place = random.randrange(len(specks))
        sample = specks[place]
        return {"specks": place}, _address(sample.open_images()[0]), False, sample.question, ""

    @app.callback(
        Output("ask-number", "data"), Output("ask-tick", "disabled"),
        Output("ask-said", "children"), Output("ask-wrong", "children", allow_duplicate=True),
        Input("ask-send", "n_clicks"), Input("ask-question", "n_submit"),
        State("ask-picture", "data"), State("ask-question", "value"),
        prevent_initial_call=True,
    )  # fmt: skip
    def send(_clicks, _enters, picture, question):
        try:
            return asker.ask(_sample(picture, question)), False, html.P("waiting"), ""
        except VifError as error:  # a question before this one may still be answered
            return no_update, no_update, no_update, html.P(str(error), className="problem", role="alert")

    @app.callback(
        Output("ask-said", "children", allow_duplicate=True), Output("ask-tick", "disabled", allow_duplicate=True),
        Input("ask-tick", "n_intervals"), State("ask-number", "data"), prevent_initial_call=True,
    )  # fmt: skip
    def tell(_ticks, number):
        if number is None or not 0 <= number < len(asker.asked):
            return no_update, True
        asked = asker.asked[number]
        if asked.failed:
            return html.P(asked.failed, className="problem", role="alert"), True
        if not asked.sample_id:
            before = sum(1 for each in asker.asked[:number] if not (each.failed or each.sample_id))
            waits = f", after {before} other question{'s' if before > 1 else ''}" if before else ""
            return html.P(f"{asked.said}{waits} ...", className="working"), False
        return _answers(asker.catalogue.holders(asked.sample_id), asked), True

    def _sample(picture: dict[str, Any] | None, question: str | None) -> Sample:
        words = " ".join((question or "").split())
        if not picture:
            raise UsageError("there is no picture", expected="one, uploaded or from specks")
        if not words or len(words) > QUESTION_CHARS:
            raise UsageError(
                "there is no question" if not words else f"a question of {len(words)} characters",
                expected=f"one of at most {QUESTION_CHARS} characters",
            )
        if "specks" in picture:
            sample = specks[int(picture["specks"])]
            return sample if sample.question == words else Sample(sample.sample_id, sample.images, words)
        return Sample("asked", (picture_of(picture["upload"]),), words)


def _answers(runs: list[Browsed], asked: Asked) -> html.Div:
    told = [
        html.P([dot(run.colour), html.Span(f"{run.name}: "),
                html.B(run.store.sample(asked.sample_id)["response"] or "(empty)")])
        for run in runs
    ]  # fmt: skip
    link = dcc.Link(
        "See where it looked, layer by layer", href=address_of("sample", sample=asked.sample_id), id="ask-see"
    )
    known = [html.P(f"Answer: {asked.sample.answer}", className="note")] if asked.sample.answer else []
    return html.Div([*told, *known, html.P(link)])


def _address(image: Image.Image) -> str:
    shown = image.copy()
    shown.thumbnail((480, 480))
    encoded = io.BytesIO()
    shown.save(encoded, "PNG")
    return f"data:image/png;base64,{base64.b64encode(encoded.getvalue()).decode()}"
