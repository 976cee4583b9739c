"""A claim's verdict follows from its interval, and its number from the runs."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from vifscope.claims import (
    Claim,
    ablation_claim,
    answer_claim,
    attenuation_claim,
    claims,
    claims_frame,
    focus_claim,
    limit_claim,
    mapping_claim,
    parts_claim,
    tail_claim,
    vif_claims,
)
from vifscope.comparison import Comparison
from vifscope.metrics.attenuation import deep_layers

FALLS = Claim("It falls", "section 1", "change", "-1", -2.0, -3.0, -1.0, 9, threshold=0.0, above=False)


@pytest.mark.parametrize(
    ("low", "high", "above", "verdict"),
    [(-3, -1, False, "yes"), (1, 3, False, "no"), (-1, 1, False, "open"), (1, 3, True, "yes"), (-3, -1, True, "no")],
)
def test_the_verdict_is_where_the_interval_lies(low, high, above, verdict):
    assert replace(FALLS, low=low, high=high, above=above).agrees == verdict


def test_what_was_not_measured_is_open_and_said():
    nothing = replace(FALLS, ours=math.nan, low=math.nan, high=math.nan)
    assert nothing.agrees == "open"
    assert nothing.sentence == "Not measured here: change."


def test_a_single_image_settles_nothing(run_of):
    for claim in claims([run_of(1)]):
        assert claim.agrees == "open"
        assert "Measured without an interval, so that nothing is settled" in claim.sentence


def test_the_sentence_gives_both_numbers():
    assert FALLS.sentence == (
        "“It falls” holds here: change: -2 (95 % interval -3 to -1, n = 9); the paper: -1."
    )  # fmt: skip


@pytest.mark.parametrize(
    ("of", "metric"),
    [(attenuation_claim, "visual_ratio"), (tail_claim, "top_share"), (focus_claim, "visual_entropy")],
)
def test_our_number_is_the_mean_over_samples_of_the_change(run, of, metric):
    layers = run.layers()
    layers = layers[layers["map"] == "raw"]
    table = layers.pivot(index="sample_id", columns="layer", values=metric).to_numpy(float)
    num_layers = table.shape[1]
    deep = np.nanmean(table[:, list(deep_layers(num_layers))], 1)
    before = table[:, num_layers // 2] if metric == "visual_entropy" else np.nanmean(table[:, : num_layers // 2], 1)
    claim = of(run)
    assert claim.ours == pytest.approx(np.nanmean(deep - before), nan_ok=True)
    assert claim.low <= claim.ours <= claim.high
    assert claim.n == len(table)


def test_one_run_answers_for_itself_and_two_for_vif_as_well(run):
    alone, both = claims_frame(claims([run])), claims_frame(claims([run, run]))
    assert (len(alone), len(both)) == (3, 8)
    assert both["ours"].iloc[3:].isna().all(), "neither has VIF"
    assert both["n"].iloc[3:].tolist() == [0] * 5


def test_only_a_run_without_vif_and_then_one_with_it_answer_for_vif(run_of):
    bare, lit = run_of(24, model="a"), run_of(24, model="b", pairs=((7, 13),))
    for runs in ([bare, bare], [lit, lit], [lit, bare]):
        comparison = Comparison(runs)
        for claim in (*vif_claims(comparison), limit_claim(comparison)):
            assert claim.agrees == "open"
            assert claim.sentence.startswith("Not measured here: change of ") or claim.claim.startswith("Objects")
            assert claim.sentence.endswith(", which takes a first run without VIF and a second one with it.")
    assert vif_claims(Comparison([bare, lit]))[0].agrees == "yes"


def test_undefined_samples_are_not_counted(records_run):
    def holed(records):
        for record in records[:2]:
            for metric in ("visual_ratio", "top_share", "visual_entropy"):
                record.flows["raw"].layers[metric][12:] = np.nan
        return records

    run = records_run(6, change=holed)
    assert [claim.n for claim in claims([run])] == [4, 4, 4]


@pytest.mark.parametrize("claim_of", [attenuation_claim, tail_claim, focus_claim])
def test_what_deep_layers_do_is_claimed_of_models_without_vif(run_of, claim_of):
    assert np.isfinite(claim_of(run_of(24, model="mini-llava")).ours)
    claim = claim_of(run_of(24, model="mini-llava-vif", pairs=((7, 13),)))
    assert np.isnan(claim.ours)
    assert (claim.n, claim.agrees) == (0, "open")
    assert claim.sentence.endswith(", which takes a run without VIF.")


def test_places_that_are_asked_for_are_a_claim_of_their_own(run_of):
    def grounding(records):
        for record in records[::2]:
            record.sample["kind"] = "grounding"
        return records

    runs = [run_of(12, model=model, pairs=pairs, change=grounding) for model, pairs in (("a", ()), ("b", ((7, 13),)))]
    claim = vif_claims(Comparison(runs))[3]
    gains = [run.samples().query("kind == 'grounding'")["correct"].astype(float).to_numpy() for run in runs]
    assert (claim.n, claim.ours) == (6, pytest.approx(100 * (gains[1] - gains[0]).mean()))


def test_a_run_with_spotlights_answers_for_what_the_answer_changes(run_of):
    lit = run_of(24, model="mini-llava-vif", pairs=((7, 13), (9, 15)))
    claim = answer_claim(lit)
    assert (claim.n, claim.agrees) == (8, "yes"), "the synthetic posterior knows its target"
    assert claim.sentence in [each.sentence for each in claims([lit, lit])]


def test_objects_smaller_than_a_patch_are_held_against_the_others(run_of):
    comparison = Comparison([run_of(24, model="a"), run_of(24, model="b", pairs=((7, 13),))])
    targets, claim = comparison.targets, limit_claim(comparison)
    small = targets["side_patches"] < 1
    assert targets["side_px"].tolist() == pytest.approx((8 * targets["side_patches"]).tolist()), "patches of 8 pixels"
    assert claim.n == len(targets) == 24
    assert claim.ours == pytest.approx(100 * (targets[small]["gain"].mean() - targets[~small]["gain"].mean()))


PARTS = ("no-posterior", "no-sparsity", "full-sequence", "deep-only", "mid-feature")


@pytest.mark.parametrize(
    ("claim_of", "arm", "others", "seeds", "bounds", "agrees", "named"),
    [
        (
            mapping_claim,
            "default",
            {"early": (-0.01, 0.01), "late": (-0.02, 0.01), "five-pairs": (0.09, 0.01)},
            2,
            (1, 0, 2),
            "open",
            "default less that of the best of early, late, points, 2 seeds",
        ),
        (parts_claim, "vif", dict.fromkeys(PARTS, (-0.02, 0.01)), 5, (2, 1, 3), "yes", "vif less that of the best of"),
        (
            parts_claim,
            "vif",
            dict.fromkeys(PARTS, (-0.02, 0.01)) | {"deep-only": (-0.021, 0.04)},
            5,
            (2, -1.9, 3),
            "open",
            "vif less that of the best of",
        ),
        (
            parts_claim,
            "vif",
            dict.fromkeys(PARTS, (-0.02, 0.01)) | {"deep-only": (0.02, 0.01)},
            5,
            (-2, -3, -1),
            "no",
            "vif less that of the best of",
        ),
        (mapping_claim, "default", {"early": (-0.02, 0.01)}, 2, (2,), "open", "default less that of the best of early, "
         "points, 2 seeds, without late"),
        (parts_claim, "vif", dict.fromkeys(PARTS, (-0.02, 0.01)), 1, (2,), "open", "vif less that of the best of"),
        (mapping_claim, "default", {}, 2, (), "open", "default less that of the best of early, late, points"),
        (parts_claim, "vif", {}, 2, (), "open", "vif less that of the best of no-posterior, no-sparsity, "),
    ],
)  # fmt: skip
def test_an_arm_is_held_against_each_of_its_variants(claim_of, arm, others, seeds, bounds, agrees, named):
    rows = [{"arm": arm, "measure": "accuracy_tiny", "reference": "", "n": 40, "from_reference": math.nan}]
    for name, (change, side) in others.items():
        ends = {"from_reference_low": change - side, "from_reference_high": change + side}
        rows.append(
            rows[0] | {"arm": name, "reference": arm, "reference_seeds": seeds, "from_reference": change} | ends
        )
        rows.append(rows[-1] | {"measure": "accuracy", "from_reference": 0.5})
    claim = claim_of(pd.DataFrame(rows))
    assert claim.measure.startswith(f"accuracy on tiny objects of {named}")
    assert claim.n == (40 if others else 0)
    wanted = (*bounds, math.nan, math.nan, math.nan)[:3]
    assert (claim.ours, claim.low, claim.high) == pytest.approx(wanted, nan_ok=True)
    assert claim.agrees == agrees
    assert len(bounds) == 3 or ("Measured without an interval" if bounds else "Not measured here") in claim.sentence


def test_an_ablation_says_what_vif_gains_in_points():
    columns = {"control_seeds": 5, "n": 40, "difference": 0.02, "difference_low": 0.01, "difference_high": 0.03}
    table = pd.DataFrame([{"arm": "vif", "measure": "accuracy_tiny"} | columns])
    claim = ablation_claim(table)
    assert ablation_claim(table.assign(control_seeds=1)).agrees == "open", (
        "images of one training say nothing of others"
    )
    assert (claim.ours, claim.low, claim.high) == pytest.approx((2, 1, 3))
    assert (claim.n, claim.agrees) == (40, "yes")
    assert "5 seeds" in claim.measure
    assert np.isnan(ablation_claim(table[:0]).ours)


def test_a_ratio_of_one_by_construction_is_no_finding(records_run):
    def crossing(records):
        for record in records:
            record.flows["raw"].layers["visual_ratio"][:] = np.where(np.arange(16) % 2, np.nan, 1 - 1e-6)
        return records

    claim = attenuation_claim(records_run(6, change=crossing))
    assert np.isnan(claim.ours)
    assert claim.sentence.startswith("Not measured here: visual ratio of the deep layers")
