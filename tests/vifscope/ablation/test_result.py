"""The table says what the records say: means by arm, and differences from the control seed by seed."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from vifscope.ablation import Ablation
from vifscope.ablation.result import MEASURES, SPREAD


@pytest.fixture(scope="module")
def found(written):
    return Ablation(written)


@pytest.fixture(scope="module")
def cells(found):
    return found.frame().set_index(["arm", "measure"])


def test_every_arm_has_a_row_a_measure(cells):
    names = [measure.name for measure in MEASURES]
    assert list(cells.loc["vif"].index) == list(cells.loc["swapped"].index) == [*names, SPREAD]
    assert list(cells.loc["control"].index) == names[:6], "the control has no maps"
    assert (cells["seeds"] == 3).all()


def test_accuracy_is_over_the_chosen_half_of_each_sort(found, cells):
    tiny = found.experiment.chosen(found.experiment.parts("vif")[0])[:4]
    right = {arm: [n % 4 != 0 or (arm == "vif" and n % 8 == 0) for n in (int(each.sample_id[1:]) for each in tiny)]
             for arm in ("vif", "control")}  # fmt: skip
    row = cells.loc["vif", "accuracy_tiny"]
    assert (row["n"], row["mean"], row["control"]) == (4, np.mean(right["vif"]), np.mean(right["control"]))
    assert row["difference"] == row["mean"] - row["control"] > 0
    other = cells.loc["vif", "accuracy_other"]
    assert (other["difference"], other["difference_low"], other["difference_high"]) == (0, 0, 0)


def test_entropy_of_injected_layers_is_held_against_the_same_layers_of_the_control(cells):
    row = cells.loc["vif", "entropy_injected"]
    assert (row["percent"], row["percent_low"], row["percent_high"]) == pytest.approx((-50, -50, -50))
    left_alone = cells.loc["vif", "entropy_uninjected"]
    assert left_alone["difference"] == 0
    assert left_alone["mean"] == pytest.approx(row["control"])


def test_seeds_that_agree_leave_the_uncertainty_of_images_alone(cells):
    assert cells.loc["vif", "entropy_injected"]["low"] < cells.loc["vif", "entropy_injected"]["mean"]
    assert cells.loc["vif", "box_lift_injected"]["difference_low"] == 4.0


def test_numbers_of_maps_are_means_over_layer_pairs(cells):
    assert cells.loc["vif", "map_box_lift"]["mean"] == pytest.approx(6.0)
    assert cells.loc["vif", "kl_nats"]["mean"] == pytest.approx(2.0)
    assert np.isnan(cells.loc["vif", "map_box_lift"]["difference"])


def test_the_spread_of_centres_is_over_samples_not_over_seeds(found, cells):
    numbers = [int(each.sample_id[1:]) for each in found.experiment.chosen(found.experiment.parts("vif")[2])]
    assert cells.loc["vif", SPREAD]["mean"] == pytest.approx(0.1 * np.std(numbers) / 2)  # columns do not move


def test_an_arm_without_a_control_stands_alone(written):
    alone = Ablation(written)
    alone.seeds = {"vif": [1, 2]}
    row = alone.frame().set_index(["arm", "measure"]).loc["vif", "accuracy"]
    assert row["mean"] > 0
    assert np.isnan(row["difference"])


def test_seeds_that_one_side_lacks_are_no_pairs(written):
    some = Ablation(written)
    some.seeds = {"vif": [1, 2, 3], "control": [3]}
    row = some.frame().set_index(["arm", "measure"]).loc["vif", "accuracy_tiny"]
    assert (row["seeds"], row["difference"]) == (3, pytest.approx(row["mean"] - row["control"]))


def test_a_variant_is_held_against_its_reference_over_the_seeds_that_both_have(written):
    some = Ablation(written)
    some.seeds = {"vif": [1, 2, 3], "control": [1, 2, 3], "swapped": [3]}
    cells = some.frame().set_index(["arm", "measure"])
    row = cells.loc["swapped", "map_box_lift"]
    assert (row["reference"], row["reference_seeds"], row["control_seeds"]) == ("vif", 1, 1)
    own, vif = (some.of_maps(arm, [3], "map_box_lift").mean() for arm in ("swapped", "vif"))
    assert (row["from_reference"], row["from_reference_low"] <= row["from_reference"]) == (own - vif, True)
    gain = cells.loc["swapped", "accuracy_tiny"]
    right = (np.nanmean(some.correct(arm, [3])[:, some.tiny(written.parts("vif")[0])]) for arm in ("swapped", "vif"))
    assert gain["from_reference"] == pytest.approx(np.subtract(*right))
    assert cells.loc[["vif", "control"], "from_reference"].isna().all(), "they are variants of nothing"


def test_the_table_is_written_as_csv_json_and_markdown(found):
    found.write()
    folder = found.experiment.path
    assert len(pd.read_csv(folder / "ablation.csv")) == len(found.frame())
    told = json.loads((folder / "ablation.json").read_text())
    assert [arm["arm"] for arm in told["arms"]] == ["vif", "control", "swapped", "constant"]
    assert told["arms"][0]["injected"] == [12, 13, 14]
    assert told["arms"][0]["entropy_injected"]["percent"] == pytest.approx(-50)
    assert told["arms"][1]["accuracy"]["difference"] is None
    text = (folder / "ablation.md").read_text()
    assert "| arm | seeds | right, % | right, tiny, % |" in text
    assert "| 6.00 (+4.00, +4.00 to +4.00) | 6.00 |" in text
    assert "| arm | variant of | right, % |" in text
    assert "| swapped | vif | " in text
