"""The page of one sample: its maps over the picture, layer by layer, for each run; tokens, heads and patches."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dash import ALL, ClientsideFunction, Dash, Input, Output, State, ctx, dcc, html
from dash.exceptions import PreventUpdate

from vifscope.figures.viewer import viewer_html
from vifscope_browser.address import address_of, number
from vifscope_browser.catalogue import Browsed, Catalogue, Chosen
from vifscope_browser.choice import choice
from vifscope_browser.content import COLOURS, MOST, as_csv, heads_view, layers_view, pack, patch_view, tokens
from vifscope_browser.dot import dot

LIGHTS = {
    "prior": "Spotlights: from the question",
    "posterior": "Spotlights: with the answer",
    "both": "Spotlights: both",
    "none": "Spotlights: none",
}

TOKEN_LET_GO = "Runs keep a head as the mean of the measured rows: the token is let go."
HEAD_LET_GO = "Runs keep the row of a token as the mean of heads: the head is let go."


def layout(catalogue: Catalogue, asked: dict[str, str]) -> html.Section:
    sample_id = asked.get("sample") or catalogue.ids[0]
    holders = catalogue.holders(sample_id)
    depth = max(run.num_layers for run in holders)
    head, row = number(asked, "head"), number(asked, "token")
    both = head is not None and row is not None
    chosen = Chosen(head, None if both else row, number(asked, "grid") or 0)
    layer = min(max(number(asked, "layer") or 0, 0), depth - 1)
    packed = pack(catalogue, sample_id, chosen, TOKEN_LET_GO if both else "")
    stored = holders[0].store.sample(sample_id)
    return html.Section(
        [
            _heading(catalogue, sample_id, stored),
            _controls(holders, packed, chosen),
            html.Div(className="panels", id="panels"),
            html.Div(
                [
                    html.Button("▶", id="play", title="Play the layers (space)",
                                **{"aria-label": "Play", "aria-pressed": "false"}),
                    html.Div(
                        dcc.Slider(0, depth - 1, 1, value=layer, id="layer", updatemode="drag",
                                   marks={i: str(i) for i in range(0, depth, 1 if depth <= 24 else 4)}),
                        className="slider", role="group", **{"aria-label": "Layer"},
                    ),
                ],
                className="scrub",
            ),
            html.P(id="said", className="said", **{"aria-live": "polite"}),
            html.Div(id="spine", className="spine"),
            html.H2("Tokens"),
            html.P("Click a token to see the map of the row that produces it; again for the mean. Those in grey have "
                   "no stored row.", className="note"),
            html.Div(tokens(stored, chosen.row), className="tokens", id="tokens"),
            html.H2("Who looks at a patch"),
            html.P("Click a patch of a map.", className="note", id="patch-said", **{"aria-live": "polite"}),
            html.Div(id="patch"),
            html.H2("All layers"),
            html.Div(html.P("Press All layers, above.", className="note"), id="layers"),
            html.H2("Heads of this layer"),
            html.Div(html.P("Press All heads, above.", className="note"), id="heads"),
            dcc.Store(id="packed", data=packed),
            dcc.Store(id="asked", data=packed["asked"]),
            dcc.Store(id="patch-asked"),
            dcc.Download(id="download"),
        ]
    )  # fmt: skip


def register(app: Dash, catalogue: Catalogue) -> None:
    def client(name: str, *parts: Any, **options: Any) -> None:
        app.clientside_callback(ClientsideFunction("sample", name), *parts, **options)

    looks = [Input(name, "value") for name in ("opacity", "colours", "scale", "smooth", "lights")]
    client("draw", Output("panels", "data-layer"), Input("layer", "value"), Input("packed", "data"), *looks)
    client("play", Output("play", "children"), Output("play", "aria-pressed"), Input("play", "n_clicks"),
           prevent_initial_call=True)  # fmt: skip
    client("save", Input("png", "n_clicks"), Input("svg", "n_clicks"), prevent_initial_call=True)
    client("link", Output("link", "children"), Input("link", "n_clicks"), prevent_initial_call=True)

    @app.callback(
        Output("packed", "data"), Output("asked", "data"), Output("tokens", "children"), Output("head", "value"),
        Input({"type": "token", "row": ALL}, "n_clicks"), Input("head", "value"), Input("grid", "value"),
        State("asked", "data"), prevent_initial_call=True,
    )  # fmt: skip
    def choose(clicks, head, grid, asked):
        """A run keeps single rows as the mean of heads and heads as the mean of rows: the later choice stands."""
        before = _chosen(asked)
        chosen, said = replace(before, head=None if head in (None, "mean") else int(head), grid=int(grid or 0)), ""
        if isinstance(ctx.triggered_id, dict) and any(clicks):
            row = ctx.triggered_id["row"]
            said = HEAD_LET_GO if chosen.head is not None else ""
            chosen = replace(chosen, head=None, row=None if row == before.row else row)
        elif chosen.head is not None and chosen.row is not None:
            chosen, said = replace(chosen, row=None), TOKEN_LET_GO
        if chosen == before:
            raise PreventUpdate
        packed = pack(catalogue, asked["sample"], chosen, said)
        stored = catalogue.holders(asked["sample"])[0].store.sample(asked["sample"])
        return packed, packed["asked"], tokens(stored, chosen.row), "mean" if chosen.head is None else str(chosen.head)

    @app.callback(
        Output("patch", "children"), Output("patch-said", "children"),
        Input("patch-asked", "data"), State("asked", "data"), prevent_initial_call=True,
    )  # fmt: skip
    def show_patch(patch, asked):
        if not patch:
            raise PreventUpdate
        run = catalogue.holders(asked["sample"])[patch["run"]]
        return patch_view(run, asked["sample"], Chosen(grid=_chosen(asked).grid), patch["row"], patch["col"])

    @app.callback(Output("heads", "children"), Input("show-heads", "n_clicks"), State("layer", "value"),
                  State("asked", "data"), prevent_initial_call=True)  # fmt: skip
    def show_heads(_clicks, layer, asked):
        holders = catalogue.holders(asked["sample"])[:MOST]
        return [heads_view(run, asked["sample"], _chosen(asked).grid, layer) for run in holders]

    @app.callback(Output("layers", "children"), Input("show-layers", "n_clicks"), State("asked", "data"),
                  prevent_initial_call=True)  # fmt: skip
    def show_layers(_clicks, asked):
        holders = catalogue.holders(asked["sample"])[:MOST]
        return [layers_view(run, asked["sample"], _chosen(asked)) for run in holders]

    @app.callback(Output("download", "data"), Input("csv", "n_clicks"), State("asked", "data"),
                  prevent_initial_call=True)  # fmt: skip
    def save_csv(_clicks, asked):
        content = as_csv(catalogue, asked["sample"], _chosen(asked))
        return {"content": content, "filename": f"{asked['sample']}.csv", "type": "text/csv"}

    @app.callback(Output("download", "data", allow_duplicate=True), Input("html", "n_clicks"),
                  State("asked", "data"), prevent_initial_call=True)  # fmt: skip
    def save_page(_clicks, asked):
        page = viewer_html([(run.store, asked["sample"]) for run in catalogue.holders(asked["sample"])])
        return {"content": page, "filename": f"{asked['sample']}.html", "type": "text/html"}


def _heading(catalogue: Catalogue, sample_id: str, stored: dict[str, Any]) -> html.Div:
    ids = catalogue.ids
    around = [ids[place % len(ids)] for place in (bisect_left(ids, sample_id) - 1, bisect_right(ids, sample_id))]
    verdicts = []
    for run in catalogue.holders(sample_id):
        mine = run.store.sample(sample_id)
        mark = {True: "✓ ", False: "✗ "}.get(mine["correct"], "")
        verdicts.append(
            html.P([dot(run.colour), html.Span(f"{run.name}: ", className="hidden"), f"{mark}{mine['response']}"],
                   title=run.name)
        )  # fmt: skip
    return html.Div(
        [
            html.Div([_leading("previous", "‹", "Previous sample (k)", around[0]), html.Small(sample_id),
                      _leading("next", "›", "Next sample (j)", around[1])], className="around"),
            html.H1(stored["question"]),
            html.Div([html.P(["Answer: ", html.B(stored["answer"] or "not known")]), *verdicts], className="answers"),
        ],
        className="heading",
    )  # fmt: skip


def _leading(name: str, mark: str, words: str, sample_id: str) -> dcc.Link:
    shown = [html.Span(mark, **{"aria-hidden": "true"}), html.Span(words, className="hidden")]
    return dcc.Link(shown, href=address_of("sample", sample=sample_id), id=name, title=words)


def _controls(runs: Sequence[Browsed], packed: dict[str, Any], chosen: Chosen) -> html.Div:
    """The choices of all runs together: what one of them lacks is said beside its curves."""
    sample_id, lit = packed["asked"]["sample"], any(each["maps"] and each["spotlights"] for each in packed["runs"])
    count = max(run.heads(sample_id) for run in runs[:MOST])
    heads = {"mean": "Mean of heads"} | {str(head): f"Head {head}" for head in range(count)}
    most = max((run.store.grids(sample_id) for run in runs[:MOST]), key=len)
    grids = {
        str(i): f"{grid['frame']} {grid['image'] if grid['frame'] == 'frame' else i}" for i, grid in enumerate(most)
    }
    scales = {"layer": "Scale: each layer", "all": "Scale: all layers"}
    if len(packed["runs"]) > 1:
        scales["both"] = "Scale: layer, both runs"
    head = "mean" if chosen.head is None else str(chosen.head)
    return html.Div(
        [
            choice("head", heads, head, "Head"),
            choice("grid", grids, str(chosen.grid), "Part of the image", hidden=len(grids) < 2),
            choice("scale", scales, "layer", "Scale of colours", kept=True),
            choice("colours", {name: name.capitalize() for name in COLOURS}, COLOURS[0], "Colour map", kept=True),
            choice("lights", LIGHTS, "prior", "Spotlights of VIF", hidden=not lit, kept=True),
            dcc.Checklist(id="smooth", options=[{"label": "smooth", "value": "best"}], value=[], persistence=True),
            html.Div([html.Span("Opacity"), dcc.Slider(0, 1, 0.05, value=0.6, id="opacity", marks=None,
                                                       updatemode="drag", persistence=True)],
                     className="opacity", role="group", **{"aria-label": "Opacity"}),
            html.Div([html.Button(text, id=name, className="quiet", title=title) for name, text, title in
                      (("png", "PNG", "Save the maps as PNG"), ("svg", "SVG", "Save the maps as SVG"),
                       ("csv", "CSV", "Save the maps' numbers"),
                       ("html", "HTML", "Save this sample as a page that needs nothing else"),
                       ("link", "Copy link", "A link to this layer, head, token and part"),
                       ("show-layers", "All layers", "The map of every layer, below"),
                       ("show-heads", "All heads", "Every head of this layer, below"))], className="buttons"),
        ],
        className="controls",
    )  # fmt: skip


def _chosen(asked: dict[str, Any]) -> Chosen:
    return Chosen(asked["head"], asked["token"], asked["grid"] or 0)
