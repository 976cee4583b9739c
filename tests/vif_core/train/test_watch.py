"""Figures of maps by hand, and a warning where they have collapsed, once."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vif_core.train.phases import PhaseRecipe
from vif_core.train.recipe import read_recipe, recipe_names
from vif_core.train.tune import run_phases
from vif_core.train.tuner import PhaseTrainer
from vif_core.train.watch import Watch, collapse, map_figures
from vif_core.vif.config import VIFConfig
from vif_core.vif.losses import Latent
from vif_core.vlm.tiny import tiny_model

CELLS = torch.tensor([[0.25, 0.25], [0.25, 0.75], [0.75, 0.25], [0.75, 0.75]])


def reading(maps, *, prior_maps=None, means=None):
    maps = torch.tensor(maps)
    zero = torch.zeros(len(maps), 2, 3)
    canvas = SimpleNamespace(points=CELLS.expand(len(maps), 4, 2), covered=torch.ones(len(maps), 4, dtype=torch.bool))
    posterior = None if means is None else Latent(torch.tensor(means), zero)
    prior_maps = None if prior_maps is None else torch.tensor(prior_maps)
    return SimpleNamespace(
        maps=maps, prior_maps=prior_maps, prior=Latent(zero, zero), posterior=posterior, canvas=canvas
    )


UNKNOWN = torch.full((2, 4), torch.nan)
ONE, OTHER = [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]


def test_a_map_that_jumps_between_opposite_cells_spreads_by_a_quarter():
    figures = map_figures([reading([ONE, OTHER])], UNKNOWN)
    assert figures["centre_spread"].item() == pytest.approx(0.25)
    assert figures["map_entropy"].item() == pytest.approx(0.0, abs=1e-6)


def test_one_map_for_all_does_not_spread():
    figures = map_figures([reading([[0.25] * 4, [0.25] * 4])], UNKNOWN)
    assert figures["centre_spread"] == 0
    assert figures["map_entropy"].item() == pytest.approx(torch.tensor(4.0).log().item())


def test_box_lift_is_the_mass_on_the_targets_over_that_of_an_even_map():
    covered = torch.tensor([[1.0, 0.0, 0.0, 0.0], [torch.nan] * 4])
    assert map_figures([reading([ONE, OTHER])], covered)["map_box_lift"] == 4
    assert map_figures([reading([[0.25] * 4, OTHER])], covered)["map_box_lift"] == 1
    outside = torch.zeros(2, 4)
    for unknown in (UNKNOWN, outside):
        assert "map_box_lift" not in map_figures([reading([ONE, OTHER])], unknown)


def test_kl_and_active_dimensions_by_hand():
    means = torch.zeros(2, 2, 3)
    means[:, 0, 0] = 2.0  # KL = mean^2 / 2 = 2 nats in one of six dimensions
    figures = map_figures([reading([ONE, OTHER], means=means.tolist())], UNKNOWN)
    assert (figures["kl_nats"].item(), figures["active_dims"].item()) == (2.0, 1.0)
    assert "kl_nats" not in map_figures([reading([ONE, OTHER])], UNKNOWN)


def test_where_the_posterior_draws_the_prior_s_map_counts():
    still = reading([ONE, OTHER], prior_maps=[ONE, ONE], means=[[[0.0] * 3] * 2] * 2)
    assert map_figures([still], UNKNOWN)["centre_spread"] == 0


def test_pairs_are_averaged_and_no_pairs_tell_nothing():
    both = [reading([ONE, OTHER]), reading([ONE, ONE])]
    assert map_figures(both, UNKNOWN)["centre_spread"].item() == pytest.approx(0.125)
    assert map_figures([], UNKNOWN) == {}


def line(spread=0.2, lift=5.0, **others):
    return {"centre_spread": spread, "map_box_lift": lift, "kl_nats": 1.0, "active_dims": 3.0, **others}


@pytest.mark.parametrize(
    ("history", "cause"),
    [
        ([line()] * 9, ""),
        ([line(spread=0.001)] * 4, ""),
        (
            [line(spread=0.001)] * 5,
            "its centre moves by 0.001 of the picture from turn to turn, KL 1 nats a turn, 3 act",
        ),
        ([line(spread=0.001)] * 9 + [line()] * 5, ""),
        ([line(lift=1.0)] * 5, "its box lift is 1.00, KL 1 nats"),
        ([{"centre_spread": 0.001}] * 5, "its centre moves by 0.001 of the picture from turn to turn"),
        ([line(kl_nats=0.0001)] * 5, ""),
        ([{"loss": 1.0}] * 9, ""),
    ],
    ids=["well", "too few", "still", "recovered", "elsewhere", "no boxes", "KL alone", "no maps"],
)
def test_collapse_is_told_by_numbers(history, cause):
    assert collapse(history).startswith(cause)
    assert bool(collapse(history)) == bool(cause)


def test_the_warning_comes_once_and_not_before_warm_ups_are_over(capsys):
    watch = Watch("focus", settled=30, learned=100)
    state = SimpleNamespace(is_world_process_zero=True, max_steps=100, log_history=[line(spread=0.001)] * 5)
    for step in (10, 29, 30, 40):
        state.global_step = step
        watch.on_log(None, state, None)
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith(
        "vifscope: warning: the map has collapsed in phase focus at step 30: its centre moves by 0.001"
    )


RECIPES = [name for name in recipe_names() if isinstance(read_recipe(name), PhaseRecipe)]

OPENING = {20: (0.0015, 1.08), 40: (0.0017, 1.05), 60: (0.027, 1.14), 80: (0.082, 2.03), 100: (0.143, 5.03)}
"""Centre spread and box lift of a map that was slow to open and ended well (mini-llava-vif, arm early)."""


def opening(step):
    spread, lift = (np.interp(step, list(OPENING), values) for values in zip(*OPENING.values(), strict=True))
    return line(spread=spread, lift=lift)


@pytest.fixture
def warned(monkeypatch, tmp_path, llava_file, capsys):
    """Phases of a recipe that are warned of where log lines are as told, by VIF's steps so far; nothing is trained."""

    def found(recipe, told):
        learned = 0

        def logged(trainer, **_):
            nonlocal learned
            (watch,) = (each for each in trainer.callback_handler.callbacks if isinstance(each, Watch))
            steps, history = trainer.args.max_steps, []
            for step in range(1, steps + 1):
                if step % trainer.args.logging_steps == 0 or step == steps:
                    history.append(told(learned + step))
                    state = {"global_step": step, "max_steps": steps, "log_history": history}
                    watch.on_log(None, SimpleNamespace(is_world_process_zero=True, **state), None)
            learned += steps

        monkeypatch.setattr(PhaseTrainer, "train", logged)
        tiny = VIFConfig(pairs=((0, 1), (1, 2)), slots=4, width=16)
        phases = tuple(replace(phase, decoder_from=None, data=()) for phase in recipe.phases)
        recipe = replace(recipe, vif=tiny, phases=phases).changed(data=str(llava_file))
        tmp_path.joinpath("out").mkdir()
        run_phases(recipe, tmp_path / "out", tiny_model("llava"))
        lines = capsys.readouterr().err.splitlines()
        return [told.split(" in phase ")[1].split()[0] for told in lines if "the map has collapsed" in told]

    return found


def in_steps(recipe, factor=1.0):
    """The recipe at a share of its steps; epochs are as those of the LLaVA-1.5 mix."""
    phases = [replace(phase, steps=round((phase.steps or 1299) * factor), epochs=None) for phase in recipe.phases]
    return replace(recipe, phases=tuple(phases))


@pytest.mark.parametrize("name", RECIPES)
def test_a_collapse_is_told_in_every_phase_of_a_packaged_recipe(warned, name):
    recipe = read_recipe(name)
    phases = [phase.name for phase in recipe.phases if "vif" in phase.train]
    assert warned(in_steps(recipe), lambda _: line(spread=0.001)) == phases


def test_a_collapse_is_told_in_a_short_run_too(warned):
    recipe = in_steps(read_recipe("mini-llava-vif"), 0.4)
    assert warned(recipe, lambda _: line(spread=0.001)) == ["settle", "joint"]


@pytest.mark.parametrize("factor", [0.05, 0.1, 0.2, 0.3, 0.4, 0.42, 0.45, 0.5, 0.6, 0.8, 1.0])
def test_a_map_that_opens_is_not_warned_of_however_short_the_run(warned, factor):
    assert warned(in_steps(read_recipe("mini-llava-vif"), factor), opening) == []
