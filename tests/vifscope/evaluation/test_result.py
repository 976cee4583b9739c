from __future__ import annotations

import json

import numpy as np
import pytest

from vifscope.evaluation import Evaluation
from vifscope.stats import bootstrap_mean

CONFIG = {"model": "m", "data": "d", "seed": 0, "blind": False}


def record(index, kind="attribute", size="tiny", *, right=True, exact=None, answer="red", **fields):
    verdict = None if answer is None else right
    return {
        "sample_id": f"s{index:03d}",
        "kind": kind,
        "size": size,
        "question": "Which colour?",
        "answer": answer,
        "image": f"i{index}",
        "response": "red" if right else "blue",
        "exact": None if answer is None else right if exact is None else exact,
        "correct": verdict,
        "score": None if answer is None else float(right),
        "error": None,
        **fields,
    }


def mixed():
    """Three of four tiny attributes right, one of two large; two of two groundings, of IoU 0.75; one failure."""
    rows = [record(i, right=i < 3) for i in range(4)] + [record(4 + i, size="large", right=i < 1) for i in range(2)]
    rows += [record(6 + i, "grounding", "tiny", exact=False, score=0.75) for i in range(2)]
    failed = {
        key: value for key, value in record(8).items() if key in ("sample_id", "kind", "size", "question", "answer")
    }
    return (*rows, failed | {"error": "no image"})


def test_shares_are_counted_overall_by_kind_by_size_and_by_both():
    frame = Evaluation(CONFIG, mixed()).frame().set_index(["group", "kind", "size"])
    wanted = {
        ("all", "", ""): (8, 6 / 8),
        ("kind", "attribute", ""): (6, 4 / 6),
        ("kind", "grounding", ""): (2, 1),
        ("size", "", "tiny"): (6, 5 / 6),
        ("size", "", "large"): (2, 1 / 2),
        ("kind and size", "attribute", "tiny"): (4, 3 / 4),
        ("kind and size", "attribute", "large"): (2, 1 / 2),
        ("kind and size", "grounding", "tiny"): (2, 1),
    }
    assert frame["n"].to_dict() == {key: n for key, (n, _) in wanted.items()}
    assert frame["correct"].to_dict() == pytest.approx({key: share for key, (_, share) in wanted.items()})


def test_exact_right_and_score_are_three_things():
    grounding = Evaluation(CONFIG, mixed()).summary_dict()["by_kind"]["grounding"]
    assert [grounding[name]["mean"] for name in ("exact", "correct", "score")] == [0, 1, 0.75]


def test_intervals_are_bootstrapped_over_images():
    rows = tuple(record(i, right=i % 3 > 0, image=f"i{i // 4}") for i in range(40))
    found = Evaluation(CONFIG, rows).summary_dict()["accuracy"]["correct"]
    wanted = bootstrap_mean(
        np.array([float(i % 3 > 0) for i in range(40)]), np.array([f"i{i // 4}" for i in range(40)])
    )
    assert tuple(found.values()) == pytest.approx(tuple(map(float, wanted)))


def test_the_summary_is_json_and_counts_failures():
    summary = Evaluation(CONFIG, mixed()).summary_dict()
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert (summary["n"], summary["failed"]) == (8, 1)
    assert summary["by_kind_and_size"]["attribute"]["large"]["n"] == 2
    assert summary["sentence"].startswith("m on 8 samples of d: 75.0 % (95 % interval ")
    assert summary["sentence"].endswith("right, 50.0 % to the letter. Left out: 1 sample that failed.")


def test_without_answers_accuracy_is_unknown():
    evaluation = Evaluation(CONFIG | {"blind": True}, (record(0, answer=None), record(1, answer=None)))
    summary = evaluation.summary_dict()
    assert summary["accuracy"]["n"] == 0
    assert summary["accuracy"]["correct"] == {"mean": None, "low": None, "high": None}
    assert summary["sentence"] == "m on 2 samples of d: accuracy is unknown, for no sample has an answer."
    json.dumps(summary, allow_nan=False)


def test_samples_without_an_answer_are_left_out_and_named():
    summary = Evaluation(CONFIG, (record(0), record(1, answer=None))).summary_dict()
    assert summary["accuracy"]["n"] == 1
    assert "1 sample without an answer." in summary["sentence"]


def test_kinds_and_sizes_that_are_unknown_make_no_groups():
    assert Evaluation(CONFIG, (record(0, "", ""),)).frame()["group"].tolist() == ["all"]


def test_blind_baselines_stand_beside_the_answers():
    rows = [record(i, answer="red" if i % 4 else "blue", right=True) for i in range(40)]
    rows = [row | {"blank_response": "blue", "blank_correct": row["answer"] == "blue"} for row in rows]
    evaluation = Evaluation(CONFIG | {"blind": True}, tuple(rows))
    accuracy = evaluation.summary_dict()["accuracy"]
    assert (accuracy["blank"]["mean"], accuracy["majority"]["mean"]) == (0.25, 0.75)
    assert (
        "Without looking: 25.0 % from a grey image, 75.0 % by majority answers."
        in evaluation.summary_dict()["sentence"]
    )
    samples = evaluation.samples()
    assert set(samples["majority_response"]) == {"red"}
    assert samples["blank"].tolist() == [i % 4 == 0 for i in range(40)]


def test_with_one_image_the_majority_is_undefined_and_unsaid():
    rows = tuple(record(i, image="i", blank_response="blue", blank_correct=False) for i in range(3))
    evaluation = Evaluation(CONFIG | {"blind": True}, rows)
    summary = evaluation.summary_dict()
    assert summary["accuracy"]["majority"] == {"mean": None, "low": None, "high": None}
    assert summary["sentence"].endswith("Without looking: 0.0 % from a grey image.")
    assert evaluation.samples()[["majority_response", "majority"]].isna().all(axis=None)


def test_a_kind_that_no_other_image_has_does_not_enter_the_majority():
    rows = [record(i, blank_response="", blank_correct=False) for i in range(12)]
    rows.append(record(12, "count", question="How many?", answer="two", blank_response="", blank_correct=False))
    summary = Evaluation(CONFIG | {"blind": True}, tuple(rows)).summary_dict()
    assert [row["majority"]["mean"] for row in summary["by_kind"].values()] == [1, None]
    assert summary["accuracy"]["majority"]["mean"] == 1


def test_samples_are_a_row_each_failed_ones_too():
    samples = Evaluation(CONFIG, mixed()).samples()
    assert samples["error"].notna().sum() == 1
    assert list(samples.columns) == [
        "sample_id", "kind", "size", "question", "answer", "response", "exact", "correct", "score", "error",
    ]  # fmt: skip
