"""What a notebook calls gives what the run holds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

import vifscope
from vif_core.data.listed import Listed
from vif_core.errors import UsageError
from vif_core.vlm.tiny import tiny_model, tiny_samples

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def analyzed(tmp_path_factory):
    """Three samples on a tiny random LLaVA-NeXT, whose images have several grids."""
    source = Listed("noise", "1", tiny_samples(3))
    out = tmp_path_factory.mktemp("runs") / "tiny"
    return vifscope.analyze(tiny_model("llava_next"), source, 3, out, max_new_tokens=4, figures=False)


def in_a_new_process(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    return done.stdout.strip()


def test_importing_the_package_loads_nothing_heavy():
    heavy = ("torch", "transformers", "nnsight", "dash", "plotly", "pandas", "matplotlib")
    code = f"import sys, vifscope; print(vifscope.analyze.__name__, [m for m in {heavy} if m in sys.modules])"
    assert in_a_new_process(code) == "analyze []"


def test_a_run_is_opened_and_drawn_without_torch(run):
    code = (
        f"import sys, vifscope; run = vifscope.open_run({str(run.path)!r}); run.summary(); run.map(0, 3); "
        "run.figure('violins'); run.summary_dict(); print('torch' in sys.modules)"
    )
    assert in_a_new_process(code) == "False"


def test_names_that_are_not_there_are_refused():
    assert dir(vifscope) == ["Run", "ablate", "analyze", "compare", "evaluate", "load", "open_run"]
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        vifscope.nothing  # noqa: B018


def test_an_opened_run_equals_the_one_that_was_written(analyzed):
    opened = vifscope.open_run(analyzed.path)
    assert opened == analyzed
    assert opened.sample_ids == analyzed.sample_ids
    assert opened.summary().equals(analyzed.summary())


def test_the_summary_has_every_metric_of_every_layer(analyzed):
    summary = analyzed.summary()
    pooled = summary[(summary["group"] == "all") & (summary["metric"] == "visual_ratio")]
    assert pooled["layer"].tolist() == [0, 1, 2]
    assert (pooled["n"] == 3).all()
    assert pooled["mean"].between(pooled["low"], pooled["high"]).all()


def test_a_map_is_the_stored_flow_laid_out_on_the_grid(analyzed):
    sample_id = analyzed.sample_ids[1]
    flow, grids = analyzed.store.flow(sample_id), analyzed.store.grids(sample_id)
    assert len(grids) == 2, "a thumbnail and tiles"
    for number, grid in enumerate(grids):
        drawn = analyzed.map(sample_id, -1, 2, grid=number)
        assert drawn.shape == (grid["rows"], grid["cols"])
        last = grid["offset"] + grid["stride"] * (grid["rows"] - 1) + grid["cols"] - 1
        assert drawn[0, 0] == flow[-1, 2, grid["offset"]]
        assert drawn[-1, -1] == flow[-1, 2, last]


def test_a_map_without_a_row_is_the_mean_over_the_measured_rows(analyzed):
    measured = np.array(analyzed.store.sample(analyzed.sample_ids[0])["measured"])
    rows = [analyzed.map(0, 1, row) for row in np.flatnonzero(measured)]
    np.testing.assert_allclose(analyzed.map(0, 1), np.mean(rows, axis=0), rtol=1e-6)


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        (("nobody", 0), "has no sample nobody"),
        ((3, 0), "there is no sample 3; expected from 0 to 2"),
        ((0, 3), "there is no layer 3; expected from 0 to 2"),
        ((0, 0, 99), "there is no row 99"),
        ((0, 0, 0, 5), "there is no grid 5; expected from 0 to 1"),
    ],
)
def test_a_map_that_is_not_there_is_refused(analyzed, asked, line):
    sample, layer, *rest = asked
    with pytest.raises(UsageError, match=line):
        analyzed.map(sample, layer, *rest[:1], **({"grid": rest[1]} if len(rest) > 1 else {}))


def test_visual_tokens_without_a_grid_have_no_map(run_of):
    with pytest.raises(UsageError, match="have no place in the image"):
        vifscope.open_run(run_of(2, grid=False).path).map(0, 0)


def test_runs_are_compared_open_or_by_path(analyzed, run):
    comparison = vifscope.compare([analyzed, analyzed.path])
    assert comparison.sample_ids == analyzed.sample_ids
    assert (comparison.differences["difference"].fillna(0) == 0).all()
    with pytest.raises(UsageError, match="has other data than"):
        vifscope.compare([analyzed.path, str(run.path)])


def test_figures_are_drawn_by_name(analyzed):
    assert isinstance(analyzed.figure("attenuation"), Figure)
    with pytest.raises(UsageError, match="there is no figure 'pie'"):
        analyzed.figure("pie")


def test_an_analysis_writes_figures_and_a_page_that_stands_alone(tmp_path):
    source = Listed("noise", "1", tiny_samples(3))
    told = []
    vlm = tiny_model("llava")
    run = vifscope.analyze(vlm, source, 2, tmp_path / "run", max_new_tokens=4, progress=lambda *s: told.append(s))
    assert {"index.html", "summary.csv", "figures/attenuation.png", "figures/violins.pdf", "figures/maps.png"} <= set(
        run.summary_dict()["files"]
    )
    assert all((run.path / file).stat().st_size for file in run.summary_dict()["files"])
    assert told[-2:] == [("drawing", 0, 1), ("drawing", 1, 1)]


def test_only_mini_llava_stores_text_rows_unasked(tmp_path):
    source, vlm = Listed("noise", "1", tiny_samples(3)), tiny_model("llava")
    stored = {}
    for name in ("mini-llava", "another"):
        vlm.name = name
        run = vifscope.analyze(vlm, source, 1, tmp_path / name, max_new_tokens=2, figures=False)
        stored[name] = run.store.manifest["configuration"]["store_rows"]
    assert stored == {"mini-llava": "text", "another": "response"}


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(UsageError, match="is no run"):
        vifscope.open_run(tmp_path)
