from __future__ import annotations

import json
import re
import shutil

import pandas as pd
import pytest
from matplotlib.figure import Figure

from vif_core.errors import UsageError, VifError
from vifscope.comparison import Comparison
from vifscope.comparison.report import comparison_page
from vifscope.figures.theme import DARK
from vifscope.runs import RunStore


@pytest.fixture(scope="module")
def found(comparison):
    return comparison.summary_dict()


@pytest.fixture(scope="module")
def written(comparison, tmp_path_factory):
    path = comparison.write(tmp_path_factory.mktemp("comparisons") / "deep" / "one")
    return path, (path / "index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def bare(run_of):
    """Two runs without boxes, answers and grids."""
    return Comparison([run_of(3, boxes=False, answers=False, grid=False)] * 2)


def test_the_findings_are_json_and_undefined_is_null(found, bare):
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    undefined = bare.summary_dict()["others"][0]
    assert undefined["layers"][0]["box_lift"]["difference"] is None
    assert undefined["accuracy"]["n"] == 0
    assert undefined["accuracy"]["difference"] is None


def test_the_findings_name_runs_samples_and_what_was_left_out(found, baseline, with_vif):
    assert (found["data"], found["n"]) == ("specks-test", 22)
    assert found["baseline"] == {
        "name": "mini-llava",
        "run": str(baseline.path),
        "model": "mini-llava",
        "vif": None,
        "left_out": 2,
    }
    (other,) = found["others"]
    assert (other["run"], other["vif"]["alpha"], other["left_out"]) == (str(with_vif.path), 0.5, 2)
    assert found["samples"] == (
        "22 samples in every run; left out, for want of a partner: 2 of mini-llava, 2 of mini-llava-vif."
    )


def test_the_findings_hold_every_layer_scope_and_accuracy(found, comparison):
    (other,) = found["others"]
    assert [layer["layer"] for layer in other["layers"]] == list(range(16))
    assert [layer["layer"] for layer in other["layers"] if layer["injected"]] == [11, 13, 15]
    assert list(other["deep"]) == ["deep", "deep injected", "deep uninjected"]
    entropy = comparison.differences.query("scope == 'layer' and layer == 13 and metric == 'visual_entropy'").iloc[0]
    for key, value in other["layers"][13]["visual_entropy"].items():
        assert value == entropy[key]
    assert list(other["accuracy_by_size"]) == ["tiny", "small", "large"]
    assert other["accuracy"]["n"] == 22


def test_the_sentence_says_what_changed_with_its_interval(found):
    (other,) = found["others"]
    sentence, entropy = other["sentence"], other["deep"]["deep injected"]["visual_entropy"]
    said = f"in the injected deep layers visual entropy fell from {entropy['baseline']:.3g} to {entropy['other']:.3g}"
    assert sentence.startswith(f"mini-llava-vif against mini-llava: {said} ({entropy['percent']:+.1f} %, 95 % interval")
    assert "in the uninjected deep layers visual entropy is unchanged at" in sentence
    accuracy = other["accuracy"]
    assert f"{100 * accuracy['baseline']:.1f} to {100 * accuracy['other']:.1f} %" in sentence
    assert "accuracy on tiny objects" in sentence
    assert found["sentence"] == f"{found['samples']} {sentence}"


def test_the_ratio_of_an_injected_layer_is_never_said(found):
    injected, uninjected = found["others"][0]["sentence"].split("in the uninjected deep layers")
    assert "visual ratio" not in injected
    assert "visual ratio" in uninjected


def test_where_every_deep_layer_is_injected_no_ratio_is_said(baseline, run_of):
    other = run_of(4, model="all deep", pairs=((6, 12), (7, 13), (8, 14), (9, 15)))
    assert "ratio" not in Comparison([baseline, other]).summary_dict()["sentence"]


def test_entropy_stands_beside_the_paper_s_where_vif_was_added(found, baseline, with_vif):
    (other,) = found["others"]
    entropy = other["deep"]["deep injected"]["visual_entropy"]
    assert "the paper 5.3561 to 3.2335 (-39.6 %)" in other["paper"]["line"]
    assert f"mini-llava {entropy['baseline']:.4f}, mini-llava-vif {entropy['other']:.4f}" in other["paper"]["line"]
    for runs in ([baseline, baseline], [with_vif, with_vif], [with_vif, baseline]):
        assert Comparison(runs).summary_dict()["others"][0]["paper"] is None


def test_what_is_undefined_is_said_to_be_so(bare):
    sentence = bare.summary_dict()["sentence"]
    assert "box lift is undefined" in sentence
    assert "accuracy is unknown, for no sample has an answer" in sentence
    assert not re.search(r"\bnan\b|\bNone\b", sentence)


def test_a_single_image_shows_no_clear_change_and_has_no_interval(run_of, tmp_path):
    comparison = Comparison([run_of(1, model="a"), run_of(1, model="b", pairs=((6, 13),))])
    (other,) = comparison.summary_dict()["others"]
    entropy = other["deep"]["deep injected"]["visual_entropy"]
    assert entropy["difference"] < 0
    assert (entropy["low"], entropy["percent_high"], other["accuracy"]["low"]) == (None, None, None)
    assert "visual entropy shows no clear change, " in other["sentence"]
    assert f"({entropy['percent']:+.1f} %, no interval: one image)" in other["sentence"]
    assert not re.search("rose from|fell from", other["sentence"])
    html = (comparison.write(tmp_path) / "index.html").read_text(encoding="utf-8")
    assert f"<dd>{entropy['percent']:+.1f} %<small>no interval: one image</small></dd>" in html
    assert not re.search(r"\bnan\b|\bNone\b", re.sub(r"base64,[^\"]*", "", html))
    assert (tmp_path / "figures" / "accuracy.png").exists()
    for name in comparison.figures:
        comparison.interactive(name)
    top = comparison.curves.query("metric == 'visual_entropy'")["mean"].max()
    drawn = next(axes for axes in comparison.figure("curves").axes if "entropy (nats)" in axes.get_title())
    assert drawn.get_ylim()[1] > top, "the axis holds a curve without a band"


def test_a_third_run_is_held_against_the_first_over_what_all_share(baseline, with_vif, run_of):
    third = run_of(10, model="third")
    comparison = Comparison([baseline, with_vif, third])
    found = comparison.summary_dict()
    assert [other["name"] for other in found["others"]] == ["mini-llava-vif", "third"]
    assert found["n"] == 8
    assert [other["left_out"] for other in found["others"]] == [16, 2]
    assert found["others"][1]["deep"]["deep"]["visual_entropy"]["difference"] == 0
    assert list(comparison.figures) == ["curves", "differences", "accuracy", "maps", "maps-2"]
    assert isinstance(comparison.figure("maps-2"), Figure)


@pytest.mark.parametrize("name", ["pie", "maps-2", "curves-1", "maps-"])
def test_a_figure_that_is_not_there_is_refused(comparison, name):
    with pytest.raises(UsageError, match=f"there is no figure '{name}'; expected one of curves, differences, accuracy"):
        comparison.figure(name)


def test_tables_figures_and_page_are_written(written, comparison):
    path, _ = written
    figures = {
        f"{name}.{suffix}" for name in ("curves", "differences", "accuracy", "maps") for suffix in ("png", "pdf")
    }
    assert {file.name for file in (path / "figures").iterdir()} == figures
    table = pd.read_csv(path / "comparison.csv")
    assert table["difference"].to_numpy() == pytest.approx(comparison.differences["difference"].to_numpy(), nan_ok=True)
    assert pd.read_csv(path / "accuracy.csv")["name"].tolist() == comparison.accuracy["name"].tolist()


def test_the_page_stands_alone_and_says_what_was_found(written, found):
    _, html = written
    assert html.startswith("<!doctype html>")
    assert found["others"][0]["sentence"] in html
    assert found["others"][0]["paper"]["line"] in html
    assert html.count("data:image/svg+xml;base64,") == 2 * 4
    assert not re.search(r"https?://|url\(|@import|<script", re.sub(r"base64,[^\"]*", "", html))
    assert 'href="comparison.csv"' in html
    assert "alpha 0.5; layers 6 to 11, 7 to 13, 8 to 15" in html


def test_the_page_brackets_what_is_so_by_construction(written, found):
    _, html = written
    layers = found["others"][0]["layers"]
    assert f"<td>({layers[13]['visual_ratio']['difference']:+.3f})<br>" in html
    assert f"<td>{layers[13]['visual_entropy']['difference']:+.2f}<br>" in html


def test_kinds_and_sizes_of_one_name_have_a_row_each(found):
    (other,) = found["others"]
    kinds = {name: other["accuracy"] | {"n": n} for name, n in (("all", 901), ("small", 902))}
    sizes = {"small": other["accuracy"] | {"n": 903}}
    html = comparison_page(found | {"others": [other | {"accuracy_by_kind": kinds, "accuracy_by_size": sizes}]}, [])
    assert [f'<td class="text">{name}</td><td>{n}</td>' in html for name, n in
            (("all", 22), ("all", 901), ("small", 902), ("small", 903))] == [True] * 4  # fmt: skip


def test_the_page_names_the_tests_of_accuracy(written):
    _, html = written
    note = " ".join(html.split())
    assert "exact sign test over images of which one side has more questions right: McNemar's exact test where" in note


def test_every_text_from_data_is_escaped(found):
    evil = '<script>alert("x")</script>&'
    (other,) = found["others"]
    other = other | {"name": evil, "sentence": evil, "accuracy_by_kind": {evil: other["accuracy"]}, "run": evil}
    html = comparison_page(found | {"others": [other], "samples": evil, "files": [evil]}, [])
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 8


def test_what_cannot_be_drawn_is_said_on_the_page(bare, tmp_path):
    html = (bare.write(tmp_path) / "index.html").read_text(encoding="utf-8")
    assert "accuracy is unknown; expected samples with an answer." in html
    assert "share no sample with maps to draw" in html
    assert not (tmp_path / "figures" / "maps.png").exists()
    assert not re.search(r"\bnan\b|\bNone\b", re.sub(r"base64,[^\"]*", "", html))


def test_the_folder_of_a_run_is_not_written_over(comparison, baseline):
    before = sorted(baseline.path.rglob("*"))
    with pytest.raises(
        UsageError, match=r"is the folder of a run; expected another folder\. Name a new one with --out"
    ):
        comparison.write(baseline.path)
    assert sorted(baseline.path.rglob("*")) == before


def test_a_disk_that_refuses_is_one_line(comparison, tmp_path):
    (tmp_path / "figures").write_text("in the way")
    with pytest.raises(VifError, match="figures cannot be written"):
        comparison.write(tmp_path)


def test_the_default_folder_is_named_after_the_runs(comparison, baseline, with_vif):
    names = f"compare-{baseline.path.name}-{with_vif.path.name}"
    assert re.fullmatch(rf"{names}-[0-9a-f]{{8}}", comparison.default_name)
    many = Comparison([baseline] * 40)
    assert len(many.default_name) < 200
    assert many.default_name != Comparison([baseline] * 41).default_name


def test_other_runs_of_the_same_names_have_another_default_folder(baseline, with_vif, tmp_path, monkeypatch):
    for seed in ("s1", "s2"):
        shutil.copytree(baseline.path, tmp_path / seed / "base")
        shutil.copytree(with_vif.path, tmp_path / seed / "vif")
    monkeypatch.chdir(tmp_path)

    def folder(*runs):
        return Comparison([RunStore.open(run) for run in runs]).default_name

    assert folder("s1/base", "s1/vif") != folder("s2/base", "s2/vif")
    assert folder("s1/base", "s1/vif") == folder(tmp_path / "s1" / "base", "s2/../s1/vif")
    assert folder("s1/base", "s1/vif").startswith("compare-base-vif-")


def test_a_comparison_whose_figure_cannot_be_drawn_has_its_tables(comparison, tmp_path, monkeypatch):
    def figure(name, theme=None):
        assert (tmp_path / "comparison.csv").exists()
        assert (tmp_path / "accuracy.csv").exists()
        raise VifError(f"{name} is broken")

    monkeypatch.setattr(comparison, "figure", figure)
    html = (comparison.write(tmp_path) / "index.html").read_text(encoding="utf-8")
    assert re.findall(r">(\S+) is broken\.", html) == list(comparison.figures)


def test_a_dark_page_gets_dark_figures(comparison):
    assert comparison.figure("curves", DARK).get_facecolor() != comparison.figure("curves").get_facecolor()
