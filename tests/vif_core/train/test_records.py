"""What a training says: one JSON line a log step, kept true over a resume; TensorBoard where there is one."""

from __future__ import annotations

import json
import os
import sys
from types import SimpleNamespace

import pytest

from vif_core.train.records import LEARNING, ProgressBar, Records


def state(step=0, **others):
    return SimpleNamespace(is_world_process_zero=True, global_step=step, max_steps=10, **others)


def lines(folder):
    return [json.loads(line) for line in (folder / LEARNING).read_text().splitlines()]


@pytest.fixture
def without_board(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)


def recorded(folder, phase="joint", steps=(1, 2), resumed=0, before=0):
    records = Records(folder, phase, before)
    records.on_train_begin(None, state(resumed), None)
    args = SimpleNamespace(bf16=True)
    for step in steps:
        records.on_log(args, state(step), None, logs={"loss": 1.5, "kl": 0.1, "nan": float("nan")})
    records.on_log(args, state(steps[-1]), None, logs={"train_runtime": 3.0})
    records.on_train_end(None, state(steps[-1]), None)


def test_each_log_step_is_one_line(tmp_path, without_board):
    recorded(tmp_path)
    told = lines(tmp_path)
    assert [(line["phase"], line["step"], line["loss"], line["kl"]) for line in told] == [
        ("joint", 1, 1.5, 0.1),
        ("joint", 2, 1.5, 0.1),
    ]
    assert "nan" not in told[0]
    assert not (tmp_path / "tensorboard").exists()


def test_a_resumed_phase_takes_back_what_came_after_its_checkpoint(tmp_path, without_board):
    recorded(tmp_path, "focus", steps=(1, 2, 3))
    recorded(tmp_path, "joint", steps=(1, 2, 3))
    with (tmp_path / LEARNING).open("a") as file:
        file.write('{"phase": "joint", "st')
    recorded(tmp_path, "joint", steps=(2, 3), resumed=1)
    assert [(line["phase"], line["step"]) for line in lines(tmp_path)] == [
        *(("focus", step) for step in (1, 2, 3)),
        *(("joint", step) for step in (1, 2, 3)),
    ]


def test_tensorboard_gets_the_same_figures_at_steps_that_count_on(tmp_path):
    if not os.environ.get("CI"):
        pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    recorded(tmp_path, before=100)
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    assert [(event.step, event.value) for event in board.Scalars("loss")] == [(101, 1.5), (102, 1.5)]
    assert "kl" in board.Tags()["scalars"]


def test_the_bar_is_on_stderr(capsys):
    bar = ProgressBar("joint")
    bar.on_train_begin(None, state(3), None)
    bar.on_log(None, state(4), None, logs={"loss": 1.23456, "other": 2})
    bar.on_step_end(None, state(4), None)
    bar.on_train_end(None, state(4), None)
    told = capsys.readouterr()
    assert told.out == ""
    assert "joint" in told.err
    assert "4/10" in told.err
