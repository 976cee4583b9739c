"""index.html: a run on one page that stands alone, without scripts, fonts or anything else from the network.

Every text that comes from data is escaped here.
"""

from __future__ import annotations

import base64
import importlib.resources
import json
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from string import Template
from typing import Any

from vifscope.runs.manifest import BY_CONSTRUCTION
from vifscope.summary import best_layer, interval, short

COLUMNS = {
    "visual_ratio": ("visual ratio", "{:.3f}"),
    "ratio_lift": ("ratio lift", "{:.2f}"),
    "visual_entropy": ("visual entropy", "{:.2f}"),
    "relative_entropy": ("relative entropy", "{:.3f}"),
    "top_share": ("top share", "{:.3f}"),
    "box_lift": ("box lift", "{:.2f}"),
    "pointing_hit": ("pointing hit", "{:.2f}"),
}
CARDS = (
    ("peak visual ratio", "visual_ratio", max),
    ("lowest relative entropy", "relative_entropy", min),
    ("highest box lift", "box_lift", max),
)
_INTERVAL = "95 % interval"


def page(
    summary: dict[str, Any], manifest: dict[str, Any], failed: Sequence[tuple[str, str]], figures: Sequence[str]
) -> str:
    """The page of a run.

    summary: `summary_dict`.  failed: id and error of each failed sample.  figures: `figure` or `note` each, in order.
    """
    title = " on ".join(filter(None, (summary["model"], summary["data"]))) or summary["run"]
    errors = ([text(sample_id), text(error)] for sample_id, error in failed)
    fields = ([text(name), text(value)] for name, value in _flat(manifest))
    links = (f'<li><a href="{escape(file)}">{escape(file)}</a></li>' for file in summary["files"])
    return fill(
        "page.html",
        title=escape(title),
        sentence=escape(summary["sentence"]),
        numbers=_numbers(summary),
        figures="\n".join(figures),
        accuracy=_accuracy(summary),
        layers=_layers(summary["layers"]),
        failed=f"<h2>Failed samples</h2>{table(('sample', 'error'), errors, texts=2)}" if failed else "",
        configuration=table(("field", "value"), fields, texts=2),
        files="".join(links),
    )


def figure(light: bytes, dark: bytes, caption: str, *, wide: bool) -> str:
    """A figure from two SVG files, for a light and a dark page."""
    light_src, dark_src = (f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}" for svg in (light, dark))
    kind = ' class="wide"' if wide else ""
    return (
        f'<figure{kind}><picture><source media="(prefers-color-scheme: dark)" srcset="{dark_src}">'
        f'<img src="{light_src}" alt="{escape(caption)}"></picture><figcaption>{escape(caption)}</figcaption></figure>'
    )


def note(text: str) -> str:
    """A line in the place of a figure that there is not."""
    return f'<p class="note">{escape(text)}</p>'


def fill(template: str, **parts: str) -> str:
    """A page of the package with its style and these parts, which are HTML. Raises KeyError for one that is missing."""
    files = importlib.resources.files("vifscope")
    html, style = (files.joinpath(name).read_text(encoding="utf-8") for name in (template, "page.css"))
    return Template(html).substitute(style=style, **parts)


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, texts: int = 0, full: bool = False) -> str:
    """A table of ready cells; its first `texts` columns hold text."""
    kinds = [' class="text"' if column < texts else "" for column in range(len(headings))]
    head = "".join(f"<th{kind}>{escape(heading)}</th>" for heading, kind in zip(headings, kinds, strict=True))
    body = "".join(f"<tr>{''.join(cells)}</tr>" for cells in rows)
    kind = ' class="full"' if full else ""
    return f'<div class="scroll"><table{kind}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def text(value: str) -> str:
    """A cell of text, escaped."""
    return f'<td class="text">{escape(value)}</td>'


def number(value: float | None, form: str) -> str:
    """A number in a format such as "{:.3f}"; a dash where it is undefined."""
    return "–" if value is None else form.format(value)


def bounds(low: float | None, high: float | None, form: str) -> str:
    """An interval in small letters; nothing where it is undefined."""
    return "" if low is None or high is None else f"<small>{form.format(low)} to {form.format(high)}</small>"


def _numbers(summary: dict[str, Any]) -> str:
    """The key figures as cards: value, and its interval or its place in small."""
    cards = [("samples", str(summary["n"]), f"{summary['failed'] or 'none'} failed")]
    for label, value, percent in (
        ("accuracy", summary["accuracy"], True),
        ("attenuation index", summary["attenuation_index"], False),
    ):
        mean, _, bounds = interval(value, percent=percent).partition(" (")
        cards.append((label, mean, bounds.removesuffix(")")))
    for label, metric, which in CARDS:
        layer = best_layer(summary["layers"], metric, which)
        cards.append((label, short(layer[metric]), f"layer {layer['layer']}") if layer else (label, "undefined", ""))
    divs = (f"<div><dt>{label}</dt><dd>{value}<small>{small}</small></dd></div>" for label, value, small in cards)
    return "".join(divs)


def _accuracy(summary: dict[str, Any]) -> str:
    """By kind of question, "all" first, with the attenuation index of each; then by size of the target."""
    by_kind, indices = summary["accuracy_by_kind"], summary["attenuation_index_by_kind"]
    kinds = [("all", summary["accuracy"], summary["attenuation_index"])]
    kinds += [(kind, accuracy, indices[kind]) for kind, accuracy in by_kind.items()]
    rows = []
    for kind, accuracy, index in kinds:
        cells = number(index["mean"], "{:.3f}"), bounds(index["low"], index["high"], "{:.3f}")
        rows.append([text(kind), *_accuracy_cells(accuracy), *(f"<td>{cell}</td>" for cell in cells)])
    headings = ["n", "accuracy", _INTERVAL, "score"]
    tables = [table(["kind", *headings, "attenuation index", _INTERVAL], rows, texts=1)]
    if sizes := summary["accuracy_by_size"]:
        rows = [[text(size), *_accuracy_cells(accuracy)] for size, accuracy in sizes.items()]
        tables.append(table(["target size", *headings], rows, texts=1))
    return "".join(tables)


def _accuracy_cells(accuracy: dict[str, Any]) -> list[str]:
    mean, low, high = (None if accuracy[key] is None else 100 * accuracy[key] for key in ("mean", "low", "high"))
    share = "" if mean is None else f' class="right" style="--share:{mean:.1f}%"'
    small = bounds(low, high, "{:.1f}"), number(accuracy["score"], "{:.3f}")
    return [
        f"<td>{accuracy['n']}</td>",
        f"<td{share}>{number(mean, '{:.1f} %')}</td>",
        *(f"<td>{cell}</td>" for cell in small),
    ]


def _layers(layers: Sequence[dict[str, Any]]) -> str:
    """A row a layer: each metric with its interval under it, in brackets where it is so by construction; a bar behind
    the ratio."""
    rows = []
    for layer in layers:
        deep = " <small>deep</small>" if layer["deep"] else ""
        cells = [f"<td>{layer['layer']}{deep}</td>"]
        for metric, (_, form) in COLUMNS.items():
            value, low, high = (layer[metric + end] for end in ("", "_low", "_high"))
            share = f' class="bar" style="--share:{100 * (value or 0):.1f}%"' if metric == "visual_ratio" else ""
            shown = number(value, form)
            shown = f"({shown})" if layer["held_up"] and metric in BY_CONSTRUCTION else shown
            cells.append(f"<td{share}>{shown}<br>{bounds(low, high, form)}</td>")
        rows.append(cells)
    return table(["layer", *(heading for heading, _ in COLUMNS.values())], rows, full=True)


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Every value of a nested manifest as text, with the path of names that leads to it."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value if isinstance(value, str) else json.dumps(value)
