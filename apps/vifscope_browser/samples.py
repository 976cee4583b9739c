"""The page of samples: found, filtered, sorted, a page at a time."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pandas as pd
from dash import ClientsideFunction, Dash, Input, Output, State, ctx, dcc, html

from vifscope_browser.address import address_of, number
from vifscope_browser.catalogue import SORTS, Catalogue
from vifscope_browser.choice import choice
from vifscope_browser.dot import dot

PAGE = 24
FILTERS = ("search", "kind", "size", "verdict", "sort", "down")


def layout(catalogue: Catalogue, asked: dict[str, str]) -> html.Section:
    table = catalogue.samples

    def of(column: str) -> dict[str, str]:
        return {"": f"Every {column}"} | {value: value for value in sorted(set(table[column]) - {""})}

    verdicts = {"": "Right and wrong", "right": "Right", "wrong": "Wrong"}
    if len(catalogue.runs) > 1:
        verdicts["differ"] = "Runs disagree"
    sorts = {column: f"By {words[0].lower()}{words[1:]}" for column, words in SORTS.items()}

    def chosen(name: str, options: dict[str, str], label: str) -> html.Div:
        value = asked.get(name, "")
        return choice(name, options, value if value in options else next(iter(options)), label)

    controls = [
        dcc.Input(id="search", type="search", debounce=0.3, placeholder="Search questions (press /)",
                  value=asked.get("search", "")),
        chosen("kind", of("kind"), "Kind of question"),
        chosen("size", of("size"), "Size of the object"),
        chosen("verdict", verdicts, "Right or wrong"),
        chosen("sort", sorts, "Sorted by"),
        dcc.Checklist(id="down", options=[{"label": "largest first", "value": "down"}],
                      value=["down"] if asked.get("down") else []),
    ]  # fmt: skip
    return html.Section(
        [
            html.Div(controls, className="controls", role="search"),
            html.P(id="count", className="note", **{"aria-live": "polite"}),
            html.Div(id="gallery", className="gallery"),
            html.Div(
                [html.Button("Back", id="page-back"), html.Span(id="page-said"), html.Button("On", id="page-on")],
                className="pager",
            ),
            dcc.Store(id="page-number", data=number(asked, "page") or 0),
            dcc.Store(id="samples-layer", data=asked.get("layer")),
        ]
    )


def register(app: Dash, catalogue: Catalogue) -> None:
    @app.callback(
        Output("gallery", "children"), Output("count", "children"), Output("page-said", "children"),
        Output("page-number", "data"), Output("page-back", "disabled"), Output("page-on", "disabled"),
        *[Input(name, "value") for name in FILTERS],
        Input("page-back", "n_clicks"), Input("page-on", "n_clicks"),
        State("page-number", "data"), State("samples-layer", "data"),
    )  # fmt: skip
    def show(search, kind, size, verdict, sort, down, _back, _on, page, layer):
        found = catalogue.find(search or "", kind or "", size or "", verdict or "", sort, bool(down))
        pages = max(1, -(-len(found) // PAGE))
        page = {"page-back": page - 1, "page-on": page + 1, None: page}.get(ctx.triggered_id, 0)
        page = min(max(page, 0), pages - 1)
        cards = [_card(catalogue, sample_id, layer) for sample_id in found[page * PAGE : (page + 1) * PAGE]]
        total = len(catalogue.samples)
        empty = html.P("No sample fits. Widen the search or clear a filter.", className="empty")
        said = f"{len(found):,} of {total:,} samples"
        return cards or empty, said, f"page {page + 1} of {pages}", page, page == 0, page == pages - 1

    app.clientside_callback(
        ClientsideFunction("samples", "address"), *[Input(name, "value") for name in FILTERS],
        Input("page-number", "data"), State("samples-layer", "data"),
    )  # fmt: skip


def _card(catalogue: Catalogue, sample_id: str, layer: str | None) -> dcc.Link:
    row = catalogue.samples.loc[sample_id]
    verdicts = [_verdict(number, row) for number in range(len(catalogue.runs))]
    return dcc.Link(
        [
            html.Img(src=f"/thumbnail/0/{quote(sample_id)}", alt=f"Picture of {sample_id}"),
            html.Div(
                [html.B(row["question"]), html.Div(verdicts, className="verdicts"),
                 html.Small(" · ".join(_facts(sample_id, row)))]
            ),
        ],
        href=address_of("sample", sample=sample_id, layer=layer), className="card",
    )  # fmt: skip


def _verdict(number: int, row: Any) -> html.Span:
    right = row[f"correct_{number}"]
    mark, what = ("", "not scored") if pd.isna(right) else ("✓", "right") if right else ("✗", "wrong")
    return html.Span(
        [dot(number), f"{mark} {row[f'response_{number}'] or '(no response)'}"],
        title=f"{what}; the answer is {row['answer'] or 'not known'}", className=what,
    )  # fmt: skip


def _facts(sample_id: str, row: Any) -> list[str]:
    facts = [sample_id, row["kind"], row["size"]]
    for name, word in (("visual_ratio", "ratio"), ("visual_entropy", "entropy"), ("box_lift", "lift")):
        if row[name] == row[name]:
            facts.append(f"{word} {row[name]:.2f}")
    return [fact for fact in facts if fact]
