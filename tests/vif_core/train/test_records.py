"""What a training says: one JSON line a log step, kept true over a resume; TensorBoard where there is one."""

from __future__ import annotations

import itertools
import json
import os
import sys
from types import SimpleNamespace

import pytest

from vif_core.train import records
from vif_core.train.records import LEARNING, ProgressBar, Records


def state(step=0, **others):
    return SimpleNamespace(is_world_process_zero=True, global_step=step, max_steps=10, **others)


def lines(folder):
    """Lines of strict JSON: no NaN, no Infinity."""
    text = (folder / LEARNING).read_text()
    return [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]


@pytest.fixture
def without_board(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)


def recorded(folder, phase="joint", steps=(1, 2), resumed=0, before=0, loss=1.5):
    told = Records(folder, phase, before)
    told.on_train_begin(None, state(resumed), None)
    args = SimpleNamespace(bf16=True)
    for step in steps:
        told.on_log(args, state(step), None, logs={"loss": loss, "kl": 0.1})
    told.on_log(args, state(steps[-1]), None, logs={"train_runtime": 3.0})
    told.on_train_end(None, state(steps[-1]), None)


def test_each_log_step_is_one_line(tmp_path, without_board):
    recorded(tmp_path)
    told = lines(tmp_path)
    assert [(line["phase"], line["step"], line["loss"], line["kl"]) for line in told] == [
        ("joint", 1, 1.5, 0.1),
        ("joint", 2, 1.5, 0.1),
    ]
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


@pytest.fixture
def clock(monkeypatch):
    """A clock that shows another ten seconds each time it is read."""
    monkeypatch.setattr(records.time, "monotonic", itertools.count(1000.0, 10.0).__next__)


def test_seconds_are_those_since_the_phase_began_without_the_pause(tmp_path, without_board, clock):
    recorded(tmp_path, "focus", steps=(20,))
    recorded(tmp_path, "joint", steps=(2, 4, 6))
    assert [line["seconds"] for line in lines(tmp_path)] == [10.0, 10.0, 20.0, 30.0]
    recorded(tmp_path, "joint", steps=(6, 8), resumed=5)  # what came after the checkpoint is run again
    assert [line["seconds"] for line in lines(tmp_path)] == [10.0, 10.0, 20.0, 35.0, 45.0]


def test_a_phase_that_an_earlier_version_began_tells_no_seconds(tmp_path, without_board):
    (tmp_path / LEARNING).write_text('{"phase": "joint", "step": 2, "time": 100.0, "loss": 1.5}\n')
    recorded(tmp_path, "joint", steps=(4,), resumed=2)
    assert [line.get("seconds") for line in lines(tmp_path)] == [None, None]


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_null_and_warned_of_once(tmp_path, without_board, capsys, loss):
    recorded(tmp_path, loss=loss)
    assert [line["loss"] for line in lines(tmp_path)] == [None, None]
    assert "kl" in lines(tmp_path)[0]
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith("vifscope: warning: the loss is not finite in phase joint at step 1. What it learns")
    recorded(tmp_path)
    assert capsys.readouterr().err == ""


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
