"""The files that a comparison leaves for its reader: tables, figures and index.html, which stands alone."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vif_core.errors import UsageError, VifError
from vifscope import page
from vifscope.comparison.words import p_value
from vifscope.figures.theme import DARK, render
from vifscope.runs.disk import make_folders, write_file
from vifscope.runs.manifest import MANIFEST
from vifscope.summary import NO_INTERVAL, short

if TYPE_CHECKING:
    from vifscope.comparison.comparison import Comparison

COLUMNS = {
    "visual_ratio": ("visual ratio", "{:+.3f}"),
    "ratio_lift": ("ratio lift", "{:+.2f}"),
    "visual_entropy": ("visual entropy", "{:+.2f}"),
    "relative_entropy": ("relative entropy", "{:+.3f}"),
    "box_mass": ("box mass", "{:+.3f}"),
    "box_lift": ("box lift", "{:+.2f}"),
}


def write_report(comparison: Comparison, path: Path) -> list[str]:
    """Writes comparison.csv, accuracy.csv, figures/NAME.png and .pdf, and index.html into the folder at `path`; returns
    their paths in it.

    A figure for which there is nothing, or whose maps or pictures cannot be read, is left out, and index.html says why;
    `problems` of the runs name such files. Raises UsageError for the folder of a run, whose own page would be lost, and
    VifError where the disk refuses.
    """
    if (path / MANIFEST).exists():
        raise UsageError(
            f"{path} is the folder of a run", expected="another folder", next_step="Name a new one with --out"
        )
    make_folders(path / "figures")
    write_file(path / "comparison.csv", comparison.differences.to_csv(index=False).encode())
    write_file(path / "accuracy.csv", comparison.accuracy.to_csv(index=False).encode())
    shown, files = [], ["accuracy.csv", "comparison.csv"]
    for name, caption in comparison.figures.items():
        try:
            light = comparison.figure(name)
        except VifError as error:
            shown.append(page.note(str(error)))
            continue
        for suffix in ("pdf", "png"):
            write_file(path / "figures" / f"{name}.{suffix}", render(light, suffix))
            files.append(f"figures/{name}.{suffix}")
        dark = comparison.figure(name, DARK)
        shown.append(page.figure(render(light, "svg"), render(dark, "svg"), caption, wide=True))
    write_file(path / "index.html", comparison_page(comparison.summary_dict(sorted(files)), shown).encode())
    return sorted([*files, "index.html"])


def comparison_page(summary: dict[str, Any], figures: list[str]) -> str:
    """The page of a comparison. summary: `comparison_dict`; figures: `page.figure` or `page.note` each, in order."""
    others = summary["others"]
    title = f"{' and '.join(other['name'] for other in others)} against {summary['baseline']['name']}"
    links = (f'<li><a href="{escape(file)}">{escape(file)}</a></li>' for file in summary["files"])
    findings = [other["sentence"] for other in others]
    findings += [other["paper"]["line"] for other in others if other["paper"]]
    findings.append(summary["samples"])
    return page.fill(
        "comparison.html",
        title=escape(title),
        findings="".join(f'<p class="finding">{escape(line)}</p>' for line in findings),
        numbers="".join(card for other in others for card in _cards(other, named=len(others) > 1)),
        figures="\n".join(figures),
        tables="".join(_tables(other) for other in others),
        runs=_runs([summary["baseline"], *others]),
        files="".join(links),
    )


def _cards(other: dict[str, Any], *, named: bool) -> Iterator[str]:
    """What changed most to the point, as cards: value, and its interval in small."""
    deep = other["deep"]
    scope = "deep injected" if "deep injected" in deep else "deep"
    changes = [
        (f"visual entropy, {scope}", deep[scope]["visual_entropy"], "percent", "{:+.1f}", " %", 1),
        (f"box lift, {scope}", deep[scope]["box_lift"], "percent", "{:+.1f}", " %", 1),
        ("accuracy", other["accuracy"], "", "{:+.1f}", " points", 100),
    ]
    for label, change, kind, form, unit, scale in changes:
        keys = ("percent", "percent_low", "percent_high") if kind else ("difference", "low", "high")
        heading = f"{other['name']}: {label}" if named else label
        known = [form.format(scale * change[key]) for key in keys if change[key] is not None]
        value, small = f"{known[0]}{unit}" if known else "undefined", ""
        if known:
            small = f"95 % interval {known[1]} to {known[2]}" if len(known) > 1 else NO_INTERVAL
        yield f"<div><dt>{escape(heading)}</dt><dd>{value}<small>{small}</small></dd></div>"


def _tables(other: dict[str, Any]) -> str:
    groups = ({"all": other["accuracy"]}, other["accuracy_by_kind"], other["accuracy_by_size"])
    rows = [[page.text(name), *_accuracy_cells(row)] for group in groups for name, row in group.items()]
    headings = ["", "n", "baseline", "this run", "difference", "only baseline right", "only this run right", "p"]
    layers = [
        [f"<td>{layer['layer']} <small>{'injected' if layer['injected'] else ''}</small></td>", *_layer_cells(layer)]
        for layer in other["layers"]
    ]
    deep = [[f'<td class="text">{scope}</td>', *_layer_cells(metrics)] for scope, metrics in other["deep"].items()]
    titles = [heading for heading, _ in COLUMNS.values()]
    name = escape(other["name"])
    return (
        f"<h2>Accuracy of {name}</h2>{page.table(headings, rows, texts=1)}"
        f"<h2>Deep layers of {name}, difference</h2>{page.table(['mean over', *titles], deep, texts=1, full=True)}"
        f"<h2>Every layer of {name}, difference</h2>{page.table(['layer', *titles], layers, full=True)}"
    )


def _accuracy_cells(change: dict[str, Any]) -> list[str]:
    shares = [None if change[key] is None else 100 * change[key] for key in ("baseline", "other", "difference")]
    before, after, points = shares
    low, high = (None if change[key] is None else 100 * change[key] for key in ("low", "high"))
    cells = [str(change["n"]), page.number(before, "{:.1f} %"), page.number(after, "{:.1f} %")]
    cells.append(f"{page.number(points, '{:+.1f}')} {page.bounds(low, high, '{:+.1f}')}")
    cells += [str(change["baseline_only"]), str(change["other_only"])]
    return [f"<td>{cell}</td>" for cell in [*cells, "–" if change["p"] is None else p_value(change["p"])]]


def _layer_cells(metrics: dict[str, Any]) -> list[str]:
    """Difference, its interval and the test of each metric; in brackets what is so by construction."""
    cells = []
    for metric, (_, form) in COLUMNS.items():
        change = metrics[metric]
        value = page.number(change["difference"], form)
        p = change.get("p_holm", change["p"])
        said = f"<small>p {p_value(p)}</small>" if p is not None and not change["by_construction"] else ""
        shown = f"({value})" if change["by_construction"] else value
        cells.append(f"<td>{shown}<br>{page.bounds(change['low'], change['high'], form)}<br>{said}</td>")
    return cells


def _runs(sides: list[dict[str, Any]]) -> str:
    rows = []
    for side in sides:
        vif = side["vif"]
        pairs = ", ".join(f"{extraction} to {injection}" for extraction, injection in vif["pairs"]) if vif else ""
        words = f"alpha {short(vif['alpha'])}; layers {pairs}" if vif else "none"
        cells = (side["name"], side["run"], side["model"] or "", words, str(side["left_out"]))
        rows.append([page.text(cell) for cell in cells])
    return page.table(["name", "run", "model", "VIF", "samples left out"], rows, texts=5)
