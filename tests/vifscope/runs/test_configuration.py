from __future__ import annotations

import pytest

from vifscope.runs.configuration import configuration_hash, default_run_name, differences


def test_the_hash_does_not_depend_on_the_order_of_fields_or_on_tuples():
    assert configuration_hash({"a": 1, "b": (1, 2)}) == configuration_hash({"b": [1, 2], "a": 1})


def test_the_hash_changes_with_any_value():
    assert len({configuration_hash({"seed": seed, "rows": rows}) for seed in (0, 1) for rows in ("last", "text")}) == 4


@pytest.mark.parametrize("value", [object(), float("nan")])
def test_what_json_cannot_hold_is_refused(value):
    with pytest.raises((TypeError, ValueError)):
        configuration_hash({"a": value})


def test_a_run_is_named_after_model_data_and_configuration():
    name = default_run_name("/models/My model", "specks-test", {"seed": 0})
    assert name == f"My-model-specks-test-{configuration_hash({'seed': 0})[:8]}"


def test_differences_name_fields_with_both_values():
    assert differences({"a": 1, "b": [1], "c": None}, {"a": 2, "b": [1], "d": "x"}) == [
        "a is 1, not 2",
        "c is null, not unset",
        'd is unset, not "x"',
    ]
