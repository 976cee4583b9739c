from __future__ import annotations

import io

import pytest
from rich.console import Console

from vifscope.cli.table import Sparkline, summary_view
from vifscope.summary import summary_dict


def printed(summary, *, width=80, encoding="utf-8"):
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    Console(file=file, width=width, color_system=None).print(summary_view(summary))
    file.seek(0)
    return file.read()


@pytest.mark.parametrize("layers", [16, 32, 96])
def test_it_fits_eighty_columns_whole(run_of, layers):
    lines = printed(summary_dict(run_of(2, layers=layers))).splitlines()
    assert max(map(len, lines)) <= 80
    assert not any("…" in line for line in lines)


def test_there_is_a_row_a_layer_with_its_metrics(run):
    summary = summary_dict(run)
    lines = printed(summary).splitlines()
    assert lines[0].split() == ["layer", "ratio", "lift", "entropy", "relative", "box", "lift"]
    rows = [line.split() for line in lines if len(line.split()) == 6 and line.split()[0].isdigit()]
    assert [int(row[0]) for row in rows] == list(range(16))
    for row, layer in zip(rows, summary["layers"], strict=True):
        names = ("visual_ratio", "ratio_lift", "visual_entropy", "relative_entropy", "box_lift")
        assert [float(value) for value in row[1:]] == pytest.approx([layer[n] for n in names], abs=0.006)


def test_what_an_injected_map_holds_up_is_in_brackets(run_of):
    rows = [line.split() for line in printed(summary_dict(run_of(2, model="lit", pairs=((7, 13),)))).splitlines()]
    rows = [row for row in rows if len(row) == 6 and row[0].isdigit()]
    for row in rows:
        bracketed = [cell.startswith("(") and cell.endswith(")") for cell in row[1:]]
        assert bracketed == [row[0] == "13"] * 2 + [False] * 3


def test_the_finding_and_accuracies_follow(run):
    summary = summary_dict(run)
    text = " ".join(printed(summary).split())
    assert " ".join(summary["sentence"].split()) in text
    kinds = ", ".join(f"{kind} {100 * a['mean']:.0f} %" for kind, a in summary["accuracy_by_kind"].items())
    assert f"Accuracy by kind: {kinds}." in text
    assert "Accuracy by size: tiny " in text


def test_undefined_values_are_dashes(run_of):
    text = printed(summary_dict(run_of(2, boxes=False, answers=False)), encoding="ascii")
    assert sum(line.endswith(" - ") for line in text.splitlines()) == 16
    assert "undefined" in text
    assert "Accuracy by" not in text


def test_brackets_in_names_are_no_markup(run):
    text = " ".join(printed(summary_dict(run) | {"sentence": "[bold]a[/bold] [x"}).split())
    assert "[bold]a[/bold] [x" in text


def test_a_terminal_without_unicode_gets_plain_marks(run):
    text = printed(summary_dict(run), encoding="ascii")
    assert text.isascii()
    assert "#" in text


def test_a_sparkline_goes_from_the_least_to_the_largest_with_gaps():
    assert Sparkline([0.0, 1.0, None, 0.5]).line() == "▁█ ▅"
    assert Sparkline([0.3, 0.3]).line() == "▁▁"
    assert Sparkline([None, None]).line() == "  "


def test_many_layers_are_pooled():
    line = Sparkline([float(i) for i in range(96)]).line()
    assert len(line) == 48
    assert list(line) == sorted(line)
