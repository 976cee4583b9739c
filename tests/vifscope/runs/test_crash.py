"""A run that is cut short at any moment and resumed equals one that was never cut."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pandas.testing import assert_frame_equal

from vifscope.runs.parts import FILES
from vifscope.runs.store import RunStore
from vifscope.runs.writer import RunWriter

SAMPLES, SHARD = 6, 3


class Killed(BaseException):
    """Stands for the end of the process: nothing after it runs."""


def analyze(path, record, n=SAMPLES, shard=SHARD):
    with RunWriter.open(path, {"seed": 0}) as writer:
        left = [i for i in range(n) if record(i).sample_id not in writer.done]
        for start in range(0, len(left), shard):
            writer.write([record(i) for i in left[start : start + shard]])
        writer.finish("done", {"samples": n})


def assert_equal_and_clean(run, unbroken):
    """Every sample once, the same numbers, nothing corrupt and nothing left over."""
    got, expected = RunStore.open(run), RunStore.open(unbroken)
    assert got.samples().sample_id.is_unique
    for table in ("samples", "layers", "heads", "rows"):
        assert_frame_equal(getattr(got, table)(), getattr(expected, table)())
    for sample_id in expected.sample_ids:
        assert (got.flow(sample_id) == expected.flow(sample_id)).all()
        assert (got.head_flow(sample_id) == expected.head_flow(sample_id)).all()
    assert got.verify() == []
    assert not list(run.rglob(".*.tmp"))
    stems = [{file.stem for file in (run / folder).iterdir()} for folder in FILES]
    assert all(stem == stems[0] for stem in stems)
    assert {file.name for file in (run / "images").iterdir()} == {f.name for f in (unbroken / "images").iterdir()}


@pytest.fixture
def unbroken(tmp_path, record):
    analyze(tmp_path / "unbroken", record)
    return tmp_path / "unbroken"


class DyingCall:
    """Stands for `call`; before or after its `step`-th use the process ends.

    For os.fsync these are all the moments that differ: a file is written but not synced, synced but not renamed,
    renamed but its folder not synced, done.
    """

    def __init__(self, call, step, moment):
        self.call, self.left, self.moment = call, step, moment

    def __call__(self, *args):
        self.left -= 1
        if self.left == 0 and self.moment == "before":
            raise Killed
        self.call(*args)
        if self.left == 0:
            raise Killed


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_crash_at_any_step_of_writing_loses_nothing_and_doubles_nothing(
    tmp_path, record, unbroken, monkeypatch, moment
):
    for step in itertools.count(1):
        run, call = tmp_path / f"run-{step}", DyingCall(os.fsync, step, moment)
        with monkeypatch.context() as patch, contextlib.suppress(Killed):
            patch.setattr(os, "fsync", call)
            analyze(run, record)
        if call.left > 0:  # it came through
            break
        analyze(run, record)
        assert_equal_and_clean(run, unbroken)
    print(f"killed {moment} each of {step - 1} syncs")
    assert step > 2 * 2 * len(FILES)  # a file and its folder, for each file of two shards


def test_a_half_written_file_is_never_taken_for_a_whole_one(tmp_path, record, unbroken):
    run = tmp_path / "run"
    analyze(run, record, n=SHARD)
    for folder in (*FILES, "images"):
        (run / folder / ".0002-000-000000.tmp").write_bytes(b"half")
    (run / ".manifest.json.tmp").write_bytes(b"{")
    (run / "maps" / "0002-000-000000.safetensors").write_bytes(b"half")
    (run / "samples" / "0002-000-000000.parquet").write_bytes(b"half")
    (run / "images" / f"{'0' * 64}.png").write_bytes(b"half")
    assert len(RunStore.open(run).samples()) == SHARD
    analyze(run, record)
    assert_equal_and_clean(run, unbroken)


@pytest.mark.slow
def test_a_run_killed_with_9_at_random_moments_and_resumed_equals_an_unbroken_one(tmp_path, record):
    samples, moments = 500, random.Random(0)
    run, unbroken = tmp_path / "run", tmp_path / "unbroken"
    write = [sys.executable, str(Path(__file__).with_name("write_run.py")), str(run), str(samples)]
    committed = [0]
    for _ in range(5):
        with subprocess.Popen(write) as process:
            enough = committed[-1] // 5 + moments.randint(1, 8)
            while len(list(run.glob("layers/[!.]*"))) < enough:
                assert process.poll() is None
                time.sleep(0.001)
            time.sleep(moments.uniform(0, 0.02))  # somewhere in the next shard
            process.kill()
        committed.append(len(RunStore.open(run).sample_ids))
    print(f"samples committed at each kill: {committed}")
    assert 0 < committed[1] < committed[-1] < samples
    subprocess.run(write, check=True)
    analyze(unbroken, record, samples, shard=8)
    assert_equal_and_clean(run, unbroken)
