from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vif_core.errors import UsageError
from vifscope.comparison.pairs import METRICS, pair


def test_samples_that_all_runs_measured_are_paired_and_the_others_counted(baseline, with_vif):
    first, second = pair([baseline, with_vif])
    ids = [f"s{index:03d}" for index in range(2, 24)]
    assert [sample["sample_id"] for sample in first.samples] == ids
    assert [sample["sample_id"] for sample in second.samples] == ids
    assert (first.left_out, second.left_out) == (2, 2)


def test_values_are_those_of_the_layers_table_in_the_order_of_the_pairs(baseline, with_vif):
    for side in pair([with_vif, baseline]):
        table = side.run.layers().set_index(["sample_id", "layer"])
        for metric in METRICS:
            assert side.values[metric].shape == (22, 16)
            assert side.values[metric][3, 5] == table.loc[(side.samples[3]["sample_id"], 5), metric]


def test_failed_samples_have_no_pair(run, run_of):
    """Sample 24 failed in one of the runs."""
    first, second = pair([run, run_of(25)])
    assert len(first.samples) == 24
    assert (first.left_out, second.left_out) == (0, 1)


def test_injected_layers_are_those_of_the_manifest(baseline, with_vif):
    first, second = pair([baseline, with_vif])
    assert (first.injected, second.injected) == ([], [11, 13, 15])


@pytest.mark.parametrize(
    ("variant", "held_up"), [("none", 3), ("deep-only", 3), ("full-sequence", 0), ("mid-feature", 0)]
)
def test_a_ratio_is_held_up_where_a_map_of_visual_tokens_is_injected(with_vif, variant, held_up):
    side = pair([with_vif, with_vif])[1]
    assert len(replace(side, vif=side.vif | {"variant": variant}).held_up) == held_up


def test_a_run_of_one_model_is_named_after_it_and_others_after_their_folder(baseline, with_vif, run_of):
    assert [side.name for side in pair([baseline, with_vif])] == ["mini-llava", "mini-llava-vif"]
    assert [side.name for side in pair([baseline, baseline])] == ["other", "other (2)"]
    assert [side.name for side in pair([run_of(3), with_vif])] == ["mini-llava", "mini-llava-vif"]


def test_pictures_that_two_samples_share_are_one_unit(records_run):
    def same_image(records):
        records[1].pictures = records[0].pictures
        return records

    side, _ = pair([records_run(3, change=same_image)] * 2)
    assert len(np.unique(side.units)) == 2


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            {"config": {"data": "pope", "data_fingerprint": "2"}},
            r'has other data than .*: data is "pope", not "specks-test"; data_fingerprint is "2", not null; expected',
        ),
        ({"config": {"data_fingerprint": "2"}}, "has other data than .*: data_fingerprint is"),
        (
            {"config": {"rows": "last"}},
            'has other rows than .*: rows is "last", not null; expected runs of the same rows',
        ),
        ({"first": 50}, "have no measured sample in common; expected at least one. Analyze with the same --seed"),
        ({"layers": 4}, "mini-llava-vif has 4 layers and mini-llava 16; expected models of one depth"),
    ],
    ids=["data", "fingerprint", "rows", "no common sample", "depth"],
)
def test_what_cannot_be_compared_is_refused_in_one_line(baseline, records_run, options, line):
    with pytest.raises(UsageError, match=line) as refused:
        pair([baseline, records_run(2, model="mini-llava-vif", **options)])
    assert "\n" not in str(refused.value)


def test_one_listing_under_two_names_is_the_same_data(records_run):
    """As --data my/ and --data my/samples.jsonl."""
    runs = [records_run(2, config={"data": name, "data_fingerprint": "1"}) for name in ("my", "samples")]
    assert len(pair(runs)[0].samples) == 2


def test_responses_that_were_cut_elsewhere_are_not_compared(records_run):
    def runs(response):
        for most in (96, 4):
            yield records_run(2, config={"response": response, "max_new_tokens": most})

    with pytest.raises(UsageError, match=r"has other rows than .*: max_new_tokens is 4, not 96"):
        pair(list(runs("generated")))
    assert len(pair(list(runs("given")))) == 2


def test_one_run_is_not_compared(baseline):
    with pytest.raises(UsageError, match="1 run to compare; expected two or more, the baseline first"):
        pair([baseline])
