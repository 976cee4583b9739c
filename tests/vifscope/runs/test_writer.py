from __future__ import annotations

import errno
import json
import os
import subprocess
import sys

import pytest
from pandas.testing import assert_frame_equal

from vif_core.errors import UsageError, VifError
from vifscope.runs.store import RunStore
from vifscope.runs.writer import RunWriter

CONFIG = {"model": "m", "seed": 0, "rows": "response"}


def analyze(path, record, n, *, shard=8, config=CONFIG, **options):
    """Writes samples 0 to n as an analysis does: those that are not done, in shards."""
    with RunWriter.open(path, config, {"device": "cpu"}, **options) as writer:
        left = [record(i) for i in range(n) if record(i).sample_id not in writer.done]
        for start in range(0, len(left), shard):
            writer.write(left[start : start + shard])
        writer.finish("done", {"samples": n})
    return len(left)


def test_a_run_has_the_layout_of_the_format(tmp_path, record):
    analyze(tmp_path / "run", record, 2)
    files = sorted(str(file.relative_to(tmp_path / "run")) for file in (tmp_path / "run").rglob("[!.]*.*"))
    image = RunStore.open(tmp_path / "run").samples().image[0][0]
    part = "0001-000-000000"
    assert files == sorted(
        [f"{folder}/{part}.parquet" for folder in ("samples", "layers", "heads", "rows")]
        + [f"maps/{part}.safetensors", image, "index.parquet", "manifest.json"]
    )


def test_the_manifest_says_what_the_run_is(tmp_path, record):
    analyze(tmp_path, record, 2)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["configuration"] == CONFIG
    assert (manifest["status"], manifest["counts"], manifest["device"]) == ("done", {"samples": 2}, "cpu")
    assert manifest["schema_version"] == 1


def test_a_run_of_20_grows_to_50_without_measuring_any_sample_again(tmp_path, record):
    assert analyze(tmp_path, record, 20) == 20
    assert analyze(tmp_path, record, 50, shard=16) == 30
    assert analyze(tmp_path, record, 50) == 0
    assert list(RunStore.open(tmp_path).samples().sample_id) == [f"synthetic-{i:05d}" for i in range(50)]


def test_another_configuration_is_refused_by_naming_what_differs(tmp_path, record):
    analyze(tmp_path, record, 2)
    with pytest.raises(UsageError) as refused:
        RunWriter.open(tmp_path, CONFIG | {"seed": 1, "rows": "last"})
    assert str(refused.value) == (
        f'run {tmp_path} has another configuration: rows is "response", not "last"; seed is 0, not 1; '
        "expected the same configuration to resume it. Add --overwrite to start it anew, or name another run folder."
    )
    assert len(RunStore.open(tmp_path).samples()) == 2


def test_overwrite_starts_the_run_anew(tmp_path, record):
    analyze(tmp_path, record, 20)
    (tmp_path / "index.html").write_text("old")
    assert analyze(tmp_path, record, 3, config=CONFIG | {"seed": 1}, overwrite=True) == 3
    assert len(RunStore.open(tmp_path).samples()) == 3
    assert len(list((tmp_path / "images").iterdir())) == 2
    assert not (tmp_path / "index.html").exists()


def test_a_crash_while_overwriting_leaves_a_run_that_is_merely_shorter(tmp_path, record, monkeypatch):
    analyze(tmp_path, record, 20)
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", lambda path: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            RunWriter.open(tmp_path, CONFIG, overwrite=True)
    analyze(tmp_path, record, 20)
    assert len(RunStore.open(tmp_path).samples()) == 20
    assert RunStore.open(tmp_path).verify() == []


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_is_no_run_is_left_alone(tmp_path, overwrite):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(UsageError, match=r"is no run: its manifest.json is missing or unreadable; expected a folder"):
        RunWriter.open(tmp_path, CONFIG, overwrite=overwrite)
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_a_run_of_another_schema_is_refused(tmp_path, record):
    analyze(tmp_path, record, 2)
    manifest = json.loads((tmp_path / "manifest.json").read_text()) | {"schema_version": 99}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UsageError, match="has schema version 99; expected version 1"):
        RunWriter.open(tmp_path, CONFIG)


def test_a_failed_sample_is_recorded_and_tried_again_and_its_newest_record_stands(tmp_path, record):
    with RunWriter.open(tmp_path, CONFIG) as writer:
        writer.write([record(0), record(1, error="its image is broken")])
    store = RunStore.open(tmp_path)
    assert list(store.samples().error.fillna("")) == ["", "its image is broken"]
    assert store.sample_ids == ["synthetic-00000"]
    with RunWriter.open(tmp_path, CONFIG) as writer:
        assert writer.done == {"synthetic-00000"}
        writer.write([record(1, error="still broken")])
    assert list(RunStore.open(tmp_path).samples().error.fillna("")) == ["", "still broken"]
    analyze(tmp_path, record, 2)
    samples = RunStore.open(tmp_path).samples()
    assert list(samples.sample_id) == ["synthetic-00000", "synthetic-00001"]
    assert samples.error.isna().all()


def test_a_sample_that_two_workers_measured_stands_once(tmp_path, record):
    with RunWriter.open(tmp_path, CONFIG) as writer:
        writer.write([record(0), record(1)], worker=0)
        writer.write([record(1), record(2)], worker=7)
        writer.write([record(3)], worker=7)
    store = RunStore.open(tmp_path)
    assert list(store.samples().sample_id) == [f"synthetic-{i:05d}" for i in range(4)]
    assert len(store.layers()) == 4 * 3
    assert [file.stem for file in sorted((tmp_path / "layers").iterdir())] == [
        "0001-000-000000",
        "0001-007-000000",
        "0001-007-000001",
    ]


def test_no_records_make_no_shard(tmp_path):
    with RunWriter.open(tmp_path, CONFIG) as writer:
        assert writer.write([]) is None
        writer.finish("done", {})
    assert RunStore.open(tmp_path).samples().empty
    assert RunStore.open(tmp_path).layers().empty


def test_an_image_that_samples_share_is_stored_once(tmp_path, record):
    analyze(tmp_path, record, 20)
    assert len(list((tmp_path / "images").iterdir())) == 10


def test_one_process_writes_a_run_at_a_time(tmp_path, record):
    analyze(tmp_path, record, 2)
    hold = (
        "import sys; from vifscope.runs.writer import RunWriter\n"
        f"with RunWriter.open({str(tmp_path)!r}, {CONFIG!r}): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UsageError, match="is being written by another process; expected one writer at a time"):
            RunWriter.open(tmp_path, CONFIG)
        other.communicate()
    assert other.returncode == 0
    assert analyze(tmp_path, record, 2) == 0


def test_a_full_disk_is_one_line_and_the_run_resumes(tmp_path, record, monkeypatch):
    analyze(tmp_path / "unbroken", record, 20)
    run = tmp_path / "run"
    with RunWriter.open(run, CONFIG) as writer:
        writer.write([record(i) for i in range(8)])
        monkeypatch.setattr(os, "fsync", full_disk)
        with pytest.raises(VifError) as full:
            writer.write([record(i) for i in range(8, 16)])
        monkeypatch.undo()
        assert "\n" not in str(full.value)
        assert str(full.value).endswith(
            "cannot be written (No space left on device). Free some space or mend the folder, "
            "then run the same command again: finished samples are kept."
        )
        assert not list(run.rglob(".*.tmp"))
        assert len(list((run / "maps").iterdir())) == 1
    assert analyze(run, record, 20) == 12
    assert_frame_equal(RunStore.open(run).layers(), RunStore.open(tmp_path / "unbroken").layers())


def full_disk(descriptor):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(VifError, match=r"file/run cannot be written \(Not a directory\)"):
        RunWriter.open(tmp_path / "file" / "run", CONFIG)
