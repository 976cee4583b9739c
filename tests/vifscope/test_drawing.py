"""`vifscope figures` writes every figure that the runs have, in every format asked for."""

from __future__ import annotations

import shutil

import pandas as pd
import pytest

from vif_core.errors import UsageError
from vifscope.drawing import draw
from vifscope.report import CAPTIONS
from vifscope.runs import RunStore

MAGIC = {"pdf": b"%PDF", "png": b"\x89PNG", "svg": b"<?xml"}


def test_one_run_gives_its_gallery(run, tmp_path):
    files, _ = draw([run], tmp_path, ["pdf", "png", "svg"])
    name = run.path.resolve().name
    assert {f"{name}/attenuation.pdf", f"{name}/focus.png", f"{name}/violins.svg"} <= set(files)
    for file in files:
        assert (tmp_path / file).read_bytes().startswith(MAGIC[file[-3:]])


def test_several_runs_give_their_comparison_and_claims_as_well(run, tmp_path):
    files, _ = draw([run, run], tmp_path, ["png"], paper=True)
    name = run.path.resolve().name
    assert {f"{name}/focus.png", f"{name}-2/focus.png", "curves.png", "claims.csv"} <= set(files)
    assert pd.read_csv(tmp_path / "claims.csv")["claim"].is_unique


@pytest.mark.parametrize("formats", [["gif"], []])
def test_another_format_is_refused(run, tmp_path, formats):
    with pytest.raises(UsageError, match="expected of pdf, png, svg"):
        draw([run], tmp_path, formats)
    assert not list(tmp_path.iterdir())


def test_html_gives_one_page_of_all_figures_and_the_viewers(run_of, tmp_path):
    lit = run_of(12, model="mini-llava-vif", pairs=((7, 13), (9, 15)))
    written, _ = draw([run_of(12, model="mini-llava"), lit], tmp_path, ["html"], paper=True)
    assert written == ["claims.csv", "other/samples.html", "other-2/samples.html", "figures.html"]
    text = (tmp_path / "figures.html").read_text()
    assert text.count("<figure") == 4 + 5 + 6, "of both, of the first, and of the second, which has spotlights"
    assert text.count("plotly.js v") == 1, "the script is there once"
    assert '<a href="other-2/samples.html">' in text
    assert "neither borne out nor refuted here" in text
    assert len(text) < 8e6


def test_what_a_run_has_nothing_for_is_left_out_of_the_page(run_of, tmp_path):
    draw([run_of(2, grid=False)], tmp_path, ["html"])
    text = (tmp_path / "figures.html").read_text()
    assert text.count("<figure") == 4
    assert CAPTIONS["maps"] not in text


@pytest.mark.parametrize("formats", [["svg"], ["html"]])
def test_a_broken_shard_of_maps_costs_the_figures_of_maps_alone(run, tmp_path, formats):
    broken = RunStore.open(shutil.copytree(run.path, tmp_path / "run"))
    next((broken.path / "maps").glob("*.safetensors")).write_bytes(b"broken")
    files, _ = draw([broken], tmp_path / "out", formats)
    text = (tmp_path / "out" / "figures.html").read_text() if formats == ["html"] else " ".join(files)
    assert ("run/attenuation.svg" in text, "run/maps.svg" in text) == (True, False) or formats == ["html"]
    assert formats == ["svg"] or (CAPTIONS["maps"] not in text and text.count("<figure") >= 3)
    assert "maps" in " ".join(broken.problems), "named, for exit code 3"


@pytest.mark.parametrize("paper", [False, True])
def test_a_run_without_a_measured_sample_is_refused(run, records_run, tmp_path, paper):
    def fail(records):
        for record in records:
            record.flows, record.sample["error"] = {}, "broken"
        return records

    failed = records_run(2, change=fail)
    for runs in ([failed], [run, failed]):
        with pytest.raises(UsageError, match="holds no measured sample with map"):
            draw(runs, tmp_path / "out", paper=paper)
    assert not (tmp_path / "out").exists()


def test_runs_whose_folders_share_a_name_have_a_folder_of_figures_each(run, tmp_path):
    stores = []
    for place, name in enumerate(("x-3", "x", "x")):
        stores.append(RunStore.open(shutil.copytree(run.path, tmp_path / str(place) / name)))
    files, _ = draw(stores, tmp_path / "out", ["svg"])
    assert {file.split("/")[0] for file in files if "/" in file} == {"x-3", "x", "x-2"}
    assert len(files) == len(set(files))
