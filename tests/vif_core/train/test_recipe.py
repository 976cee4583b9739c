"""Recipes read from YAML: those that are packaged are whole, and a mistake is named."""

from __future__ import annotations

import pytest

from vif_core.errors import UsageError
from vif_core.train.recipe import read_recipe, recipe_names


def test_the_recipe_of_mini_llava_follows_llavas_order():
    recipe = read_recipe("mini-llava")
    assert [stage.name for stage in recipe.stages] == [
        "language",
        "vision",
        "projector",
        "joint-few",
        "joint",
        "joint-reasons",
    ]
    assert recipe.stages[0].train == ("decoder",)
    assert recipe.stages[2].train == ("projector",)
    assert all(stage.rows % recipe.processes == 0 for stage in recipe.stages)


@pytest.mark.parametrize("name", recipe_names())
def test_packaged_recipes_are_read(name):
    assert read_recipe(name).stages


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("stages: [{name: a, train: [decoder], steps: 1, rows: 1, lr: 1, colour: red}]", "unknown field colour"),
        ("model: x", "is not a recipe"),
        ("stages: [", "is not a recipe"),
    ],
    ids=["unknown field", "no stages", "no YAML"],
)
def test_a_wrong_recipe_is_one_line(tmp_path, text, line):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=line):
        read_recipe(path)


def test_an_unknown_recipe_names_those_there_are():
    with pytest.raises(UsageError, match=r"no recipe named maxi-llava; expected one of .*mini-llava"):
        read_recipe("maxi-llava")
