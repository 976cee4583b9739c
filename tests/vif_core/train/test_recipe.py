"""Recipes read from YAML: those that are packaged are whole, and a mistake is named."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from vif_core.errors import UsageError, VifError
from vif_core.train import recipe as recipes
from vif_core.train.recipe import Recipe, read_recipe, read_stages, recipe_names, train


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
    recipe = read_recipe(name)
    assert recipe.stages if isinstance(recipe, Recipe) else recipe.phases


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


def test_a_recipe_of_phases_is_refused_where_stages_are_needed():
    with pytest.raises(UsageError, match="recipe mini-llava-vif has phases; expected one with stages"):
        read_stages("mini-llava-vif")


def test_stages_take_no_options_of_phases(tmp_path):
    with pytest.raises(UsageError, match="--data for recipe mini-llava, which has stages"):
        train("mini-llava", tmp_path, data="specks")


@pytest.fixture
def launched(monkeypatch):
    """What would be launched: module and arguments, processes."""
    calls = []
    monkeypatch.setattr(recipes, "_launch", lambda command, processes, *_: calls.append((command, processes)))
    return calls


def test_a_training_is_written_down_with_its_options_and_goes_on_by_the_same_command(launched, tmp_path):
    assert train("mini-llava-vif", tmp_path, steps=3, processes=1) == tmp_path / "mini-llava-vif"
    train("mini-llava-vif", tmp_path, steps=3, processes=1)
    assert launched == [(["-m", "vif_core.train.tune", str(tmp_path)], 1)] * 2
    written = read_recipe(tmp_path / "recipe.yaml")
    assert {phase.steps for phase in written.phases} == {3}
    (tmp_path / "mini-llava-vif").mkdir()
    train("mini-llava-vif", tmp_path, steps=3, processes=1)
    assert len(launched) == 2, "the trained model is there"


def test_a_folder_that_holds_another_training_is_refused(launched, tmp_path):
    train("mini-llava-vif", tmp_path, steps=3)
    with pytest.raises(UsageError, match=r"holds another training, which differs in phases, seed; .* another --out"):
        train("mini-llava-vif", tmp_path, seed=9)
    assert len(launched) == 1


@pytest.fixture
def listing(tmp_path):
    """A listing, as for --data."""
    path = tmp_path / "mine.json"
    path.write_text(json.dumps([{"image": "a.png", "question": "Which?", "answer": "red"}]))
    return path


@pytest.mark.parametrize("wrong", ["mien.json", "mine.txt"])
def test_data_that_is_not_there_leaves_the_folder_to_the_corrected_command(launched, tmp_path, listing, wrong):
    (tmp_path / "mine.txt").touch()
    with pytest.raises(UsageError, match=rf"{wrong}"):
        train("llava-1.5-7b-vif", tmp_path / "out", data=str(tmp_path / wrong))
    train("llava-1.5-7b-vif", tmp_path / "out", data=str(listing))
    assert len(launched) == 1


@pytest.mark.parametrize("code", [1, 2], ids=["no such model on the hub", "no such model"])
def test_what_stops_before_it_learns_leaves_the_folder_to_the_corrected_command(ran, tmp_path, listing, code):
    ran.code, data = code, str(listing)
    with pytest.raises(VifError, match="Read the lines above"):
        train("llava-1.5-7b-vif", tmp_path / "out", data=data, model="misspelt", processes=1)
    ran.code = 0
    train("llava-1.5-7b-vif", tmp_path / "out", data=data, model="right", processes=1)
    (tmp_path / "out" / "0-one.safetensors").touch()
    ran.code = code
    with pytest.raises(VifError, match="Read the lines above"):
        train("llava-1.5-7b-vif", tmp_path / "out", data=data, model="right", processes=1)
    assert (tmp_path / "out" / "recipe.yaml").exists(), "a training that has begun keeps its record"


@pytest.mark.parametrize("named", ["mine.json", "."], ids=["listing", "folder"])
def test_a_training_does_not_go_on_with_data_that_has_changed(launched, tmp_path, listing, named):
    out, data, first = tmp_path / "out", str(tmp_path / named), listing.read_text()
    train("llava-1.5-7b-vif", out, data=data)
    listing.write_text(first.replace("red", "blue"))
    with pytest.raises(UsageError, match=r" has changed since the training in .*out began; .* another --out"):
        train("llava-1.5-7b-vif", out, data=data)
    listing.write_text(first)
    train("llava-1.5-7b-vif", out, data=data)
    assert len(launched) == 2


@pytest.fixture
def ran(monkeypatch):
    """What is run, and with which GPUs; a test sets the exit code."""

    class Ran:
        code = 0

        def __call__(self, command, env, **_):
            self.command, self.gpus = command, env.get("CUDA_VISIBLE_DEVICES")
            return subprocess.CompletedProcess(command, self.code)

    ran = Ran()
    monkeypatch.setattr(subprocess, "run", ran)
    return ran


@pytest.mark.parametrize(("visible", "one"), [(None, "0"), ("2,3", "2"), ("GPU-8932,GPU-4ad1", "GPU-8932")])
def test_a_process_by_itself_sees_one_gpu(ran, monkeypatch, tmp_path, visible, one):
    """By itself the Trainer would spread its rows over all of them, as many rows for each as the step has."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    train("mini-llava-vif", tmp_path / "one", processes=1)
    assert ran.command == [sys.executable, "-m", "vif_core.train.tune", str(tmp_path / "one")]
    assert ran.gpus == one
    train("mini-llava-vif", tmp_path / "two", processes=2)
    assert ran.command[1:4] == ["-m", "vif_core.train.processes", "2"]
    assert ran.gpus == visible


@pytest.mark.parametrize(("code", "kind"), [(1, VifError), (2, UsageError), (-9, VifError)])
def test_what_a_process_refuses_is_wrong_usage_and_other_failures_are_not(ran, tmp_path, code, kind):
    ran.code = code
    with pytest.raises(VifError, match="Read the lines above") as caught:
        train("mini-llava-vif", tmp_path)
    assert type(caught.value) is kind
