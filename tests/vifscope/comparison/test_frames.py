from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from vif_core.errors import UsageError
from vifscope.comparison import Comparison
from vifscope.comparison.frames import accuracy_frame, maps_frame, shown_layers, targets_frame
from vifscope.comparison.pairs import METRICS, pair
from vifscope.stats import holm, paired_difference, sign_test


def row(frame, **wanted):
    for name, value in wanted.items():
        frame = frame[frame[name] == value]
    assert len(frame) == 1
    return frame.iloc[0]


def test_a_layer_s_row_is_the_paired_difference_of_its_samples(comparison):
    first, second = comparison.sides
    for metric, layer in (("visual_entropy", 13), ("box_lift", 7), ("ratio_lift", 15)):
        found = row(comparison.differences, scope="layer", metric=metric, layer=layer)
        change = paired_difference(first.values[metric][:, layer], second.values[metric][:, layer], first.units)
        assert found[["baseline", "other"]].tolist() == pytest.approx([float(change.first), float(change.second)])
        assert found[["difference", "low", "high"]].tolist() == pytest.approx([float(v) for v in change.difference])
        assert found[["percent", "percent_low", "percent_high"]].tolist() == pytest.approx(
            [float(v) for v in change.percent]
        )
        assert (found["p"], found["n"]) == (pytest.approx(float(change.p)), 22)


def test_every_metric_has_a_row_a_layer_and_deep_scope(comparison):
    counted = comparison.differences.groupby(["scope", "metric"], sort=False).size()
    assert len(counted) == 4 * len(METRICS)
    assert set(counted["layer"]) == {16}
    assert set(counted.drop("layer")) == {1}


def test_deep_scopes_are_means_over_all_injected_and_uninjected_deep_layers(comparison):
    first, second = (side.values["visual_entropy"] for side in comparison.sides)
    for scope, layers in (("deep", [12, 13, 14, 15]), ("deep injected", [13, 15]), ("deep uninjected", [12, 14])):
        found = row(comparison.differences, scope=scope, metric="visual_entropy")
        assert found["baseline"] == pytest.approx(first[:, layers].mean())
        assert found["other"] == pytest.approx(second[:, layers].mean())


def test_a_map_that_was_injected_changes_its_layers_and_no_others(comparison):
    entropy = comparison.differences.query("scope == 'layer' and metric == 'visual_entropy'").set_index("layer")
    assert (entropy.loc[[11, 13, 15], "high"] < 0).all()
    assert (entropy.loc[[11, 13, 15], "p_holm"] < 0.01).all()
    assert (entropy.drop([11, 13, 15])["difference"] == 0).all()
    assert (entropy.drop([11, 13, 15])["p_holm"] == 1).all()


def test_the_ratio_of_injected_layers_is_marked_as_no_finding(comparison):
    marked = comparison.differences.query("by_construction")
    assert set(marked["metric"]) == {"visual_ratio", "ratio_lift"}
    assert set(marked.query("scope == 'layer'")["layer"]) == {11, 13, 15}
    assert set(marked["scope"]) == {"layer", "deep", "deep injected"}


def test_it_is_marked_too_where_the_baseline_is_the_one_with_vif(baseline, with_vif):
    assert Comparison([with_vif, baseline]).differences["by_construction"].sum() == 2 * (3 + 2)


def test_without_vif_there_is_one_deep_scope_and_no_mark(baseline):
    differences = Comparison([baseline, baseline]).differences
    assert set(differences["scope"]) == {"layer", "deep"}
    assert not differences[["injected", "by_construction"]].any().any()


def test_where_every_deep_layer_is_injected_none_is_uninjected(baseline, run_of):
    other = run_of(4, model="all deep", pairs=((6, 12), (7, 13), (8, 14), (9, 15)))
    assert set(Comparison([baseline, other]).differences["scope"]) == {"layer", "deep", "deep injected"}


def test_p_is_corrected_over_the_layers_of_a_metric(comparison):
    for _, layers in comparison.differences.query("scope == 'layer'").groupby("metric"):
        np.testing.assert_allclose(layers["p_holm"], holm(layers["p"].to_numpy()))
    assert comparison.differences.query("scope != 'layer'")["p_holm"].isna().all()


def test_layers_without_attention_on_one_side_have_no_difference_and_leave_the_others_be(baseline, records_run):
    def hybrid(records):
        for record in records:
            for values in record.flows["raw"].layers.values():
                values[14] = np.nan
        return records

    differences = Comparison([baseline, records_run(4, change=hybrid, model="hybrid")]).differences
    undefined = row(differences, scope="layer", metric="visual_entropy", layer=14)
    assert undefined["n"] == 0
    assert np.isnan([undefined["difference"], undefined["p"], undefined["p_holm"]]).all()
    assert row(differences, scope="deep", metric="visual_entropy")["difference"] == 0


def test_curves_are_the_means_of_each_run_over_the_shared_samples(comparison):
    for side in comparison.sides:
        curve = comparison.curves.query("run == @side.name and metric == 'box_mass'")
        np.testing.assert_allclose(curve["mean"], side.values["box_mass"].mean(0))
        assert curve["layer"].tolist() == list(range(16))
        assert curve.loc[curve["injected"], "layer"].tolist() == side.injected
        assert curve.loc[curve["deep"], "layer"].tolist() == [12, 13, 14, 15]


def test_accuracy_is_compared_overall_by_kind_and_by_size(comparison):
    frame = comparison.accuracy
    assert frame["group"].value_counts().to_dict() == {"all": 1, "kind": 4, "size": 3}
    assert frame.query("group == 'size'")["name"].tolist() == ["tiny", "small", "large"]
    first, second = (np.array([bool(s["correct"]) for s in side.samples]) for side in comparison.sides)
    overall = row(frame, group="all")
    assert overall["difference"] == pytest.approx(second.mean() - first.mean())
    assert tuple(overall[["baseline_only", "other_only", "p"]]) == pytest.approx(tuple(sign_test(first, second)))
    assert overall["low"] <= overall["difference"] <= overall["high"]
    assert frame.query("group == 'kind'")["n"].sum() == overall["n"] == 22


def test_questions_about_one_picture_are_no_observations_of_their_own(baseline, records_run):
    """Of three pictures with four questions each one is lost as a whole: p of four pairs would be 1/8."""

    def shared(right):
        def change(records):
            for i, record in enumerate(records):
                record.pictures = records[i // 4 * 4].pictures
                record.sample["correct"] = right or i >= 4
            return records

        return change

    frame = accuracy_frame(pair([records_run(12, change=shared(True)), records_run(12, change=shared(False))]))
    overall = row(frame, group="all")
    assert (overall["baseline_only"], overall["other_only"]) == (4, 0)
    assert overall["p"] == pytest.approx(1.0)  # one picture of three differs


def test_an_extra_question_about_one_picture_leaves_the_test_of_accuracy_exact(records_run):
    def answered(right):
        def change(records):
            records[-1].pictures = records[-2].pictures
            for i, record in enumerate(records):
                record.sample["correct"] = right or i >= 4
            return records

        return records_run(9, change=change)

    overall = row(accuracy_frame(pair([answered(False), answered(True)])), group="all")
    assert (overall["baseline_only"], overall["other_only"], overall["p"]) == (0, 4, 0.125)


def test_samples_without_an_answer_are_not_counted(baseline, run_of):
    frame = accuracy_frame(pair([baseline, run_of(6, answers=False)]))
    assert frame["n"].unique().tolist() == [0]
    assert frame[["difference", "low", "p"]].isna().all().all()


def test_targets_are_measured_in_patches_of_the_tiles_wherever_they_stand(records_run):
    """Beside tiles whose cells have 8 pixels stands a thumbnail whose cells have 32."""

    def beside(places):
        def change(records):
            for record in records:
                (tiles,) = record.sample["images"]
                thumbnail = tiles | {"frame": "thumbnail", "rows": 3, "cols": 3, "stride": 3}
                record.sample["images"] = [(tiles | {"frame": "tile"}, thumbnail)[place] for place in places]
            return records

        run = records_run(12, change=change)
        return targets_frame(*pair([run, run]))

    orders = [beside((0, 1)), beside((1, 0))]
    pd.testing.assert_frame_equal(*orders)
    assert orders[0]["side_patches"].tolist() == pytest.approx((orders[0]["side_px"] / 8).tolist())
    assert orders[0]["side_px"].between(8, 32).any(), "less than a patch to the thumbnail"


def test_the_shown_layers_are_the_middle_and_the_last_of_the_injected_deep_ones(baseline, with_vif, run_of):
    assert shown_layers(*pair([baseline, with_vif])) == [13, 15]
    assert shown_layers(*pair([baseline, baseline])) == [13, 15]
    deep = run_of(2, layers=32), run_of(2, layers=32, model="vif", pairs=((11, 25), (13, 27), (15, 29), (17, 31)))
    assert shown_layers(*pair(deep)) == [27, 31]  # those of the paper's Figure 6
    assert shown_layers(*pair([run_of(1, layers=1)] * 2)) == [0]


def test_the_samples_shown_are_one_a_kind_whose_entropy_changes_most(comparison):
    first, second = comparison.sides
    frame = maps_frame(first, second)
    change = np.abs(second.values["visual_entropy"] - first.values["visual_entropy"])[:, [13, 15]].sum(1)
    samples = [(sample["sample_id"], sample["kind"]) for sample in first.samples]
    for sample_id in frame["sample_id"].unique():
        kind = dict(samples)[sample_id]
        of_kind = {i: change[place] for place, (i, other) in enumerate(samples) if other == kind}
        assert sample_id == max(of_kind, key=of_kind.__getitem__)
    assert frame["sample_id"].nunique() == 4
    assert frame["run"].unique().tolist() == ["mini-llava", "mini-llava-vif"]


def test_the_same_samples_are_shown_again_and_others_for_another_seed(records_run):
    def one_kind(records):
        for record in records:
            record.sample["kind"] = "attribute"
        return records

    runs = [records_run(24, change=one_kind, layers=4, model="vif", pairs=pairs) for pairs in ((), ((1, 3),))]
    shown = [maps_frame(*pair(runs), most=2, seed=seed)["sample_id"].unique().tolist() for seed in (0, 0, 1, 2, 3)]
    assert shown[0] == shown[1]
    assert len({tuple(ids) for ids in shown}) > 1
    assert {len(ids) for ids in shown} == {2}


def test_runs_without_maps_on_a_grid_are_refused(run_of):
    with pytest.raises(UsageError, match="share no sample with maps to draw; expected measured samples whose visual"):
        maps_frame(*pair([run_of(2, grid=False)] * 2))
