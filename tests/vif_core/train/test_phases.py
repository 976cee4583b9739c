"""Recipes of phases: what is packaged is whole, what is wrong is named, and what is written is read back."""

from __future__ import annotations

import doctest

import pytest
import yaml

from vif_core.errors import UsageError
from vif_core.train import phases
from vif_core.train.phases import LoRA, PhaseRecipe, Ramp, phase_recipe
from vif_core.train.recipe import read_recipe, recipe_names

PHASE = {"name": "joint", "train": ["decoder"], "lr": {"decoder": 1e-4}, "rows": 8, "steps": 10}
RECIPE = {"model": "mini-llava", "name": "mine", "vif": None, "data": "specks", "phases": [PHASE]}


def test_the_release_s_recipe_has_the_release_s_settings():
    recipe = read_recipe("llava-1.5-7b-vif")
    (phase,) = recipe.phases
    assert (recipe.vif.preset, recipe.optimizer, phase.epochs, phase.schedule) == ("release", "adamw", 1, "cosine")
    assert phase.lr == {"vif": 2e-5, "decoder": 2e-5, "projector": 2e-5}
    assert "vision" not in phase.train
    assert phase.shared(4) == (8, 16)
    assert (phase.warmup, phase.weight_decay, phase.max_length) == (0.03, 0.0, 2048)
    assert phase.bf16
    assert phase.gradient_checkpointing


def test_the_lora_recipe_has_four_phases():
    recipe = read_recipe("qwen2.5-vl-7b-vif-lora")
    assert [phase.steps for phase in recipe.phases] == [4000, 3000, 3000, 5000]
    assert {(phase.lora.rank, phase.lora.alpha) for phase in recipe.phases} == {(16, 32)}


def test_the_recipe_of_mini_llava_lets_vif_learn_alone_at_first():
    phases = read_recipe("mini-llava-vif").phases
    assert phases[0].train == ("vif",)
    assert {"vif", "decoder"} <= set(phases[-1].train)


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_that_is_written_is_read_back_as_the_same(name):
    recipe = read_recipe(name)
    if isinstance(recipe, PhaseRecipe):
        assert phase_recipe(yaml.safe_load(yaml.safe_dump(recipe.to_values()))) == recipe


@pytest.mark.parametrize(
    ("recipe", "phase", "line"),
    [
        ({"colour": 1}, {}, "the recipe has no field 'colour'; expected some of model, name, phases, vif"),
        ({"vif": {"colour": 1}}, {}, "VIFConfig has no field 'colour'"),
        ({"optimizer": "sgd"}, {}, "the recipe: optimizer is 'sgd'; expected one of adamw, muon"),
        ({"data": [{"from": "x"}]}, {}, r"data\[0\] has no field 'from'; expected some of source, share, pack"),
        ({"data": [{"pack": {"kinds": {"smell": 1}}}]}, {}, r"data\[0\].pack: unknown question kinds \['smell'\]"),
        ({"data": [{"pack": {"questions": 0}}]}, {}, r"pack: questions is 0; expected 1 or more"),
        ({"phases": []}, {}, "phases is empty"),
        ({"seed": -1}, {}, "seed is -1; expected a whole number, 0 or more"),
        ({}, {"colour": 1}, "phase joint has no field 'colour'; expected some of name, train, lr, rows"),
        ({}, {"train": ["eyes"]}, "phase joint: train names 'eyes'; expected some of vif, decoder, projector, vision"),
        ({}, {"train": ["decoder", "vision"]}, "phase joint: lr has no vision, which learns"),
        ({}, {"train": ["vif"], "lr": {"vif": 1e-3}}, "phase joint trains vif, which is null"),
        ({}, {"lr": {"decoder": "1e-4"}}, "lr.decoder is '1e-4'; expected a number above 0, as in 3.0e-4"),
        ({}, {"steps": None}, "phase joint: neither steps nor epochs is given"),
        ({}, {"steps": 1.5}, "steps is 1.5; expected a whole number, 1 or more"),
        ({}, {"warmup": 2}, "warmup is 2; expected a number of at least 0 and at most 1"),
        ({}, {"schedule": "linear"}, "schedule is 'linear'; expected cosine or constant-decay"),
        ({}, {"losses": {"kls": 1}}, "phase joint: losses has no field 'kls'; expected some of kl, sparsity"),
        ({}, {"losses": {"kl": {"value": 1, "ramp": 2}}}, "losses.kl has no field 'ramp'; expected some of value"),
        ({}, {"losses": {"alpha": 2}}, "alpha is 2; expected a number from 0 to 1"),
        ({}, {"lora": {"rank": 4}}, "phase joint: lora lacks the field 'alpha'"),
        ({}, {"lora": {"rank": 0, "alpha": 1}}, "phase joint: lora: rank is 0"),
        ({}, {"bf16": "yes"}, "bf16 is 'yes'; expected true or false"),
        ({}, {"seek": "false"}, "seek is 'false'; expected true or false"),
        ({"data": [{"source": "a"}, {"source": "b", "share": 0.3}]}, {}, "some sources have a share and others none"),
        ({}, {"data": [{"source": "a"}, {"source": "b", "share": 0.3}]}, "phase joint: some sources have a share"),
        ({}, {"name": "a/b"}, "name is 'a/b'; expected letters, digits"),
    ],
)
def test_a_wrong_field_is_named(recipe, phase, line):
    with pytest.raises(UsageError, match=line):
        phase_recipe({**RECIPE, "phases": [PHASE | phase], **recipe})


@pytest.mark.parametrize("field", ["model", "name", "vif"])
def test_a_missing_field_is_named(field):
    with pytest.raises(UsageError, match=f"the recipe lacks the field '{field}'"):
        phase_recipe({name: value for name, value in RECIPE.items() if name != field})


def test_the_error_says_which_recipe(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(RECIPE | {"colour": 1}))
    with pytest.raises(UsageError, match=r"recipe .*mine.yaml: the recipe has no field 'colour'"):
        read_recipe(path)


def test_the_decoder_learns_by_the_same_adapters_throughout():
    lora = {"rank": 4, "alpha": 8}
    other = PHASE | {"name": "then", "lora": lora}
    with pytest.raises(UsageError, match="different lora settings"):
        phase_recipe(RECIPE | {"phases": [PHASE, other]})
    recipe = phase_recipe(RECIPE | {"phases": [PHASE | {"lora": lora}, other]})
    assert recipe.phases[0].lora == LoRA(4, 8)


def test_rows_are_shared_between_processes_and_accumulated():
    phase = phase_recipe(RECIPE | {"phases": [PHASE | {"rows": 24, "per_device": 5}]}).phases[0]
    assert phase.shared(2) == (4, 3)
    assert phase.shared(24) == (1, 1)
    with pytest.raises(UsageError, match="phase joint has 24 rows a step for 5 processes"):
        phase.shared(5)


def test_a_ramp_goes_from_its_start_to_its_value():
    ramp = Ramp(4.0, warmup=10, start=2.0)
    assert [ramp.at(step) for step in (0, 5, 10, 100)] == [2.0, 3.0, 4.0, 4.0]
    assert Ramp().at(7, default=0.1) == 0.1


def test_options_of_the_command_take_the_place_of_fields():
    recipe = phase_recipe(RECIPE | {"phases": [PHASE | {"data": "elsewhere"}]})
    changed = recipe.changed(data="mine.json", model="other", steps=3, seed=7, processes=2)
    assert (changed.model, changed.seed, changed.processes, changed.phases[0].steps) == ("other", 7, 2, 3)
    assert [data.source for data in changed.data_of(changed.phases[0])] == ["mine.json"]
    assert recipe.changed(steps=100).phases[0].steps == 10, "a cap, not a length"
    assert recipe.changed() == recipe


def test_steps_cap_epochs_too():
    recipe = phase_recipe(RECIPE | {"phases": [{**PHASE, "steps": None, "epochs": 2}]})
    assert recipe.changed(steps=5).phases[0].steps == 5


def test_data_that_the_user_has_to_say_is_asked_for():
    recipe = read_recipe("llava-1.5-7b-vif")
    with pytest.raises(UsageError, match=r"llava-1.5-7b-vif does not name its data; .* --data llava"):
        recipe.data_of(recipe.phases[0])


def test_examples_in_docstrings_hold():
    assert doctest.testmod(phases).attempted > 0
    assert doctest.testmod(phases).failed == 0
