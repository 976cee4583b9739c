"""What the pages know of the runs is what the runs hold."""

from __future__ import annotations

import base64
import shutil

import numpy as np
import pytest
from vifscope_browser.catalogue import Catalogue, Chosen
from vifscope_browser.content import as_csv, pack, patch_view

from vif_core.errors import UsageError
from vifscope.api import open_run


def test_packed_maps_are_the_runs_maps(catalogue, run_folders):
    sample_id = catalogue.samples.index[3]
    for packed, folder in zip(pack(catalogue, sample_id, Chosen())["runs"], run_folders, strict=True):
        run = open_run(folder)
        maps = np.frombuffer(base64.b64decode(packed["maps"]), "<f4").reshape(packed["shape"])
        for layer in (0, 13, 15):
            assert np.array_equal(maps[layer], run.map(sample_id, layer))


def test_a_row_and_a_head_are_the_stored_ones(catalogue):
    run, sample_id = catalogue.runs[0], catalogue.samples.index[0]
    position = run.store.sample(sample_id)["query_rows"][2]
    rows = run.maps(sample_id, Chosen(row=position))
    assert np.array_equal(rows.reshape(16, -1), run.store.flow(sample_id)[:, 2])
    heads = run.maps(sample_id, Chosen(head=1))
    assert np.array_equal(heads.reshape(16, -1), run.store.head_flow(sample_id)[:, 1])


def test_a_row_that_one_run_lacks_is_said_and_its_mean_shown(catalogue):
    base, vif = catalogue.runs
    sample_id = catalogue.samples.index[0]
    (position,) = set(base.store.sample(sample_id)["query_rows"][:1]) - set(vif.store.sample(sample_id)["query_rows"])
    maps, note = vif.shown(sample_id, Chosen(row=position))
    assert note == "row not stored: mean"
    assert np.array_equal(maps, vif.maps(sample_id, Chosen()))
    with pytest.raises(UsageError, match="vif does not store row"):
        vif.maps(sample_id, Chosen(row=position))


def test_what_lies_under_and_over_the_maps_is_the_runs(catalogue):
    sample_id = catalogue.samples.index[0]
    for run, packed in zip(catalogue.runs, pack(catalogue, sample_id, Chosen())["runs"], strict=True):
        (grid,) = run.store.grids(sample_id)
        assert packed["rect_px"] == grid["rect_px"]
        assert packed["size_px"] == run.store.image(sample_id).size
        assert packed["boxes"] == run.store.sample(sample_id)["boxes"]
        assert packed["picture"] == f"/picture/0/0/{sample_id}", "one picture is fetched once"


def test_a_patch_beside_the_grid_is_refused(catalogue):
    with pytest.raises(UsageError, match="no patch in row 12, column 0; expected 12 x 12"):
        patch_view(catalogue.runs[0], catalogue.samples.index[0], Chosen(), 12, 0)


def test_the_reverse_view_counts_what_is_not_stored(catalogue):
    run, sample_id = catalogue.runs[1], catalogue.samples.index[0]
    graph, said = patch_view(run, sample_id, Chosen(), 5, 6)
    stored = run.store.sample(sample_id)
    weights = np.array(graph.figure["data"][0]["z"], dtype=np.float32)
    assert np.array_equal(weights, run.store.flow(sample_id)[:, :, 5 * 12 + 6].T)
    left = len(stored["tokens"]) - len(stored["visual"]) - len(stored["query_rows"])
    assert f"the other {left} rows of text are not" in said


def test_csv_holds_every_weight(catalogue):
    sample_id = catalogue.samples.index[0]
    lines = as_csv(catalogue, sample_id, Chosen()).splitlines()
    assert lines[0] == "run,head,query_row,grid,layer,row,col,weight"
    assert len(lines) == 1 + 2 * 16 * 144
    *of, weight = lines[1 + 16 * 144 + 13 * 144 + 5].split(",")
    assert of == ["vif", "mean", "mean", "0", "13", "0", "5"]
    assert float(weight) == catalogue.runs[1].maps(sample_id, Chosen())[13, 0, 5]


def test_samples_are_found_filtered_and_sorted(catalogue):
    table = catalogue.samples
    kind = table["kind"].iloc[0]
    assert set(catalogue.find(kind=kind)) == set(table.index[table["kind"] == kind])
    words = table["question"].iloc[2]
    assert set(catalogue.find(text=words.upper())) == set(
        table.index[table["question"].str.contains(words, regex=False)]
    )
    assert catalogue.find(text="no such words") == []
    falling = table.loc[catalogue.find(sort="visual_entropy", down=True), "visual_entropy"]
    assert falling.is_monotonic_decreasing
    both = set(catalogue.find(verdict="right")) | set(catalogue.find(verdict="wrong"))
    assert both == set(table.index)
    differ = set(table.index[table["correct_0"] != table["correct_1"]])
    assert set(catalogue.find(verdict="differ")) == differ


def test_the_change_of_entropy_is_the_last_run_less_the_first(catalogue):
    base, vif = (run.deep["visual_entropy"] for run in catalogue.runs)
    assert catalogue.samples["entropy_change"].to_numpy() == pytest.approx((vif - base).to_numpy())
    assert catalogue.samples["entropy_change"].median() < 0


def test_a_corrupt_run_is_named_and_passed_over(run_folders, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "manifest.json").write_text("{")
    opened = Catalogue.open([broken, run_folders[0]])
    assert [run.name for run in opened.runs] == ["base"]
    assert "broken" in opened.problems[0]
    with pytest.raises(
        UsageError, match=r"^\S+ is no run: .*; expected a folder that vifscope wrote. Name another folder.$"
    ):
        Catalogue.open([broken])


def test_a_run_without_a_whole_shard_is_named_and_the_others_are_shown(run_folders, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run_folders[0], copy)
    (shard,) = (copy / "samples").glob("*.parquet")
    shard.write_bytes(b"PAR1 no more")
    opened = Catalogue.open([copy, run_folders[1]])
    assert [run.name for run in opened.runs] == ["vif"]
    assert shard.stem in " ".join(opened.problems)
