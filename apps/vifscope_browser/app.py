"""The page's frame: the header, which page an address shows, and the routes that serve pictures."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import parse_qs

from dash import Dash, Input, Output, dcc, html, set_props
from flask import Response, abort, request

from vif_core.errors import VifError
from vifscope_browser import ask, overview, sample, samples
from vifscope_browser.catalogue import Catalogue
from vifscope_browser.dot import dot
from vifscope_browser.guard import guard

HELP = (
    ("← →", "one layer back or on"),
    ("space", "play the layers"),
    ("j k", "next or previous sample"),
    ("o s", "overview, samples"),
    ("/", "search"),
    ("?", "this help"),
)


def create_app(catalogue: Catalogue, host: str = "127.0.0.1", port: int = 8050, asker: ask.Asker | None = None) -> Dash:
    """The app over these runs, to be served at host:port; its `server` is a Flask app. asker: of the page Ask.

    What a choice on a page finds amiss is said over the page, which stays as it was.
    """
    app = Dash(
        __name__, title="vifscope", update_title="", suppress_callback_exceptions=True, serve_locally=True,
        on_error=_said,
        meta_tags=[{"name": "viewport", "content": "width=device-width, initial-scale=1"}],
    )  # fmt: skip
    guard(app.server, host, port)
    _routes(app, catalogue)
    # anew for each visit, as problems come up when shards are read
    app.layout = lambda: _frame(catalogue, asker is not None)

    @app.callback(
        Output("page", "children"),
        Output("amiss", "children"),
        Input("address", "pathname"),
        Input("address", "search"),
    )
    def show(pathname: str, search: str):
        return page(pathname, search), ""

    def page(pathname: str, search: str) -> html.Section:
        asked = {name: values[-1] for name, values in parse_qs((search or "").removeprefix("?")).items()}
        try:
            match pathname:
                case "/samples":
                    return samples.layout(catalogue, asked)
                case "/sample":
                    return sample.layout(catalogue, asked)
                case "/ask":
                    return ask.layout(asker)
                case "/":
                    return overview.layout(catalogue)
        except VifError as error:
            return html.Section([html.H2("This cannot be shown"), html.P(str(error), className="problem")])
        return html.Section([html.H2("There is no such page"), dcc.Link("To the overview", href="/")])

    samples.register(app, catalogue)
    sample.register(app, catalogue)
    overview.register(app, catalogue)
    if asker is not None:
        ask.register(app, asker)
    return app


def _said(error: Exception) -> None:
    if not isinstance(error, VifError):
        raise error
    set_props("amiss", {"children": str(error)})


def _frame(catalogue: Catalogue, asks: bool) -> html.Div:
    pages = [dcc.Link("Overview", href="/", id="to-overview"), dcc.Link("Samples", href="/samples", id="to-samples")]
    pages += [dcc.Link("Ask", href="/ask", id="to-ask")] if asks else []
    problems = [html.P(problem, className="problem", role="alert") for problem in catalogue.problems]
    keys = [item for key, what in HELP for item in (html.Dt(html.Kbd(key)), html.Dd(what))]
    return html.Div(
        [
            dcc.Location(id="address"),
            html.Header(
                [
                    html.Span("vifscope", className="brand"),
                    html.Nav(pages, **{"aria-label": "Pages"}),
                    html.Span(_legend(catalogue), className="runs"),
                    html.Button("Light / dark", id="theme", className="quiet", title="Light or dark page"),
                    html.Button("?", id="help-button", className="quiet", title="Keys", **{"aria-label": "Help"}),
                ]
            ),
            html.Dialog([html.H2("Keys"), html.Dl(keys), html.P("Click a layer, a token or a patch to follow it.")],
                        id="help"),
            *problems,
            html.P(id="amiss", className="problem", role="alert"),
            html.Main(dcc.Loading(html.Div(id="page"), type="circle", delay_show=250,
                                  target_components={"page": "children"})),
        ]
    )  # fmt: skip


def _legend(catalogue: Catalogue) -> list[html.Span]:
    return [html.Span([dot(run.colour), run.name], title=str(run.store.path)) for run in catalogue.runs]


def _routes(app: Dash, catalogue: Catalogue) -> None:
    """Pictures are named by run number and sample id alone, so that no address names a file.

    The same address may mean another picture when other runs are served, so browsers ask whether theirs is still it.
    """

    def png(data: Callable[..., bytes], **named: Any) -> Response:
        try:
            response = Response(data(**named), mimetype="image/png", headers={"Cache-Control": "private, no-cache"})
        except VifError as error:
            abort(404, str(error))
        response.add_etag()
        response.make_conditional(request)
        return response

    for rule, data in (("/picture/<int:number>/<int:i>/<path:sample_id>", catalogue.picture),
                       ("/thumbnail/<int:number>/<path:sample_id>", catalogue.thumbnail)):  # fmt: skip
        app.server.add_url_rule(rule, rule, partial(png, data))
