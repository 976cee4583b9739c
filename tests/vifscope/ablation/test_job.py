"""An experiment trains and measures each arm and seed once, and goes on where it stopped."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from vif_core.errors import UsageError
from vif_core.train.recipe import read_recipe
from vifscope.ablation import Ablation, Experiment, Numbers, ablate, job
from vifscope.ablation.card import write_vif_card
from vifscope.ablation.experiment import ANSWERS, SWAPPED


@pytest.fixture
def experiment(ablation, tmp_path) -> Path:
    """The finished experiment, to change."""
    folder = tmp_path / "experiment"
    shutil.copytree(ablation.experiment.path, folder)
    return folder


@pytest.fixture
def again(monkeypatch, trainer, recipe_file, data):
    """Runs the experiment in a folder once more, with other options: (Ablation, what was trained, parts measured)."""

    def run(folder: Path, **options):
        trained, measured = len(trainer.trained), []
        monkeypatch.setattr(job, "train", trainer)
        asked = {"arms": ("vif", "control", "swapped"), "seeds": (1, 2), "numbers": Numbers(8, 6, 4), "data": str(data)}

        def tell(stage, done, total):
            if total and ":" in stage and done < total:
                measured.append((stage, done))

        found = ablate(options.pop("recipe", recipe_file), folder, **(asked | options), progress=tell)
        return found, trainer.trained[trained:], measured

    return run


def lines(experiment: Path, arm: str, seed: int, part: str) -> list[dict]:
    path = experiment / arm / f"seed-{seed}" / "measured" / f"{part}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()[1:]]


def test_every_arm_and_seed_is_measured_and_the_table_written(ablation):
    assert ablation.seeds == {"vif": [1, 2], "control": [1, 2], "swapped": [1, 2]}
    parts = {arm: [part.name for part in ablation.experiment.parts(arm)] for arm in ablation.seeds}
    assert parts["control"] == ["answers", "flow"]
    assert parts["swapped"] == ["answers", "flow", "maps"]
    assert set(parts["vif"]) > {"answers-draw", "answers-posterior", "answers-swapped", "flow-swapped"}
    assert (ablation.experiment.path / "ablation.md").exists()
    assert ablation.num_layers == 3


def test_all_arms_are_asked_the_same_questions(ablation):
    ids = {tuple(ablation.rows(arm, seed, ANSWERS).index) for arm, seeds in ablation.seeds.items() for seed in seeds}
    assert len(ids) == 1
    assert len(ids.pop()) == 8


def test_half_of_the_questions_are_about_tiny_objects(ablation):
    assert ablation.tiny(ANSWERS).tolist() == [True] * 4 + [False] * 4


def test_the_swapped_arm_is_measured_with_swapped_maps(ablation):
    own, swapped = (ablation.of_maps(arm, [1], "map_box_lift") for arm in ("vif", "swapped"))
    assert (own != swapped).all(), "the stand-in for training gives both the same weights"
    entropies = (ablation.of_maps(arm, [1], "kl_nats") for arm in ("vif", "swapped"))
    assert next(entropies) == pytest.approx(next(entropies), rel=0.05)


def test_a_finished_experiment_is_not_done_again(again, experiment):
    before = (experiment / "vif/seed-1/measured/answers.jsonl").read_bytes()
    found, trained, measured = again(experiment)
    assert (trained, measured) == ([], [])
    assert (experiment / "vif/seed-1/measured/answers.jsonl").read_bytes() == before
    assert found.frame().equals(Ablation(Experiment.open(experiment)).frame())


def test_what_was_measured_outlives_the_weights(again, experiment):
    table = Ablation(Experiment.open(experiment)).frame()
    models = [Experiment.open(experiment).model(arm, seed) for arm in ("vif", "control", "swapped") for seed in (1, 2)]
    for model in models:
        shutil.rmtree(model)
    found, trained, measured = again(experiment)
    assert (trained, measured) == ([], [])
    assert found.frame().equals(table)


def test_what_is_missing_is_trained_and_measured(again, experiment):
    shutil.rmtree(experiment / "control" / "seed-2")
    answers = experiment / "vif/seed-1/measured/answers.jsonl"
    kept = answers.read_text().splitlines(keepends=True)
    answers.write_text("".join(kept[:4]) + kept[4][:20])  # killed within a line
    found, trained, measured = again(experiment)
    assert trained == [("trial-control", 2)]
    assert {stage for stage, _ in measured} == {
        "vif, seed 1: answers",
        "control, seed 2: answers",
        "control, seed 2: flow",
    }
    assert sorted({row["sample_id"] for row in lines(experiment, "vif", 1, "answers")}) == sorted(
        each.sample_id for each in found.experiment.chosen(ANSWERS)
    )


def test_an_arm_a_seed_and_samples_can_be_added(again, experiment):
    _, trained, _ = again(experiment, arms=("constant",), seeds=(1,))
    assert trained == [("trial-constant", 1)]
    found, trained, _ = again(experiment, arms=("control",), seeds=(3,), numbers=Numbers(10, 6, 4))
    assert trained == [("trial-control", 3)]
    assert found.seeds == {"control": [3]}, "the others lack the added samples"
    found, trained, measured = again(experiment, numbers=Numbers(10, 6, 4))
    assert trained == []
    assert found.seeds == {"vif": [1, 2], "control": [1, 2, 3], "swapped": [1, 2]}
    assert {stage.split(": ")[1] for stage, _ in measured} == {"answers"}


def test_arms_are_paired_by_seed(ablation):
    for arm in ("vif", "control"):
        assert (ablation.experiment.path / arm / "arm.yaml").exists()
    recipes = [read_recipe(ablation.experiment.path / arm / "arm.yaml") for arm in ("vif", "control", "swapped")]
    assert len({recipe.seed for recipe in recipes}) == 1
    assert len({recipe.phases[-1].steps for recipe in recipes}) == 1


def test_another_experiment_in_the_folder_is_refused(again, experiment):
    with pytest.raises(UsageError, match="holds another experiment: steps is null, not 6; expected the recipe, budget"):
        again(experiment, steps=6)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"arms": ("vif", "nope")}, "there is no arm 'nope'"),
        ({"steps": 5, "budget_minutes": 1.0}, "both a budget and steps are given"),
        ({"budget_minutes": 0.0}, "the budget is 0.0 minutes; expected more than 0"),
        ({"recipe": "mini-llava"}, "recipe mini-llava has stages"),
        ({"data": None}, "whose test split is not known; expected what to ask the trained models about"),
        ({"numbers": Numbers(12, 6, 4)}, "12 samples of 10 with an answer and a picture"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_cannot_be_asked_for_is_said_before_anything_is_trained(again, tmp_path, options, line):
    with pytest.raises(UsageError, match=line.replace("(", "\\(")):
        again(tmp_path / "new", **options)


def test_steps_are_those_of_a_training_over_its_phases(again, tmp_path):
    found, _, _ = again(tmp_path / "new", steps=12, arms=("control",), seeds=(1,))
    assert [phase.steps for phase in found.experiment.recipe.phases] == [4, 8]


def test_a_budget_becomes_steps_by_the_time_that_each_phase_takes(recipe_file):
    recipe = read_recipe(recipe_file)  # 2 and 4 steps
    fitting = job._fitting(recipe, [1.0, 4.0], seconds=100.0, start=10.0)
    assert [phase.steps for phase in fitting.phases] == [10, 20]  # 10 + 10 x 1 + 20 x 4 = 100
    with pytest.raises(
        UsageError, match=r"besides its steps, and 3\.0 s a step, within 12 s; expected time for a step"
    ):
        job._fitting(recipe, [1.0, 4.0], seconds=12.0, start=10.0)


def test_a_budget_is_measured_once_and_kept(again, tmp_path, monkeypatch, trainer):
    asked = []

    def within(recipe, minutes, *_):
        asked.append(minutes)
        return job.scaled(recipe, 3)

    monkeypatch.setattr(job, "_within", within)
    options = {"budget_minutes": 2.0, "arms": ("control",), "seeds": (1,)}
    first, _, _ = again(tmp_path / "new", **options)
    second, _, _ = again(tmp_path / "new", **options)
    assert asked == [2.0]
    assert first.experiment.recipe == second.experiment.recipe
    assert [phase.steps for phase in second.experiment.recipe.phases] == [1, 2]


def test_swapping_at_test_asks_fewer_samples_again(ablation):
    asked = ablation.experiment.chosen(SWAPPED)
    assert len(asked) == 4
    assert {each.sample_id for each in asked} < {each.sample_id for each in ablation.experiment.chosen(ANSWERS)}


@pytest.mark.slow
def test_a_budget_is_tried_out_in_earnest_and_about_kept(tmp_path, recipe_file, data):
    stages = []
    asked = {"budget_minutes": 1.0, "arms": ("vif",), "seeds": (1,), "numbers": Numbers(4, 2, 2), "data": str(data)}
    found = ablate(recipe_file, tmp_path / "run", **asked, progress=lambda stage, *_: stages.append(stage))
    assert stages[0] == "a trial of a few steps, for the time of each"
    assert not (tmp_path / "run" / "trial").exists()
    focus, joint = (phase.steps for phase in found.experiment.recipe.phases)
    assert focus + joint > 2 * 10, "more than the trial's own"
    assert joint == pytest.approx(2 * focus, abs=2)
    lines = map(json.loads, (tmp_path / "run/vif/seed-1/learning.jsonl").read_text().splitlines())
    spent = {line["phase"]: line["seconds"] for line in lines}
    print(f"{focus} and {joint} steps in {spent} s")
    assert sum(spent.values()) < 2 * 60


@pytest.mark.slow
def test_two_arms_are_trained_in_earnest_and_measured_in_two_processes(tmp_path, recipe_file, data):
    values = yaml.safe_load(recipe_file.read_text())
    recipe = tmp_path / "real.yaml"
    recipe.write_text(yaml.safe_dump(values))
    found = ablate(
        recipe, tmp_path / "run", steps=2, arms=("vif", "control"), seeds=(1,), numbers=Numbers(8, 4, 4),
        data=str(data), processes=2,
    )  # fmt: skip
    assert found.seeds == {"vif": [1], "control": [1]}
    rows = found.frame().set_index(["arm", "measure"])
    assert rows.loc["vif", "box_lift_injected"]["mean"] > 0
    assert rows.loc["vif", "entropy_injected"]["control"] > 0
    assert "| more right answers on tiny objects |" in write_vif_card(tmp_path / "run").read_text()
