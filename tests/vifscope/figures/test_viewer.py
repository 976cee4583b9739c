"""The viewer holds what the run holds, and nothing that it would have to fetch."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from vif_core.errors import UsageError
from vifscope.api import Run
from vifscope.figures.viewer import viewer_html
from vifscope.runs.maps import on_grid


def held(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])


def test_maps_curves_and_words_are_the_runs(run):
    sample_id = run.sample_ids[3]
    (shown,) = held(viewer_html([(run, sample_id)]))["samples"]
    sample = run.sample(sample_id)
    flow = run.flow(sample_id)[:, np.asarray(sample["measured"])].mean(1)
    (grid,) = shown["grids"]
    wanted = on_grid(flow, run.grids(sample_id)[0])
    np.testing.assert_allclose(grid["maps"], wanted / wanted.max((1, 2), keepdims=True), atol=5.1e-5)
    layers = run.layers().query("sample_id == @sample_id and map == 'raw'").sort_values("layer")
    assert shown["curves"]["entropy (nats)"] == pytest.approx(layers["visual_entropy"].tolist(), abs=1e-5)
    assert shown["question"] == sample["question"]
    assert shown["told"].startswith(f"Answer: {sample['answer']}. Response: {sample['response']}")


def test_a_layer_that_hardly_looks_at_the_image_is_drawn_as_finely_as_the_others(records_run):
    def faint(records):
        for record in records:
            record.flows["raw"].maps[5] *= 1e-6
            record.flows["raw"].layers["visual_ratio"][5] *= 1e-6
        return records

    plain, dim = (
        held(viewer_html([(store, store.sample_ids[0])]))["samples"][0]
        for store in (records_run(1), records_run(1, change=faint))
    )
    np.testing.assert_allclose(dim["grids"][0]["maps"], plain["grids"][0]["maps"], atol=1.1e-4)
    ratio = [sample["curves"]["visual ratio"][5] for sample in (plain, dim)]
    assert ratio[1] == pytest.approx(1e-6 * ratio[0], rel=1e-4)


def test_a_map_has_the_lines_of_its_grid_and_a_scale_bar(run):
    (shown,) = held(viewer_html([(run, run.sample_ids[3])]))["samples"]
    (grid,) = shown["grids"]
    assert len(grid["lines"]) == 13 + 13
    assert (shown["bar"], grid["scale"]) == (20, "20 px   visual token 8 × 8 px")


@pytest.mark.parametrize("first", ["thumbnail", "tile"])
def test_every_grid_of_the_picture_can_be_shown_and_the_finest_is_shown_first(records_run, first):
    """LLaVA-NeXT's thumbnail comes before its tiles, InternVL's after them."""

    def tiled(records):
        for record in records:
            (whole,) = record.sample["images"]
            tiles = whole | {"frame": "tile", "rows": 6, "cols": 16, "stride": 16, "offset": 48}
            thumbnail = whole | {"frame": "thumbnail", "rows": 6, "cols": 8, "stride": 8}
            other = whole | {"image": 1, "rows": 12, "cols": 12}
            grids = [thumbnail, tiles] if first == "thumbnail" else [tiles, thumbnail]
            record.sample["images"] = [*grids, other]
            record.pictures *= 2
        return records

    store = records_run(1, change=tiled)
    (shown,) = held(viewer_html([(store, "s000")]))["samples"]
    assert [(grid["name"], np.shape(grid["maps"])) for grid in shown["grids"]] == [
        ("tiles, 6 × 16 visual tokens", (16, 6, 16)), ("thumbnail, 6 × 8 visual tokens", (16, 6, 8))
    ]  # fmt: skip
    assert shown["of"] == " of picture 1 of 2"


def test_spotlights_are_by_injected_layer_and_branch(run_of):
    lit = run_of(6, model="mini-llava-vif", pairs=((7, 13), (9, 15)))
    (shown,) = held(viewer_html([(lit, lit.sample_ids[0])]))["samples"]
    assert {layer: [*branches] for layer, branches in shown["spotlights"].items()} == {
        "13": ["mid", "prior", "posterior"], "15": ["mid", "prior", "posterior"]
    }  # fmt: skip


def test_words_cannot_end_the_script(records_run):
    evil = "</script><script>alert(1)</script>"
    store = records_run(1, question=evil)
    page = viewer_html([(store, store.sample_ids[0])])
    assert evil not in page
    assert held(page)["samples"][0]["question"] == evil


def test_without_a_grid_there_are_curves_and_no_map(run_of):
    store = run_of(2, grid=False)
    (shown,) = held(viewer_html([(store, store.sample_ids[0])]))["samples"]
    assert shown["grids"] == []
    assert shown["scale"] == "20 px"
    assert len(shown["curves"]["visual ratio"]) == 16


def test_an_undefined_layer_is_none_and_never_zero(records_run):
    def hybrid(records):
        for record in records:
            record.flows["raw"].maps[3] = np.nan
        return records

    store = records_run(1, change=hybrid)
    (shown,) = held(viewer_html([(store, store.sample_ids[0])]))["samples"]
    assert [weights is None for weights in shown["grids"][0]["maps"]] == [layer == 3 for layer in range(16)]


def test_nothing_is_fetched(run):
    page = viewer_html([(run, run.sample_ids[0])])
    assert "http" not in page.replace("http-equiv", "")


def test_a_notebook_gets_a_frame(run):
    view = Run(run.path).view(3)
    assert len(held(view.html)["samples"]) == 3
    assert view._repr_html_().startswith("<iframe srcdoc=")


def test_a_sample_that_was_not_measured_is_refused(run):
    with pytest.raises(UsageError, match="failed"):
        viewer_html([(run, "s024")])
    with pytest.raises(UsageError, match="no sample to view"):
        Run(run.path).view([])
