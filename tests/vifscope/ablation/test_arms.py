"""Each arm is the recipe with what its name says changed, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vif_core.errors import UsageError
from vif_core.train.phases import phase_recipe
from vif_core.train.recipe import read_recipe
from vif_core.vif.config import VIFConfig
from vifscope.ablation.arms import ARMS, arm_recipe, injected_layers, scaled

VALUES = {
    "model": "mini-llava",
    "name": "trial",
    "vif": {"alpha": 0.4},
    "data": "specks",
    "phases": [
        {"name": "focus", "train": ["vif"], "lr": {"vif": 1e-3}, "rows": 4, "steps": 100,
         "losses": {"kl": {"value": 0.1, "warmup": 50}}},
        {"name": "joint", "train": ["vif", "decoder"], "lr": {"vif": 1e-3, "decoder": 1e-4}, "rows": 4, "steps": 300,
         "losses": {"sparsity": {"value": 0.01, "warmup": 30}}},
    ],
}  # fmt: skip


@pytest.fixture
def recipe():
    return phase_recipe(VALUES)


@pytest.mark.parametrize("name", ARMS)
def test_an_arm_of_the_packaged_recipe_can_be_written_down_and_read(name):
    arm = arm_recipe(read_recipe("mini-llava-vif"), name)
    assert phase_recipe(arm.to_values()) == arm


def test_vif_is_the_recipe_itself(recipe):
    assert arm_recipe(recipe, "vif") == recipe


def test_the_control_trains_the_same_weights_alike_without_vif(recipe):
    control = arm_recipe(recipe, "control")
    assert control.vif is None
    assert [phase.name for phase in control.phases] == ["joint"]
    assert control.phases[0].train == ("decoder",)
    assert control.phases[0].order == 1  # its rows are those of VIF's second phase
    same = ("lr", "rows", "steps", "schedule", "warmup", "losses")
    assert all(getattr(control.phases[0], name) == getattr(recipe.phases[1], name) for name in same)


def test_a_recipe_that_trains_vif_alone_has_no_control(recipe):
    with pytest.raises(UsageError, match="trains VIF alone"):
        arm_recipe(replace(recipe, phases=recipe.phases[:1]), "control")


@pytest.mark.parametrize("source", ["swapped", "constant"])
def test_a_control_of_the_place_changes_the_source_of_maps_alone(recipe, source):
    arm = arm_recipe(recipe, source)
    assert arm.maps_from == source
    assert replace(arm, maps_from="own", name=recipe.name) == recipe


@pytest.mark.parametrize("variant", ["no-posterior", "no-sparsity", "full-sequence", "deep-only"])
def test_a_variant_changes_the_configuration_alone(recipe, variant):
    arm = arm_recipe(recipe, variant)
    assert arm.vif == VIFConfig(alpha=0.4, variant=variant)
    assert arm.phases == recipe.phases


def test_mid_feature_trains_what_the_control_trains(recipe):
    arm = arm_recipe(recipe, "mid-feature")
    assert arm.vif == VIFConfig(alpha=0.4, variant="mid-feature")
    assert arm.phases == arm_recipe(recipe, "control").phases


@pytest.mark.parametrize(
    ("name", "layers"), [("vif", [12, 13, 14, 15]), ("early", [12, 13, 14, 15]), ("five-pairs", [11, 12, 13, 14, 15])]
)
def test_a_mapping_goes_before_pairs_of_the_recipe(recipe, name, layers):
    given = replace(recipe, vif=replace(recipe.vif, pairs=((3, 12), (4, 13), (5, 14), (6, 15))))
    assert injected_layers(arm_recipe(given, name), 16) == layers
    extracted = [mid for mid, _ in arm_recipe(given, name).vif.resolved(16, 128).pairs]
    assert extracted == {"vif": [3, 4, 5, 6], "early": [5, 6, 7, 8], "five-pairs": [5, 6, 7, 8, 9]}[name]


def test_names_that_are_no_arm_and_recipes_without_vif_are_refused(recipe):
    with pytest.raises(UsageError, match="there is no arm 'late-ish'; expected some of vif, control"):
        arm_recipe(recipe, "late-ish")
    with pytest.raises(UsageError, match="has no VIF"):
        arm_recipe(arm_recipe(recipe, "control"), "vif")


@pytest.mark.parametrize(
    ("steps", "shares"), [(400, [100, 300]), (40, [10, 30]), (800, [200, 600]), (2, [1, 1]), (3, [1, 2]), (7, [2, 5])]
)
def test_steps_are_shared_out_as_the_phases_have_them(recipe, steps, shares):
    assert [phase.steps for phase in scaled(recipe, steps).phases] == shares


def test_warm_ups_shrink_with_their_phase(recipe):
    focus, joint = scaled(recipe, 40).phases
    assert (focus.losses.kl.warmup, focus.losses.kl.value) == (5, 0.1)
    assert joint.losses.sparsity.warmup == 3
    assert scaled(recipe, 400) == recipe


def test_fewer_steps_than_phases_and_epochs_are_refused(recipe):
    with pytest.raises(UsageError, match="1 steps for the 2 phases"):
        scaled(recipe, 1)
    counted = replace(recipe, phases=(replace(recipe.phases[0], steps=None, epochs=1.0),))
    with pytest.raises(UsageError, match="counts epochs"):
        scaled(counted, 10)
