from __future__ import annotations

import numpy as np
import pytest

from vifscope.runs.tables import SAMPLES, heads_table, layers_table, rows_table, samples_table


def test_layers_have_a_row_a_sample_and_layer(record):
    records = [record(0), record(1)]
    table = layers_table(records).to_pandas()
    assert list(table.layer) == [0, 1, 2] * 2
    assert list(table.sample_id) == ["synthetic-00000"] * 3 + ["synthetic-00001"] * 3
    np.testing.assert_array_equal(table.visual_ratio[3:], records[1].flows["raw"].layers["visual_ratio"])


def test_heads_have_a_row_a_layer_and_head(record):
    one = record(0)
    table = heads_table([one]).to_pandas()
    assert list(zip(table.layer, table["head"], strict=True)) == [(i, h) for i in range(3) for h in range(2)]
    np.testing.assert_array_equal(table.visual_ratio, one.flows["raw"].heads["visual_ratio"].ravel())


def test_rows_carry_their_position_and_whether_they_are_measured(record):
    table = rows_table([record(0)]).to_pandas()
    assert list(table.row[:4]) == [0, 1, 2, 3]
    assert list(table.position[4:8]) == [8, 9, 10, 11]
    assert list(table.measured[8:]) == [False, False, True, True]


def test_map_kinds_follow_each_other_and_a_metric_that_one_lacks_is_undefined(record):
    one = record(0)
    one.flows["vif"] = record(1).flows["raw"]
    del one.flows["vif"].layers["visual_entropy"]
    table = layers_table([one]).to_pandas()
    assert list(table["map"]) == ["raw"] * 3 + ["vif"] * 3
    assert table.visual_entropy.isna().tolist() == [False] * 3 + [True] * 3


def test_samples_are_stored_as_given_and_missing_keys_as_null(record):
    one, failed = record(0), record(1, error="broken")
    rows = samples_table([one, failed], [["images/a.png"], []]).to_pylist()
    assert rows[0]["visual"] == list(range(2, 8))
    assert rows[0]["images"][0]["rect_px"] == [0, 0, 6, 4]
    assert rows[0]["error"] is None
    assert rows[1] == dict.fromkeys(SAMPLES.names) | {"sample_id": "synthetic-00001", "image": [], "error": "broken"}


def test_an_unknown_column_is_refused(record):
    one = record(0)
    one.sample["mood"] = "good"
    with pytest.raises(ValueError, match=r"samples/ has no column \['mood'\]"):
        samples_table([one], [[]])
