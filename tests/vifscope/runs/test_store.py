from __future__ import annotations

import numpy as np
import pytest
from pandas.testing import assert_frame_equal

from vif_core.errors import UsageError, VifError
from vifscope.runs import parts
from vifscope.runs.store import RunStore
from vifscope.runs.writer import RunWriter


@pytest.fixture
def run(tmp_path, record):
    """Ten samples in shards of four, the last one failed."""
    with RunWriter.open(tmp_path / "run", {"seed": 0}) as writer:
        for start in (0, 4, 8):
            writer.write([record(i) for i in range(start, min(start + 4, 9))])
        writer.write([record(9, error="broken")])
        writer.finish("partial", {"samples": 9, "failed": 1})
    return tmp_path / "run"


def test_maps_come_back(run, record):
    store, flow = RunStore.open(run), record(5).flows["raw"]
    limit = 2**-11 * flow.maps.max(-1, keepdims=True)
    assert store.flow("synthetic-00005").dtype == np.float32
    assert (np.abs(store.flow("synthetic-00005") - flow.maps) <= limit).all()
    assert (store.flow("synthetic-00005", layer=1) == store.flow("synthetic-00005")[1]).all()
    np.testing.assert_allclose(store.head_flow("synthetic-00005"), flow.head_maps, atol=2**-11)
    assert store.head_flow("synthetic-00005", layer=2).shape == (2, 6)


def test_tables_come_back_in_the_order_of_the_ids(run, record):
    store = RunStore.open(run)
    assert list(store.samples().sample_id) == [f"synthetic-{i:05d}" for i in range(10)]
    layers, flow = store.layers(), record(6).flows["raw"]
    np.testing.assert_array_equal(
        layers[layers.sample_id == "synthetic-00006"].visual_entropy, flow.layers["visual_entropy"]
    )
    assert (len(layers), len(store.heads()), len(store.rows())) == (9 * 3, 9 * 3 * 2, 9 * 3 * 4)
    np.testing.assert_array_equal(store.rows("synthetic-00006").visual_ratio, flow.rows["visual_ratio"].ravel())


def test_accuracy_can_be_read_off_although_failed_samples_have_none(run):
    assert RunStore.open(run).samples().correct.mean() == pytest.approx(4 / 9)


def test_images_and_grids_come_back(run, record):
    store = RunStore.open(run)
    assert store.image("synthetic-00006").getpixel((0, 0)) == (3, 0, 0)
    assert store.image_size("synthetic-00006") == store.image("synthetic-00006").size == (6, 4)
    grid = record(6).sample["images"][0]
    assert store.grids("synthetic-00006") == [grid | {"rect_px": [0, 0, 6, 4]}]
    assert store.sample("synthetic-00006")["query_rows"] == [8, 9, 10, 11]


def test_what_the_run_lacks_is_said(run):
    store = RunStore.open(run)
    with pytest.raises(UsageError, match="has no sample nobody; expected an id of its samples"):
        store.flow("nobody")
    with pytest.raises(UsageError, match=r"sample synthetic-00009 of run .* failed: broken"):
        store.flow("synthetic-00009")
    with pytest.raises(UsageError, match="keeps no map vif of sample synthetic-00001; expected one of raw, raw/heads"):
        store.flow("synthetic-00001", "vif")
    with pytest.raises(UsageError, match="has no layer 3; expected a layer from 0 to 2"):
        store.flow("synthetic-00001", layer=3)
    with pytest.raises(UsageError, match="sample synthetic-00001 has 1 images, not image 1"):
        store.image("synthetic-00001", 1)


@pytest.mark.parametrize("name", ["", "missing"])
def test_a_folder_that_is_no_run_is_said(tmp_path, name):
    with pytest.raises(UsageError, match="expected"):
        RunStore.open(tmp_path / name)


def test_opening_a_finished_run_reads_the_index_and_no_marker(run, monkeypatch):
    monkeypatch.setattr(parts, "read_marker", None)
    assert len(RunStore.open(run).sample_ids) == 9


def test_a_run_opens_while_it_is_written(tmp_path, record):
    with RunWriter.open(tmp_path, {}) as writer:
        writer.write([record(0)])
        assert RunStore.open(tmp_path).sample_ids == ["synthetic-00000"]
        writer.write([record(1)])
        assert len(RunStore.open(tmp_path).layers()) == 6


def flip(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 0xFF
    file.write_bytes(data)


def cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def remove(file):
    file.unlink()


DAMAGES = pytest.mark.parametrize("damage", [flip, cut, remove])
EVERYWHERE = pytest.mark.parametrize(
    ("folder", "damage"),
    [
        (folder, damage)
        for folder in (*parts.FILES, "images")
        for damage in (flip, cut, remove)
        if (folder, damage) != ("layers", remove)  # a shard without its marker is no shard
    ],
)


@DAMAGES
def test_without_an_index_the_markers_say_the_same(run, damage):
    whole = RunStore.open(run).samples()
    damage(run / "index.parquet")
    assert_frame_equal(RunStore.open(run).samples(), whole)


@pytest.mark.parametrize(
    ("folder", "damage"),
    [("samples", flip), ("samples", cut), ("samples", remove), ("layers", flip), ("layers", cut)],
)
def test_a_corrupt_shard_is_named_and_left_out_and_the_rest_is_read(run, folder, damage):
    file = next((run / folder).glob("*-000001.*"))
    damage(file)
    store = RunStore.open(run)
    left = [f"synthetic-{i:05d}" for i in (0, 1, 2, 3, 8)]
    assert list(store.samples().sample_id) == [*left, "synthetic-00009"]
    assert list(store.layers().sample_id.unique()) == left
    (problem,) = store.problems
    assert problem.startswith(f"run {run}: {folder}/{file.name} ")
    assert problem.endswith(
        f"Delete that file and layers/{file.stem}.parquet, then run the same command again to measure its samples anew."
    )


@DAMAGES
@pytest.mark.parametrize("folder", ["heads", "rows"])
def test_a_corrupt_detail_table_leaves_its_shard_out_of_that_table(run, folder, damage):
    file = next((run / folder).glob("*-000001.*"))
    damage(file)
    store = RunStore.open(run)
    assert "synthetic-00005" not in set(getattr(store, folder)().sample_id)
    assert len(store.layers()) == 27
    assert [f"{folder}/{file.name}" in problem for problem in store.problems] == [True]


@pytest.mark.parametrize("damage", [cut, remove])
def test_a_broken_picture_is_named(run, damage):
    store = RunStore.open(run)
    (picture,) = store.sample("synthetic-00006")["image"]
    damage(run / picture)
    with pytest.raises(VifError, match=f"{picture} cannot be read") as broken:
        store.image("synthetic-00006")
    assert store.problems == [str(broken.value)]


@pytest.mark.parametrize("damage", [cut, remove])
def test_corrupt_maps_are_named(run, damage):
    file = next((run / "maps").glob("*-000001.*"))
    damage(file)
    with pytest.raises(VifError, match=f"maps/{file.name} cannot be read"):
        RunStore.open(run).flow("synthetic-00005")
    assert RunStore.open(run).flow("synthetic-00001").shape == (3, 4, 6)


@EVERYWHERE
def test_verify_names_exactly_the_file_that_is_not_what_was_written(run, folder, damage):
    assert RunStore.open(run).verify() == []
    file = sorted((run / folder).iterdir())[1]
    store = RunStore.open(run)
    damage(file)
    (problem,) = store.verify()
    assert problem.startswith(f"run {run}: {folder}/{file.name} ")


@EVERYWHERE
def test_doing_what_the_problem_says_mends_the_run(run, record, folder, damage):
    whole = RunStore.open(run)
    layers, flow = whole.layers(), whole.flow("synthetic-00005")
    file = sorted((run / folder).iterdir())[1]
    damage(file)
    for problem in RunStore.open(run).verify():
        (run / folder / file.name).unlink(missing_ok=True)
        marker = problem.split(" and ")[-1].split(",")[0]
        (run / marker).unlink(missing_ok=True)
    with RunWriter.open(run, {"seed": 0}) as writer:
        left = [i for i in range(9) if record(i).sample_id not in writer.done]
        assert 0 < len(left) < 9
        writer.write([record(i) for i in left])
        writer.finish("done", {})
    assert RunStore.open(run).verify() == []
    assert_frame_equal(RunStore.open(run).layers(), layers)
    assert (RunStore.open(run).flow("synthetic-00005") == flow).all()


def test_an_unreadable_marker_is_no_commit_and_resuming_measures_its_samples_again(run, record):
    (run / "index.parquet").unlink()
    cut(next((run / "layers").glob("*-000001.*")))
    assert ["layers/0001-000-000001.parquet cannot be read" in line for line in RunStore.open(run).problems] == [True]
    with RunWriter.open(run, {"seed": 0}) as writer:
        left = [i for i in range(9) if record(i).sample_id not in writer.done]
        assert left == [4, 5, 6, 7]
        writer.write([record(i) for i in left])
    assert len(RunStore.open(run).layers()) == 27
    assert RunStore.open(run).verify() == []
