from __future__ import annotations

import json

import numpy as np
import pytest

from vif_core.errors import UsageError
from vifscope.metrics.attenuation import attenuation_index
from vifscope.summary import summary_dict, summary_sentence


def by_layer(run, metric):
    return run.layers().groupby("layer")[metric].mean().to_numpy()


def test_it_is_json_and_undefined_is_null(run_of):
    summary = summary_dict(run_of(3, boxes=False, answers=False, grid=False))
    text = json.dumps(summary, allow_nan=False)
    assert json.loads(text)["layers"][0]["box_lift"] is None
    assert summary["accuracy"] == {"n": 0, "mean": None, "low": None, "high": None, "score": None}


def test_it_counts_measured_and_failed_samples(run):
    summary = summary_dict(run)
    assert (summary["n"], summary["failed"]) == (24, 1)
    assert (summary["model"], summary["data"], summary["map"]) == ("mini-llava", "specks-test", "raw")
    assert summary["run"] == str(run.path)


def test_layers_hold_every_metric_with_its_interval(run):
    layers = summary_dict(run)["layers"]
    assert [layer["layer"] for layer in layers] == list(range(16))
    assert [layer["layer"] for layer in layers if layer["deep"]] == [12, 13, 14, 15]
    np.testing.assert_allclose([layer["visual_ratio"] for layer in layers], by_layer(run, "visual_ratio"), rtol=1e-6)
    for layer in layers:
        assert layer["box_lift_low"] <= layer["box_lift"] <= layer["box_lift_high"]


def test_accuracy_is_the_share_of_right_responses(run):
    summary = summary_dict(run)
    samples = run.samples().dropna(subset="correct")
    assert summary["accuracy"]["mean"] == pytest.approx(samples["correct"].mean())
    assert summary["accuracy"]["n"] == 24
    assert summary["accuracy"]["low"] < summary["accuracy"]["mean"] < summary["accuracy"]["high"]
    by_kind = samples.groupby("kind")["correct"].mean().to_dict()
    assert {kind: a["mean"] for kind, a in summary["accuracy_by_kind"].items()} == pytest.approx(by_kind)
    assert list(summary["accuracy_by_size"]) == ["tiny", "small", "large"]


def test_attenuation_is_that_of_the_mean_curve_within_its_interval(run):
    index = summary_dict(run)["attenuation_index"]
    assert index["mean"] == pytest.approx(attenuation_index(by_layer(run, "visual_ratio")), rel=1e-6)
    assert index["low"] < index["mean"] < index["high"]
    assert index["high"] - index["low"] < 0.05


def test_questions_about_one_image_are_drawn_together(records_run):
    def same_image(records):
        records[1].pictures = records[0].pictures
        return records

    summary = summary_dict(records_run(2, change=same_image))
    index = summary["attenuation_index"]
    assert index["mean"] > 0
    assert (index["low"], index["high"], summary["accuracy"]["low"]) == (None, None, None)
    assert f"attenuation index {index['mean']:.3g} (no interval: one image)." in summary["sentence"]
    assert summary["sentence"].count("no interval: one image") == 3, "and box lift and accuracy"


def test_the_same_run_gives_the_same_numbers(run):
    assert summary_dict(run) == summary_dict(run)


def test_a_model_and_its_data_may_be_named_in_the_manifest(run):
    run.manifest["model"], run.manifest["dataset"] = (
        {"id": "llava-hf/llava-1.5", "revision": "1"},
        {"name": "/data/pope", "size": 9},
    )
    try:
        summary = summary_dict(run)
    finally:
        del run.manifest["model"], run.manifest["dataset"]
    assert (summary["model"], summary["data"]) == ("llava-hf/llava-1.5", "pope")


def test_the_sentence_says_what_was_found(run):
    summary = summary_dict(run)
    sentence, layers = summary["sentence"], summary["layers"]
    assert sentence.startswith("mini-llava on 24 samples of specks-test: the visual ratio peaks at ")
    assert f"peaks at {layers[4]['visual_ratio']:.3g} in layer 4 ({layers[4]['ratio_lift']:.3g} times" in sentence
    deep = np.mean([layer["visual_ratio"] for layer in layers[12:]])
    assert f"averages {deep:.3g} over the deep layers 12 to 15" in sentence
    assert f"attenuation index {summary['attenuation_index']['mean']:.3g} (95 % interval" in sentence
    assert (
        f"most focused in layer 7 (relative entropy {layers[7]['relative_entropy']:.3g}, 1 being uniform)" in sentence
    )
    assert f"most on the target in layer 7: box lift {layers[7]['box_lift']:.3g} (95 % interval" in sentence
    assert f"Accuracy {100 * summary['accuracy']['mean']:.1f} % (95 % interval" in sentence
    assert sentence.endswith("Left out: 1 sample that failed.")


def test_the_sentence_says_what_is_undefined(run_of):
    sentence = summary_dict(run_of(1, boxes=False, answers=False, grid=False))["sentence"]
    assert "on 1 sample of" in sentence
    assert "Box lift is undefined: no measured sample has a target box on a grid." in sentence
    assert "Accuracy is unknown: no sample has an answer." in sentence
    assert "nan" not in sentence.lower()
    assert "None" not in sentence


def test_without_visual_attention_there_is_no_index(records_run):
    """No visual token anywhere: ratio 0, entropy undefined."""

    def blind(records):
        for record in records:
            for name, values in record.flows["raw"].layers.items():
                values[:] = 0 if name == "visual_ratio" else np.nan
        return records

    summary = summary_dict(records_run(2, change=blind))
    assert summary["attenuation_index"] == {"mean": None, "low": None, "high": None}
    wanted = "no attention on visual tokens was measured, so the attenuation index is undefined."
    assert wanted in summary["sentence"]
    assert "focused" not in summary["sentence"]


def test_where_nothing_but_the_image_is_seen_the_ratio_is_no_finding(records_run):
    def crossing(records):
        for record in records:
            for layers in (flow.layers for flow in record.flows.values()):
                layers["visual_ratio"] = np.where(np.arange(16) % 2, np.float32(1 - 1e-6), np.float32(np.nan))

        return records

    sentence = summary_dict(records_run(2, change=crossing))["sentence"]
    assert "see nothing but the image, by cross-attention: the visual ratio is 1 by construction." in sentence
    assert "attenuation index" not in sentence


def test_without_attention_in_deep_layers_there_is_no_index_but_a_peak(records_run):
    def hybrid(records):
        for record in records:
            for values in record.flows["raw"].layers.values():
                values[12:] = np.nan
        return records

    summary = summary_dict(records_run(2, change=hybrid))
    assert summary["attenuation_index"]["mean"] is None
    wanted = "attention). It is undefined in the deep layers 12 to 15, and so is the attenuation index. Attention over"
    assert wanted in summary["sentence"]


def test_layers_that_an_injected_map_holds_up_are_named_and_not_counted(run_of):
    run = run_of(12, model="mini-llava-vif", pairs=((3, 4), (7, 13)))
    summary, ratio = summary_dict(run), by_layer(run, "visual_ratio")
    own = np.delete(ratio, [4, 13])
    assert ratio.argmax() == 4
    assert summary["attenuation_index"]["mean"] == pytest.approx(ratio[[12, 14, 15]].mean() / own.max(), rel=1e-6)
    assert summary["attenuation_index_by_kind"]["count"]["mean"] < 0.5
    assert [layer["layer"] for layer in summary["layers"] if layer["held_up"]] == [4, 13]
    assert f"peaks at {own.max():.3g} in layer " in summary["sentence"]
    assert f"averages {ratio[[12, 14, 15]].mean():.3g} over" in summary["sentence"]
    assert "Not counted: layers 4, 13, where the injected map holds the ratio up." in summary["sentence"]


def test_where_every_deep_layer_is_held_up_there_is_no_index(run_of):
    pairs = ((6, 12), (7, 13), (8, 14), (9, 15))
    summary = summary_dict(run_of(4, model="all deep", pairs=pairs))
    assert summary["attenuation_index"] == {"mean": None, "low": None, "high": None}
    assert "so is the attenuation index. Not counted: layers 12, 13, 14, 15, where" in summary["sentence"]


def test_one_deep_layer_is_named_alone(run_of):
    assert "over the deep layer 3:" in summary_dict(run_of(2, layers=4))["sentence"]


def test_a_sentence_needs_no_names(run):
    summary = summary_dict(run) | {"model": None, "data": None, "failed": 0}
    assert summary_sentence(summary).startswith("the model on 24 samples: the visual ratio")


def test_a_run_without_measured_samples_is_refused(records_run):
    def fail(records):
        for record in records:
            record.flows, record.sample["error"] = {}, "broken"
        return records

    with pytest.raises(UsageError, match="holds no measured sample"):
        summary_dict(records_run(2, change=fail))
