from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser

import pandas as pd
import pytest

from vif_core.errors import UsageError, VifError
from vifscope import page, report
from vifscope.figures import gallery
from vifscope.runs import RunStore
from vifscope.summary import summary_dict

EVIL = '<script>alert("x")</script>&'
VOID = {"meta", "img", "source", "br"}


class Reader(HTMLParser):
    """Text of a page, and whether every element is closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.names, self.attributes, self.words = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.names.append(tag)
        self.attributes += attributes
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


FIGURES = [name for name in gallery.FIGURES if name not in ("spotlights", "video")]  # of VIF, and of videos


@pytest.fixture(scope="module")
def written(run, tmp_path_factory):
    """A copy of the synthetic run with its report: store, summary, index.html."""
    path = tmp_path_factory.mktemp("report") / "run"
    shutil.copytree(run.path, path)
    store = RunStore.open(path)
    summary = report.write_report(store)
    return store, summary, (path / "index.html").read_text(encoding="utf-8")


def test_figures_tables_and_page_are_written_and_named(written):
    store, summary, _ = written
    figures = {f"figures/{name}.{suffix}" for name in FIGURES for suffix in ("png", "pdf")}
    assert set(summary["files"]) == figures | {"index.html", "summary.csv"}
    assert all((store.path / file).stat().st_size > 0 for file in summary["files"])


def test_a_model_with_vif_gets_its_spotlights_drawn(run_of, tmp_path):
    path = shutil.copytree(run_of(6, model="mini-llava-vif", pairs=((7, 13),)).path, tmp_path / "run")
    assert "figures/spotlights.pdf" in report.write_report(RunStore.open(path))["files"]
    assert "from the question alone and with the answer" in (path / "index.html").read_text()


def test_a_ratio_that_an_injected_map_holds_up_is_in_brackets_and_on_no_card(run_of, tmp_path):
    path = shutil.copytree(run_of(6, model="lit", pairs=((3, 4), (7, 13))).path, tmp_path / "run")
    summary = summary_dict(RunStore.open(path))
    text = Reader(page.page(summary, {}, [], [])).text
    for layer in summary["layers"]:
        assert (f"({layer['visual_ratio']:.3f})" in text) == (layer["layer"] in (4, 13))
    own = max(layer["visual_ratio"] for layer in summary["layers"] if layer["layer"] not in (4, 13))
    assert f"peak visual ratio {own:.3g} layer" in text


def test_the_table_is_the_summary(written):
    store, summary, _ = written
    table = pd.read_csv(store.path / "summary.csv").query("group == 'all' and metric == 'visual_ratio'")
    wanted = [layer["visual_ratio"] for layer in summary["layers"]]
    assert table["mean"].tolist() == pytest.approx(wanted)


def test_the_page_is_whole_and_stands_alone(written):
    _, _, html = written
    reader = Reader(html)
    assert reader.open == []
    assert not {"script", "link", "iframe"} & set(reader.names)
    sources = [value for name, value in reader.attributes if name in ("src", "srcset")]
    assert len(sources) == 2 * len(FIGURES)
    assert all(source.startswith("data:image/svg+xml;base64,") for source in sources)
    assert not re.search(r"https?://|url\(|@import", re.sub(r"base64,[^\"]*", "", html))


def test_the_page_follows_the_reader_s_light_or_dark(written):
    _, _, html = written
    assert html.count('<source media="(prefers-color-scheme: dark)"') == len(FIGURES)
    assert "@media (prefers-color-scheme: dark)" in html


def test_the_page_shows_finding_numbers_tables_and_configuration(written):
    store, summary, html = written
    text = Reader(html).text
    assert summary["sentence"] in text
    for name in (*summary["accuracy_by_kind"], *summary["accuracy_by_size"]):
        assert name in text
    for layer in summary["layers"]:
        assert f"{layer['visual_ratio']:.3f}" in text
        assert f"{layer['box_lift_low']:.2f} to {layer['box_lift_high']:.2f}" in text
    assert f"attenuation index {summary['attenuation_index']['mean']:.3g}" in text
    assert store.manifest["configuration_hash"] in text
    assert "configuration.seed 0" in text


def test_a_kind_named_all_leaves_the_row_of_all_samples(run):
    summary = summary_dict(run)
    for name in ("accuracy_by_kind", "attenuation_index_by_kind"):
        summary[name] = {"all": next(iter(summary[name].values()))}
    text = Reader(page.page(summary, {}, [], [])).text
    assert re.search(r"all 24 .* all 6 ", text)


def test_failed_samples_are_shown_with_their_error_as_written(written):
    _, _, html = written
    assert "s024 sample s024: image <b>missing</b>.png does not exist." in Reader(html).text
    assert "<b>" not in html


def test_files_are_linked_and_there(written):
    store, _, html = written
    links = [value for name, value in Reader(html).attributes if name == "href"]
    assert len(links) == 2 * len(FIGURES) + 1
    assert all((store.path / link).exists() for link in links)


def test_writing_again_gives_the_same_page(written):
    store, summary, html = written
    assert report.write_report(RunStore.open(store.path)) == summary
    assert (store.path / "index.html").read_text(encoding="utf-8") == html


def test_every_text_from_data_is_escaped(run):
    summary = summary_dict(run) | {"model": EVIL, "data": EVIL, "sentence": EVIL, "files": [f'figures/"{EVIL}.png']}
    for name in ("accuracy_by_kind", "accuracy_by_size", "attenuation_index_by_kind"):
        values = summary[name].values()
        summary[name] = {EVIL + str(i): value for i, value in enumerate(values)}
    figures = [page.note(EVIL), page.figure(b"<svg/>", b"<svg/>", f'"{EVIL}', wide=True)]
    html = page.page(summary, {EVIL: EVIL, "versions": {"torch": [EVIL]}}, [(EVIL, EVIL)], figures)
    reader = Reader(html)
    assert reader.open == []
    assert "script" not in reader.names
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 15
    assert EVIL in reader.text


def test_what_is_undefined_is_said(run_of):
    store = run_of(2, boxes=False, answers=False, grid=False)
    summary = report.write_report(store)
    text = Reader((store.path / "index.html").read_text(encoding="utf-8")).text
    assert not [file for file in summary["files"] if "maps" in file]
    assert "has no maps to draw; expected measured samples whose visual tokens lie on a grid." in text
    assert "accuracy undefined" in text
    assert not re.search(r"\bnan\b|\bNone\b", text)


def test_a_run_without_measured_samples_is_refused(records_run):
    def fail(records):
        for record in records:
            record.flows, record.sample["error"] = {}, "broken"
        return records

    with pytest.raises(UsageError, match="holds no measured sample"):
        report.write_report(records_run(1, change=fail))


def test_a_disk_that_refuses_is_one_line(records_run, monkeypatch):
    store = records_run(1)
    (store.path / "figures").write_text("in the way")
    with pytest.raises(VifError, match="figures cannot be written"):
        report.write_report(store)
