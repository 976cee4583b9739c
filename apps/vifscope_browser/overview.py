"""The first page: what the runs found, along the layer axis."""

from __future__ import annotations

from dash import ClientsideFunction, Dash, Input, Output, dcc, html

from vif_core.errors import VifError
from vifscope.figures.frames import ATTENUATION, wide
from vifscope.figures.interactive import violins_figure
from vifscope.figures.viewer import CURVES
from vifscope.summary import NO_INTERVAL
from vifscope_browser.catalogue import Browsed, Catalogue
from vifscope_browser.content import GRAPH, axis, track
from vifscope_browser.dot import dot

VIOLIN_SAMPLES = 2000
"""With a larger run the violins are left out: they read every map."""


def layout(catalogue: Catalogue) -> html.Section:
    tracks = [track(run, run.mean_maps, wide(run.summary, [*CURVES])) for run in catalogue.runs]
    return html.Section(
        [
            html.Div([_findings(run) for run in catalogue.runs], className="findings"),
            html.H2("Along the layers"),
            html.P("Mean maps, each layer over its own maximum; means with 95 % intervals over images. "
                   "Click a layer to see samples there.", className="note"),
            html.Div(id="overview-spine", className="spine"),
            dcc.Store(id="overview-tracks", data=axis(tracks)),
            html.H2("Weights of single visual tokens, and their sum"),
            dcc.Loading(dcc.Graph(id="violins", config=GRAPH, figure={"layout": {"height": 380}}), delay_show=200),
            html.P(id="violins-note", className="note"),
        ]
    )  # fmt: skip


def register(app: Dash, catalogue: Catalogue) -> None:
    @app.callback(Output("violins", "figure"), Output("violins-note", "children"), Input("violins", "id"))
    def violins(_: str):
        runs = catalogue.runs
        if any(len(run.deep) > VIOLIN_SAMPLES for run in runs):
            return {}, f"Left out: a run has more than {VIOLIN_SAMPLES} samples. vifscope figures draws them."
        try:
            violins = [run.violins for run in runs]
        except VifError as error:
            return {}, f"Left out: {error}"
        figure = violins_figure(violins, [wide(run.summary, ATTENUATION) for run in runs], [run.name for run in runs])
        return (
            figure,
            "Violins: head- and row-mean weight of each visual token, log axis; every sample counts the same.",
        )

    app.clientside_callback(
        ClientsideFunction("overview", "draw"), Output("overview-spine", "data-depth"), Input("overview-tracks", "data")
    )


def _findings(run: Browsed) -> html.Article:
    found = run.found
    accuracy, attenuation = found["accuracy"], found["attenuation_index"]
    numbers = [
        ("Samples", f"{found['n']}" + (f", {found['failed']} failed" if found["failed"] else "")),
        ("Accuracy", _interval(accuracy, percent=True)),
        ("Attenuation index", _interval(attenuation)),
    ]
    return html.Article(
        [
            html.H2([dot(run.colour), run.name]),
            html.P(found["sentence"]),
            html.Dl([item for name, value in numbers for item in (html.Dt(name), html.Dd(value))]),
        ]
    )


def _interval(found: dict | None, *, percent: bool = False) -> str:
    if not found or found.get("mean") is None:
        return "–"
    known = [found[name] for name in ("mean", "low", "high") if found[name] is not None]
    mean, *ends = (f"{100 * number:.1f}" if percent else f"{number:.3f}" for number in known)
    return f"{mean}{' %' if percent else ''} [{', '.join(ends) or NO_INTERVAL}]"
