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
    np.testing.assert_allclose(shown["maps"], on_grid(flow, run.grids(sample_id)[0]), atol=1e-5)
    layers = run.layers().query("sample_id == @sample_id and map == 'raw'").sort_values("layer")
    assert shown["curves"]["entropy (nats)"] == pytest.approx(layers["visual_entropy"].tolist(), abs=1e-5)
    assert shown["question"] == sample["question"]
    assert shown["told"].startswith(f"Answer: {sample['answer']}. Response: {sample['response']}")


def test_a_map_has_the_lines_of_its_grid_and_a_scale_bar(run):
    (shown,) = held(viewer_html([(run, run.sample_ids[3])]))["samples"]
    assert len(shown["lines"]) == 13 + 13
    assert (shown["bar"], shown["scale"]) == (20, "20 px   visual token 8 × 8 px")


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
    assert shown["maps"] == shown["lines"] == []
    assert shown["scale"] == "20 px"
    assert len(shown["curves"]["visual ratio"]) == 16


def test_an_undefined_layer_is_none_and_never_zero(records_run):
    def hybrid(records):
        for record in records:
            record.flows["raw"].maps[3] = np.nan
        return records

    store = records_run(1, change=hybrid)
    (shown,) = held(viewer_html([(store, store.sample_ids[0])]))["samples"]
    assert [weights is None for weights in shown["maps"]] == [layer == 3 for layer in range(16)]


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
