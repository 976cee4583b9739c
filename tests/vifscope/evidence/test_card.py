"""The card states what was measured, and its table of stages is the recipe's."""

from __future__ import annotations

import json

from vif_core.data.specks.questions import KINDS
from vif_core.train.recipe import read_recipe
from vifscope.evidence.card import card_text, learning_figure, learning_lines, seconds

LAYER = {"layer": 0, "visual_ratio": 0.5, "ratio_lift": 0.9, "relative_entropy": 0.75, "box_lift": None}
FIGURES = {
    "accuracy": {"test": {"overall": 0.875, "relation": 0.5}, "blank image": {"overall": 0.125}},
    "by_size": {"overall": {"tiny": 0.8, "large": 0.95}},
    "knockout": {"n": 40, "clean": 0.975, "target": 0.1, "distractor": 0.95},
    "attention": {"layers": [LAYER], "sentence": "it looks."},
    "training": {"minutes": {"language": 10.0}, "machine": "two cores", "versions": {"torch": "2.13.0"}},
}


def test_every_measured_number_is_on_the_card():
    text = card_text(read_recipe("mini-llava"), FIGURES)
    assert "| overall | 0.875 | 0.125 |" in text
    assert "| overall | 0.800 |  | 0.950 |" in text
    assert "0.975 as they are" in text
    assert "| 0 | 0.50 | 0.90 | 0.75 |  |" in text
    assert "| language | decoder | 420 | 24 | 0.003 | 10.0 |" in text
    assert all(f"| {kind} |" in text for kind in KINDS)


def test_a_step_that_was_run_again_counts_once_and_time_is_by_stage(tmp_path):
    lines = [
        {"stage": "language", "step": step, "time": at, "token_accuracy_text": 0.5}
        for step, at in ((10, 100.0), (20, 110.0), (20, 111.0), (40, 130.0))
    ]
    log = tmp_path / "learning.jsonl"
    log.write_text("\n".join(json.dumps(line) for line in lines))
    learning = learning_lines(log)
    assert list(learning["step"]) == [10, 20, 40]
    assert seconds(learning) == {"language": 40.0}  # 30 s for 30 steps, 40 steps in all
    axes = learning_figure(learning).axes[0]
    assert axes.get_ylabel() == "token accuracy"
    assert [line.get_label() for line in axes.lines if line.get_label() in KINDS] == ["text"]


def test_a_phase_of_one_line_tells_its_time_and_older_records_what_they_told(tmp_path):
    log = tmp_path / "learning.jsonl"
    old = [{"phase": "focus", "step": step, "time": 3.0 * step} for step in (20, 40)]
    new = [{"phase": "joint", "step": 24, "time": 9000.0, "seconds": 77.5}]
    unknown = [{"phase": "last", "step": step, "time": float(step), "seconds": None} for step in (5, 10)]
    log.write_text("\n".join(json.dumps(line) for line in [*old, *new, *unknown]))
    assert seconds(learning_lines(log, "phase"), "phase") == {"focus": 120.0, "joint": 77.5, "last": 10.0}
    log.write_text(json.dumps(old[0]))
    assert seconds(learning_lines(log, "phase"), "phase") == {}


def test_figures_that_were_not_finite_leave_a_gap_in_the_curve(tmp_path):
    log = tmp_path / "learning.jsonl"
    accuracies = {10: 0.5, 20: None, 30: 0.7}
    lines = [
        {"stage": "joint", "step": step, "time": 1.0 * step, "loss": None, "token_accuracy_text": value}
        for step, value in accuracies.items()
    ]
    log.write_text("\n".join(json.dumps(line) for line in lines))
    learning = learning_lines(log)
    assert learning["loss"].isna().all()
    (curve,) = (each for each in learning_figure(learning).axes[0].lines if each.get_label() == "text")
    assert list(curve.get_ydata()) == [0.5, 0.7]
    assert seconds(learning) == {"joint": 30.0}
