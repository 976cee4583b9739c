"""Runs that differ in samples, layers, heads, grids, or by what is broken: each shows what it has and says the rest."""

from __future__ import annotations

import json
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from plotly.utils import PlotlyJSONEncoder
from vifscope_browser.app import create_app
from vifscope_browser.catalogue import Catalogue, Chosen
from vifscope_browser.content import as_csv, heads_view, layers_view, pack
from vifscope_browser.overview import layout
from vifscope_browser.sample import layout as sample_layout

from vif_core.errors import UsageError, VifError

made = runpy.run_path(str(Path(__file__).parents[1] / "vifscope" / "conftest.py"))
OWN = {"Host": "127.0.0.1:8050"}


@pytest.fixture
def opened(tmp_path):
    """A catalogue of runs, each of these records."""

    def open_runs(*runs):
        for number, records in enumerate(runs):
            made["write_run"](tmp_path / f"run-{number}", records, None)
        return Catalogue.open([tmp_path / f"run-{number}" for number in range(len(runs))])

    return open_runs


def record(index=0, **given):
    return made["sample_record"](index, **given)


def two_grids(index=0):
    """A record whose tokens are a thumbnail's and a tile's."""
    found = record(index)
    grid, flow = found.sample["images"][0], found.flows["raw"]
    half = grid["rows"] // 2 * grid["cols"]
    grids = [grid | {"rows": grid["rows"] // 2}, grid | {"rows": grid["rows"] // 2, "offset": half}]
    return replace(found, sample=found.sample | {"images": grids}, flows={"raw": flow})


def words(component) -> str:
    """All text of a component and what it holds."""
    if isinstance(component, str):
        return component
    inner = component if isinstance(component, list) else getattr(component, "children", None) or []
    return " ".join(words(each) for each in (inner if isinstance(inner, list) else [inner]))


def test_a_run_without_grids_keeps_its_curves_and_leaves_the_other_its_maps(opened):
    catalogue = opened([record(grid=False)], [record()])
    packed = pack(catalogue, "s000", Chosen())
    assert [run["maps"] is None for run in packed["runs"]] == [True, False]
    assert "has 0 maps" in packed["runs"][0]["note"]
    assert len(packed["runs"][0]["curves"]["layer"]) == 16
    assert sample_layout(catalogue, {"sample": "s000"}) is not None
    alone = pack(opened([record(grid=False)]), "s000", Chosen())
    assert alone["runs"][0]["maps"] is None


def test_a_part_that_one_run_lacks_is_shown_of_the_other(opened):
    catalogue = opened([record()], [two_grids()])
    packed = pack(catalogue, "s000", Chosen(grid=1))
    assert [run["maps"] is None for run in packed["runs"]] == [True, False]
    assert "run-0 has 1 maps, not map 1" in packed["runs"][0]["note"]
    assert '"image 1"' in json.dumps(
        sample_layout(catalogue, {"sample": "s000"}).to_plotly_json(), cls=PlotlyJSONEncoder
    )
    with pytest.raises(UsageError, match="not map 2"):
        pack(catalogue, "s000", Chosen(grid=2))


def test_heads_and_layers_that_a_run_lacks_are_said(opened):
    catalogue = opened([record()], [record(layers=8)])
    deep, shallow = catalogue.runs
    assert "run-1, layer 12 No maps of heads:" in words(heads_view(shallow, "s000", 0, 12))
    assert "run-0, layer 12" in words(heads_view(deep, "s000", 0, 12))
    assert "run-0, head 99 no map:" in words(layers_view(deep, "s000", Chosen(head=99)))
    assert words(layers_view(deep, "s000", Chosen())).strip() == "run-0, mean"


def test_a_corrupt_shard_leaves_the_rest_and_is_named(opened, tmp_path):
    catalogue = opened([record(0), record(1)], [record(0), record(1)])
    for shard in (tmp_path / "run-0" / "maps").glob("*.safetensors"):
        shard.write_bytes(shard.read_bytes()[:200])
    catalogue = Catalogue.open([run.store.path for run in catalogue.runs])
    assert catalogue.problems == []
    assert "run-1" in words(layout(catalogue))
    (problem,) = catalogue.problems
    assert "run-0: maps/" in problem
    packed = pack(catalogue, "s000", Chosen())
    assert [run["maps"] is None for run in packed["runs"]] == [True, False]
    assert "cannot be read" in packed["runs"][0]["note"]
    with pytest.raises(VifError, match="cannot be read"):
        _ = catalogue.runs[0].violins


def test_csv_tells_a_row_from_the_mean_that_stands_in_for_it(opened):
    own = record()
    catalogue = opened([own], [own])
    row = own.sample["query_rows"][0]
    lines = as_csv(catalogue, "s000", Chosen(row=int(row))).splitlines()
    assert lines[0] == "run,head,query_row,grid,layer,row,col,weight"
    assert lines[1].startswith(f"run-0,mean,{row},0,0,0,0,")
    catalogue.runs[1].store.sample("s000")["query_rows"] = [-1] * len(own.sample["query_rows"])
    lines = as_csv(catalogue, "s000", Chosen(row=int(row))).splitlines()
    assert lines[-1].startswith("run-1,mean,mean,0,15,")


def test_a_run_that_was_made_anew_is_said_in_one_line(opened):
    catalogue = opened([record(0)])
    catalogue.runs[0].store._sample_rows = lambda part: {}
    with pytest.raises(VifError, match="was made anew"):
        sample_layout(catalogue, {"sample": "s000"})


def test_the_next_sample_of_one_that_the_first_run_lacks_is_the_one_after(opened):
    catalogue = opened([record(0), record(2)], [record(1)])
    heading = str(sample_layout(catalogue, {"sample": "s001"}))
    assert "sample=s000" in heading
    assert "sample=s002" in heading


def test_a_browser_asks_whether_its_copy_of_a_picture_is_still_it(opened, tmp_path):
    client = create_app(opened([record(0)])).server.test_client()
    first = client.get("/picture/0/0/s000", headers=OWN)
    assert first.headers["Cache-Control"] == "private, no-cache"
    tag = {"If-None-Match": first.headers["ETag"]}
    assert client.get("/picture/0/0/s000", headers=OWN | tag).status_code == 304
    (stored,) = (tmp_path / "run-0").glob("images/**/*.png")
    assert first.data == stored.read_bytes()
    other = create_app(opened([replace(record(1), sample=record(1).sample | {"sample_id": "s000"})]))
    assert other.server.test_client().get("/picture/0/0/s000", headers=OWN | tag).status_code == 200


@pytest.mark.browser
@pytest.mark.parametrize(
    ("runs", "unscored"),
    [
        ([[record(i, answers=False) for i in range(3)]], 3),
        ([[record(i) for i in range(5)], [record(i) for i in range(3)]], 2),
    ],
    ids=["without answers", "a run that lacks samples of the first"],
)
def test_samples_that_are_not_scored_are_listed(page, opened, serving, runs, unscored):
    catalogue = opened(*runs)
    page.goto(f"{serving(catalogue)}/samples")
    page.wait_for_selector(".card")
    assert page.locator(".card").count() == len(catalogue.samples)
    assert page.locator(".verdicts [title^='not scored']").count() == unscored


@pytest.mark.browser
def test_each_filmstrip_lies_at_its_own_layers(page, opened, serving):
    page.goto(f"{serving(opened([record()], [record(layers=8)]))}/sample?sample=s000")
    page.wait_for_selector("#spine canvas.strip >> nth=1")
    wide = page.evaluate("[...document.querySelectorAll('#spine canvas.strip')].map(c => c.width)")
    assert wide[0] == wide[1]
    clear = """c => { const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
        return Array.from({length: c.width}, (_, x) => d[4 * x + 3] === 0); }"""
    columns = np.array(page.locator("#spine canvas.strip").nth(1).evaluate(clear))
    half = len(columns) // 2
    assert columns[half:].all()
    assert not columns[: half - 1].all()
