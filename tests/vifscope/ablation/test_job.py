"""An experiment trains and measures each arm and seed once, and goes on where it stopped."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from vif_core.errors import SampleError, UsageError, VifError
from vif_core.train.recipe import read_recipe
from vifscope.ablation import Ablation, Experiment, Numbers, ablate, job, measures
from vifscope.ablation.card import write_vif_card
from vifscope.ablation.experiment import ANSWERS, FLOW, SWAPPED
from vifscope.ablation.result import SPREAD
from vifscope.cli.main import main


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


def test_arms_that_lack_added_samples_are_named_with_the_command_that_completes_them(again, experiment, monkeypatch):
    found, _, _ = again(experiment, arms=("vif",), numbers=Numbers(10, 6, 4))
    (left,) = found.summary_dict()["unfinished"]
    assert (left["arms"], left["seeds"]) == (["control", "swapped"], [1, 2])
    text = (experiment / "ablation.md").read_text()
    assert "Not in the table: control, swapped (seeds 1, 2), of which not all of these samples are measured." in text
    assert f"To complete: `{left['command']}`" in text
    monkeypatch.setattr(sys, "argv", shlex.split(left["command"]))
    with pytest.raises(SystemExit) as stopped:
        main()
    assert not stopped.value.code
    done = Ablation(Experiment.open(experiment))
    assert done.seeds == {"vif": [1, 2], "control": [1, 2], "swapped": [1, 2]}
    assert done.unfinished == {}
    assert "Not in the table" not in (experiment / "ablation.md").read_text()


def test_arms_of_other_seeds_are_completed_by_another_command(again, experiment):
    for part in ("answers", "flow"):
        (experiment / f"control/seed-2/measured/{part}.jsonl").unlink()
    for name in ("swapped/seed-1", "swapped/seed-2", "control/seed-1"):
        (experiment / name / "measured/flow.jsonl").unlink()
    left = Ablation(Experiment.open(experiment)).summary_dict()["unfinished"]
    assert [(each["arms"], each["seeds"]) for each in left] == [(["control"], [1]), (["swapped"], [1, 2])]


@pytest.mark.parametrize(("field", "value"), [("recipe", "0123456789ab"), ("data", "otherdata")])
def test_what_was_measured_of_another_recipe_or_other_data_is_refused(again, experiment, field, value):
    path = experiment / "control/seed-2/measured/answers.jsonl"
    first, *others = path.read_text().splitlines()
    stored = json.loads(first)["configuration"] | {field: value}
    path.write_text("\n".join([json.dumps({"configuration": stored}), *others, ""]))
    line = rf'answers\.jsonl has another configuration: {field} is "{value}", not ".*; expected the same .* delete this'
    opened = Experiment.open(experiment)
    with pytest.raises(UsageError, match=line):
        opened.lacking("control", 2)
    with pytest.raises(UsageError, match=line):
        again(experiment, arms=("constant",), seeds=(1,))
    assert not (experiment / "constant").exists(), "before anything is trained"
    path.unlink()
    assert opened.lacking("control", 2) == [ANSWERS]


def test_what_is_no_seed_in_an_arms_folder_is_passed_over(again, experiment):
    shutil.copytree(experiment / "vif/seed-1", experiment / "vif/seed-1-old")
    shutil.copytree(experiment / "vif/seed-1", experiment / "vif/seed-01")
    found, trained, _ = again(experiment)
    assert trained == []
    assert found.seeds["vif"] == [1, 2]


def refusing(monkeypatch, sample_id: str, error: Exception, what: str = "answer_rows"):
    """From here on the model refuses a batch with this sample; gives a list of the batches that it was shown."""
    measured, shown = getattr(measures, what), []

    def rows(vlm, samples):
        shown.append([sample.sample_id for sample in samples])
        if sample_id in shown[-1]:
            raise error
        return measured(vlm, samples)

    monkeypatch.setattr(measures, what, rows)
    return shown


def test_a_sample_that_a_model_refuses_is_recorded_and_costs_no_other(again, experiment, monkeypatch):
    whole = Ablation(Experiment.open(experiment))
    shutil.rmtree(experiment / "control/seed-1/measured")
    lost = whole.experiment.chosen(FLOW)[0]
    for what in ("answer_rows", "flow_rows"):
        refusing(monkeypatch, lost.sample_id, RuntimeError("too long\nby far"), what)
    found, trained, _ = again(experiment)
    assert trained == []
    failed = [row for row in lines(experiment, "control", 1, "answers") if row["error"]]
    assert [(row["sample_id"], row["error"]) for row in failed] == [(lost.sample_id, "RuntimeError: too long")]
    assert found.errors == {lost.sample_id: "RuntimeError: too long"}
    assert found.summary_dict()["failed"] == 1
    assert "Samples that failed in some arm, and are left out there: 1." in (experiment / "ablation.md").read_text()
    right, before = (each.correct("control", [1, 2]) for each in (found, whole))
    assert np.isnan(right).sum() == 1
    assert np.isnan(right[0, 0])
    assert np.array_equal(right[1], before[1])
    for metric in ("visual_entropy", "box_lift"):
        flow, known = (each.layers("control", [1], metric)[0] for each in (found, whole))
        assert np.isnan(flow[0]).all()
        assert np.allclose(flow[1:], known[1:], equal_nan=True, rtol=1e-4)


def test_a_sample_that_failed_in_one_arm_is_no_pair(again, experiment, monkeypatch):
    shutil.rmtree(experiment / "control/seed-1/measured")
    lost = Experiment.open(experiment).chosen(ANSWERS)[0].sample_id
    refusing(monkeypatch, lost, RuntimeError("too long"))
    found, _, _ = again(experiment, seeds=(1,))
    vif, control = (found.correct(arm, [1, 2]) for arm in ("vif", "control"))
    row = found.frame().set_index(["arm", "measure"]).loc["vif", "accuracy"]
    assert row["difference"] == pytest.approx(np.nanmean(vif - control))
    assert row["mean"] == vif.mean()


def test_maps_of_a_sample_that_failed_have_no_value(again, experiment, monkeypatch):
    whole = Ablation(Experiment.open(experiment))
    (experiment / "vif/seed-1/measured/maps.jsonl").unlink()
    lost = whole.experiment.chosen(FLOW)[0].sample_id
    refusing(monkeypatch, lost, RuntimeError("too long"), "map_rows")
    found, _, _ = again(experiment)
    for name in ("map_box_lift", "kl_nats"):
        values, before = (each.of_maps("vif", [1, 2], name) for each in (found, whole))
        assert np.isnan(values).sum() == 1
        assert np.allclose(values[0, 1:], before[0, 1:], rtol=1e-4)
    row = found.frame().set_index(["arm", "measure"]).loc["vif", SPREAD]
    assert (row["n"], np.isfinite(row["mean"])) == (6, True), "it has maps with the other seed"


def test_other_samples_of_a_failed_one_are_still_asked_with_swapped_maps(again, experiment, monkeypatch):
    shutil.rmtree(experiment / "swapped/seed-1/measured")
    lost = Experiment.open(experiment).chosen(ANSWERS)[0].sample_id
    shown = refusing(monkeypatch, lost, SampleError("too long"))
    found, _, _ = again(experiment)
    assert min(map(len, shown)) >= 2, "nobody is asked alone"
    failed = {row["sample_id"] for row in lines(experiment, "swapped", 1, "answers") if row["error"]}
    assert lost in failed
    assert len(failed) <= 3
    assert np.isfinite(found.correct("swapped", [1])).sum() == 8 - len(failed)


def test_failed_samples_are_tried_again_while_the_model_is_there(again, experiment, monkeypatch):
    path = experiment / "control/seed-1/measured/answers.jsonl"
    path.unlink()
    with monkeypatch.context() as patch:
        lost = Experiment.open(experiment).chosen(ANSWERS)[0].sample_id
        refusing(patch, lost, RuntimeError("busy"))
        again(experiment)
        shutil.copytree(experiment, experiment.with_name("without"))
        shutil.rmtree(Experiment.open(experiment.with_name("without")).model("control", 1))
        found, trained, measured = again(experiment.with_name("without"))
        assert (trained, measured, len(found.errors)) == ([], [], 1), "no arm is trained anew for a sample that failed"
    before = lines(experiment, "control", 1, "answers")
    found, trained, _ = again(experiment)
    assert (trained, found.errors) == ([], {})
    added = lines(experiment, "control", 1, "answers")[len(before) :]
    assert [row["sample_id"] for row in added] == [lost], "the others keep their records"


def test_a_model_that_refuses_every_sample_ends_with_the_first_reason(again, experiment, monkeypatch):
    (experiment / "control/seed-1/measured/answers.jsonl").unlink()

    def refuse(*_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(measures, "answer_rows", refuse)
    line = "control, seed 1, answers: none of the 8 samples could be measured; the first: RuntimeError: out of memory"
    for _ in range(2):  # nor is it taken for measured by the next call
        with pytest.raises(VifError, match=line):
            again(experiment)


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


SETTLING = """
import sys
from vifscope.ablation import Numbers, ablate, job

def within(recipe, *_):
    print("settling", flush=True)
    sys.stdin.readline()
    return job.scaled(recipe, 3)

def train(*_, **__):
    sys.exit()

job._within, job.train = within, train
recipe, folder, data = sys.argv[1:]
ablate(recipe, folder, budget_minutes=2.0, arms=("vif",), seeds=(1,), numbers=Numbers(8, 6, 4), data=data)
"""
"""Begins an experiment, waits for a line before it settles on three steps, and ends instead of training."""


def test_two_commands_that_begin_one_experiment_share_its_budgets_steps(
    tmp_path, recipe_file, data, monkeypatch, trainer
):
    command = [sys.executable, "-c", SETTLING, recipe_file, tmp_path / "new", data]
    told = []

    def tell(stage, *_):
        told.append(stage)
        if stage.startswith("waiting"):
            assert not (tmp_path / "new" / "experiment.json").exists()
            other.stdin.write("\n")
            other.stdin.flush()

    monkeypatch.setattr(job, "_within", lambda recipe, *_: job.scaled(recipe, 12))
    monkeypatch.setattr(job, "train", trainer)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "settling\n"
        found = ablate(
            recipe_file, tmp_path / "new", budget_minutes=2.0, arms=("control",), seeds=(1,),
            numbers=Numbers(8, 6, 4), data=str(data), progress=tell,
        )  # fmt: skip
    assert other.returncode == 0
    assert told[0] == f"waiting for another process to begin or to tabulate {tmp_path / 'new'}"
    assert [phase.steps for phase in found.experiment.recipe.phases] == [1, 2]
    assert Experiment.open(tmp_path / "new").recipe == found.experiment.recipe


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
