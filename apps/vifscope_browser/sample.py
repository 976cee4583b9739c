"""The page of one sample: its maps over the picture, layer by layer, for each run; tokens, heads and patches."""

from __future__ import annotations

from typing import Any

from dash import ALL, ClientsideFunction, Dash, Input, Output, State, ctx, dcc, html, no_update

from vifscope.figures.interactive import Track, spine_figure
from vifscope.figures.viewer import viewer_html
from vifscope_browser.address import address_of, number
from vifscope_browser.catalogue import CURVES, Browsed, Catalogue, Chosen
from vifscope_browser.choice import choice
from vifscope_browser.content import COLOURS, GRAPH, MOST, as_csv, heads_view, layers_view, pack, patch_view, tokens

LIGHTS = {
    "prior": "Spotlights: from the question",
    "posterior": "Spotlights: with the answer",
    "both": "Spotlights: both",
    "none": "Spotlights: none",
}


def layout(catalogue: Catalogue, asked: dict[str, str]) -> html.Section:
    sample_id = asked.get("sample") or catalogue.samples.index[0]
    holders = catalogue.holders(sample_id)
    depth = max(run.num_layers for run in holders)
    chosen = Chosen(number(asked, "head"), number(asked, "token"), number(asked, "grid") or 0)
    layer = min(max(number(asked, "layer") or 0, 0), depth - 1)
    packed = pack(catalogue, sample_id, chosen)
    stored = holders[0].store.sample(sample_id)
    return html.Section(
        [
            _heading(catalogue, sample_id, stored),
            _controls(holders[0], packed, chosen),
            html.Div(_panels(packed), className="panels", id="panels"),
            html.Div(
                [
                    html.Button("▶", id="play", title="Play the layers (space)", **{"aria-label": "Play"}),
                    html.Div(
                        dcc.Slider(0, depth - 1, 1, value=layer, id="layer", updatemode="drag",
                                   marks={i: str(i) for i in range(0, depth, 1 if depth <= 24 else 4)}),
                        className="slider",
                    ),
                ],
                className="scrub",
            ),
            html.P(id="said", className="said", **{"aria-live": "polite"}),
            html.Div([dcc.Graph(id="spine", figure=_spine(holders, sample_id, chosen), config=GRAPH),
                      html.Div(id="here")], className="spine", style={"--depth": depth}),
            html.H2("Tokens"),
            html.P("Click a token to see the map of the row that produces it; again for the mean. Those in grey have "
                   "no stored row.", className="note"),
            html.Div(tokens(stored, chosen.row), className="tokens", id="tokens"),
            html.H2("Who looks at a patch"),
            html.P("Click a patch of a map.", className="note", id="patch-said"),
            html.Div(id="patch"),
            html.H2("All layers"),
            html.Div(html.P("Press All layers, above.", className="note"), id="layers"),
            html.H2("Heads of this layer"),
            html.Div(html.P("Press All heads, above.", className="note"), id="heads"),
            dcc.Store(id="packed", data=packed),
            dcc.Store(id="row", data=chosen.row),
            dcc.Store(id="sample-id", data=sample_id),
            dcc.Interval(id="tick", interval=450, disabled=True),
            dcc.Download(id="download"),
            html.Span(id="sunk", hidden=True),
            html.Span(id="drawn", hidden=True),
        ]
    )  # fmt: skip


def register(app: Dash, catalogue: Catalogue) -> None:
    def client(name: str, *parts: Any, **options: Any) -> None:
        app.clientside_callback(ClientsideFunction("sample", name), *parts, **options)

    looks = [Input(name, "value") for name in ("opacity", "colours", "scale", "smooth", "lights")]
    layer = Output("layer", "value", allow_duplicate=True)
    client("draw", Output("drawn", "children"), Input("layer", "value"), Input("packed", "data"), *looks)
    client("mark", Output("said", "children"), Input("layer", "value"), Input("packed", "data"), Input("row", "data"),
           Input("head", "value"), Input("grid", "value"))  # fmt: skip
    client("play", Output("tick", "disabled"), Output("play", "children"), Input("play", "n_clicks"),
           State("tick", "disabled"), prevent_initial_call=True)  # fmt: skip
    client("step", layer, Input("tick", "n_intervals"), State("layer", "value"), State("layer", "max"),
           prevent_initial_call=True)  # fmt: skip
    client("scrub", layer, Input("spine", "clickData"), State("layer", "max"), prevent_initial_call=True)
    client("save", Output("sunk", "children"), Input("png", "n_clicks"), Input("svg", "n_clicks"),
           State("sample-id", "data"), State("layer", "value"), prevent_initial_call=True)  # fmt: skip
    client("link", Output("link", "children"), Input("link", "n_clicks"), prevent_initial_call=True)

    @app.callback(
        Output("row", "data"), Output("tokens", "children"),
        Input({"type": "token", "row": ALL}, "n_clicks"), State("row", "data"), State("sample-id", "data"),
        prevent_initial_call=True,
    )  # fmt: skip
    def choose_token(clicks, row, sample_id):
        if not any(clicks) or not isinstance(ctx.triggered_id, dict):
            return no_update, no_update
        row = None if ctx.triggered_id["row"] == row else ctx.triggered_id["row"]
        return row, tokens(catalogue.holders(sample_id)[0].store.sample(sample_id), row)

    @app.callback(
        Output("packed", "data"), Output("spine", "figure"),
        Input("row", "data"), Input("head", "value"), Input("grid", "value"), State("sample-id", "data"),
        prevent_initial_call=True,
    )  # fmt: skip
    def repack(row, head, grid, sample_id):
        chosen = _chosen(row, head, grid)
        return pack(catalogue, sample_id, chosen), _spine(catalogue.holders(sample_id), sample_id, chosen)

    @app.callback(
        Output("patch", "children"), Output("patch-said", "children"),
        Input({"type": "map", "run": ALL}, "clickData"), State("sample-id", "data"), State("grid", "value"),
        prevent_initial_call=True,
    )  # fmt: skip
    def show_patch(clicks, sample_id, grid):
        if not isinstance(ctx.triggered_id, dict) or not ctx.triggered[0]["value"]:
            return no_update, no_update
        place = ctx.triggered_id["run"]
        holders = catalogue.holders(sample_id)
        if place >= len(holders):  # the difference
            return no_update, no_update
        point = ctx.triggered[0]["value"]["points"][0]
        chosen = Chosen(grid=int(grid or 0))
        return patch_view(
            holders[place], sample_id, chosen, *holders[place].patch(sample_id, chosen, point["x"], point["y"])
        )

    @app.callback(Output("heads", "children"), Input("show-heads", "n_clicks"), State("layer", "value"),
                  State("sample-id", "data"), State("grid", "value"), prevent_initial_call=True)  # fmt: skip
    def show_heads(_clicks, layer, sample_id, grid):
        return [heads_view(run, sample_id, int(grid or 0), layer) for run in catalogue.holders(sample_id)[:MOST]]

    @app.callback(Output("layers", "children"), Input("show-layers", "n_clicks"), State("sample-id", "data"),
                  State("row", "data"), State("head", "value"), State("grid", "value"),
                  prevent_initial_call=True)  # fmt: skip
    def show_layers(_clicks, sample_id, row, head, grid):
        chosen = _chosen(row, head, grid)
        return [layers_view(run, sample_id, chosen) for run in catalogue.holders(sample_id)[:MOST]]

    @app.callback(Output("download", "data"), Input("csv", "n_clicks"), State("sample-id", "data"),
                  State("row", "data"), State("head", "value"), State("grid", "value"),
                  prevent_initial_call=True)  # fmt: skip
    def save_csv(_clicks, sample_id, row, head, grid):
        chosen = _chosen(row, head, grid)
        return {"content": as_csv(catalogue, sample_id, chosen), "filename": f"{sample_id}.csv", "type": "text/csv"}

    @app.callback(Output("download", "data", allow_duplicate=True), Input("html", "n_clicks"),
                  State("sample-id", "data"), prevent_initial_call=True)  # fmt: skip
    def save_page(_clicks, sample_id):
        page = viewer_html([(run.store, sample_id) for run in catalogue.holders(sample_id)])
        return {"content": page, "filename": f"{sample_id}.html", "type": "text/html"}


def _heading(catalogue: Catalogue, sample_id: str, stored: dict[str, Any]) -> html.Div:
    ids = catalogue.samples.index
    place = ids.tolist().index(sample_id) if sample_id in ids else 0
    around = [ids[(place + step) % len(ids)] for step in (-1, 1)]
    verdicts = []
    for run in catalogue.holders(sample_id):
        mine = run.store.sample(sample_id)
        mark = {True: "✓ ", False: "✗ "}.get(mine["correct"], "")
        verdicts.append(
            html.P([html.I(className=f"dot run-{run.colour}"), f"{mark}{mine['response']}"],
                   title=run.name)
        )  # fmt: skip
    return html.Div(
        [
            html.Div([dcc.Link("‹", href=address_of("sample", sample=around[0]), id="previous", title="Previous (k)"),
                      html.Small(sample_id),
                      dcc.Link("›", href=address_of("sample", sample=around[1]), id="next", title="Next (j)")],
                     className="around"),
            html.H1(stored["question"]),
            html.P(["Answer: ", html.B(stored["answer"] or "not known")], className="answer"),
            *verdicts,
        ],
        className="heading",
    )  # fmt: skip


def _controls(run: Browsed, packed: dict[str, Any], chosen: Chosen) -> html.Div:
    sample_id, lit = packed["sample"], any(each["spotlights"] for each in packed["runs"])
    heads = {"mean": "Mean of heads"} | {str(head): f"Head {head}" for head in range(run.heads(sample_id))}
    grids = {
        str(i): f"{grid['frame']} {grid['image'] if grid['frame'] == 'frame' else i}"
        for i, grid in enumerate(run.store.grids(sample_id))
    }
    scales = {"layer": "Scale: each layer", "all": "Scale: all layers"}
    if len(packed["runs"]) > 1:
        scales["both"] = "Scale: layer, both runs"
    head = "mean" if chosen.head is None else str(chosen.head)
    return html.Div(
        [
            choice("head", heads, head, "Head"),
            choice("grid", grids, str(chosen.grid), "Part of the image", hidden=len(grids) < 2),
            choice("scale", scales, "layer", "Scale of colours"),
            choice("colours", {name: name.capitalize() for name in COLOURS}, COLOURS[0], "Colour map"),
            choice("lights", LIGHTS, "prior", "Spotlights of VIF", hidden=not lit),
            dcc.Checklist(id="smooth", options=[{"label": "smooth", "value": "best"}], value=[]),
            html.Label([html.Span("Opacity"), dcc.Slider(0, 1, 0.05, value=0.6, id="opacity", marks=None,
                                                         updatemode="drag")], className="opacity"),
            html.Div([html.Button(text, id=name, className="quiet", title=title) for name, text, title in
                      (("png", "PNG", "Save the maps as PNG"), ("svg", "SVG", "Save the maps as SVG"),
                       ("csv", "CSV", "Save the maps' numbers"),
                       ("html", "HTML", "Save this sample as a page that needs nothing else"),
                       ("link", "Copy link", "A link to this view"),
                       ("show-layers", "All layers", "The map of every layer, below"),
                       ("show-heads", "All heads", "Every head of this layer, below"))], className="buttons"),
        ],
        className="controls",
    )  # fmt: skip


def _panels(packed: dict[str, Any]) -> list[html.Figure]:
    names = [run["name"] for run in packed["runs"]]
    shown = [(place, name, run["figure"]) for place, (name, run) in enumerate(zip(names, packed["runs"], strict=True))]
    if len(names) == 2:
        shown.append((2, f"{names[1]} less {names[0]}", packed["runs"][0]["figure"]))
    return [
        html.Figure(
            [html.Figcaption([html.I(className=f"dot run-{packed['runs'][place]['colour']}")
                              if place < len(names) else "", name]),
             dcc.Graph(id={"type": "map", "run": place}, figure=figure, config=GRAPH, className="map",
                       style={"height": "22rem"})]
        )
        for place, name, figure in shown
    ]  # fmt: skip


def _spine(holders: list[Browsed], sample_id: str, chosen: Chosen) -> Any:
    tracks = [
        Track(run.name, run.maps_or_mean(sample_id, chosen)[0] if place < MOST else None, run.curves(sample_id))
        for place, run in enumerate(holders)
    ]
    return spine_figure(tracks, CURVES)


def _chosen(row: int | None, head: str | None, grid: str | None) -> Chosen:
    """From the values of the controls. A head has no map of a single row."""
    one = None if head in (None, "mean") else int(head)
    return Chosen(one, row if one is None else None, int(grid or 0))
