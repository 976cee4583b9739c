"""The card states what was measured, gains and losses alike, and whether each aim was met."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
import yaml

from vif_core.errors import UsageError
from vifscope.ablation import Ablation, Experiment
from vifscope.ablation.card import _by_seed, _training, write_vif_card
from vifscope.ablation.experiment import ANSWERS


@pytest.fixture(scope="module")
def card(written, trainer, tmp_path_factory):
    """The card of the written experiment, with notes, beside the weights of its first seed."""
    folder = tmp_path_factory.mktemp("copy") / "experiment"
    shutil.copytree(written.path, folder)
    experiment = Experiment.open(folder)
    for arm in ("vif", "control"):
        trainer(experiment.recipe_file(arm), experiment.training(arm, 1), seed=1)
    (folder / "notes.md").write_text("The guide mattered.")
    readme = write_vif_card(folder)
    assert readme == folder / "vif" / "seed-1" / "trial" / "README.md"
    return readme.read_text(), json.loads((readme.parent / "card.json").read_text())


def test_gains_and_losses_are_told_by_kind_and_size(card):
    text, figures = card
    rows = {row["name"]: row for row in figures["accuracy"]}
    assert {"all", "tiny objects", "other", "large", "place", "shape"} <= rows.keys()
    assert rows["tiny objects"]["difference"]["mean"] == pytest.approx(
        rows["tiny objects"]["vif"] - rows["tiny objects"]["control"]
    )
    assert f"| tiny objects | 4 | {rows['tiny objects']['control']:.3f} |" in text
    assert sum(row["n"] for row in figures["accuracy"] if row["group"] == "kind") == 8


def test_entropy_stands_beside_the_papers_figure(card):
    text, figures = card
    assert "-50.0 [-50.0, -50.0] %. The paper: 5.3561 and\n3.2335, -39.6 %" in text
    assert "Uninjected deep layers: " in text
    assert [row["layer"] for row in figures["layers"] if row["injected"]] == [12, 13, 14]


def test_the_ratio_of_injected_layers_is_no_finding(card):
    text, _ = card
    assert "at least the injection strength by construction" in text
    assert "| 0.30 | (0.60) |" in text
    aims = text.split("## What was aimed at")[1].split("##")[0]
    assert "ratio" not in aims.replace("another sample's maps: ratio", "")


def test_each_aim_is_met_or_not_as_the_numbers_say(card):
    _, figures = card
    met = {re.sub(r"[^a-z ]", "", aim["target"]): aim["met"] for aim in figures["targets"]}
    assert met["entropy of the injected layers at least   lower"]
    assert met["no clear loss on other questions"]
    assert met["box lift of the map at least "]
    assert met["box lift of the injected layers above the controls"]
    assert met["with another samples maps box lift lower"]
    assert met["with another samples maps ratio within   of what it was"]
    assert met["arm swapped no clear gain on tiny objects"]
    assert not met["more right answers on tiny objects"], "one in four, with an interval from 0"


def test_other_maps_are_told_against_the_models_own(card):
    text, figures = card
    accuracy = figures["checks"]["accuracy"]
    assert list(accuracy) == ["its own", "one draw of the prior", "the posterior's mean", "another sample's"]
    assert accuracy["another sample's"]["tiny"]["other"] == 0
    assert accuracy["another sample's"]["other"]["difference"]["mean"] == 0
    assert accuracy["the posterior's mean"]["tiny"]["other"] == 1
    assert figures["checks"]["flow"]["box_lift"]["percent"]["mean"] == pytest.approx(-100 * 5 / 6)
    assert "| box lift | 6.00 | 1.00 | -83.3 [-83.3, -83.3] % |" in text


def test_a_number_has_one_interval_wherever_it_stands(card):
    _, figures = card
    rows = {row["name"]: row["difference"] for row in figures["accuracy"]}
    for name, measure in (("all", "accuracy"), ("tiny objects", "accuracy_tiny"), ("other", "accuracy_other")):
        found = figures["arms"]["vif"][measure]
        told = [found[f"difference{end}"] for end in ("", "_low", "_high")]
        assert list(rows[name].values()) == pytest.approx(told, abs=1e-12)


def test_maps_controls_notes_and_training_are_there(card):
    text, figures = card
    assert "Box lift of the map in use (the prior's mean): 6.00 [6.00, 6.00]" in text
    assert "KL between posterior and prior: 2.00 [2.00, 2.00] nats" in text
    assert "without VIF (and so without the phases that train VIF alone: focus)" in text
    assert "| swapped | 3 | " in text, "its seeds"
    assert "| constant | 3 | " in text
    assert "## What was tried, and what mattered\n\nThe guide mattered.\n" in text
    assert "| joint | vif, decoder | 4 | 2 | vif 0.001, decoder 0.001 |" in text
    assert figures["training"]["minutes"]["vif"] == {"focus": [1.5], "joint": [1.5]}
    assert figures["shipped_seed"] == 1
    assert figures["model"]["parameters"] > 0
    assert "None" not in text
    assert "nan" not in text.lower().replace("finan", "")


def test_a_sample_that_failed_counts_for_no_group_of_its_seed(written, tmp_path):
    folder = tmp_path / "experiment"
    shutil.copytree(written.path, folder)
    path = Experiment.open(folder).measured("control", 1, ANSWERS)
    first, failed, *others = path.read_text().splitlines()
    known = {"sample_id": json.loads(failed)["sample_id"], "error": "RuntimeError: too long"}
    path.write_text("\n".join([first, json.dumps(known), *others, ""]))
    ablation = Ablation(Experiment.open(folder))
    (row,) = _by_seed(ablation, [1])
    right = ablation.correct("control", [1])[0]
    assert np.isnan(right).tolist() == [True] + [False] * 7
    assert row["control_tiny"] == right[1:4].mean()
    assert row["control_other"] == right[4:].mean()


@pytest.mark.parametrize("name", ["typo.md", "folder", "latin.md"])
def test_notes_that_cannot_be_read_are_said_before_anything_is_worked_out(written, tmp_path, monkeypatch, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "latin.md").write_bytes(b"caf\xe9")
    monkeypatch.setattr("vifscope.ablation.card.card_figures", lambda _: pytest.fail("figures were worked out"))
    with pytest.raises(UsageError, match=rf"notes .*{name} cannot be read \(.*\); expected a Markdown file .* --notes"):
        write_vif_card(written.path, tmp_path / name)


def test_processes_are_those_that_the_training_recorded(written, tmp_path):
    folder = tmp_path / "experiment"
    shutil.copytree(written.path, folder)
    experiment = Experiment.open(folder)
    assert _training(experiment, {"vif": [1], "control": [1]})["processes"] == 1
    recorded = yaml.safe_load(experiment.recipe_file("vif").read_text()) | {"processes": 4}
    (experiment.training("vif", 1) / "recipe.yaml").write_text(yaml.safe_dump(recorded))
    assert _training(experiment, {"vif": [1], "control": [1]})["processes"] == 4


def test_a_card_needs_vif_and_its_control(written, tmp_path):
    folder = tmp_path / "experiment"
    shutil.copytree(written.path, folder)
    shutil.rmtree(folder / "control")
    with pytest.raises(UsageError, match="has no finished control; expected both"):
        write_vif_card(folder)
    with pytest.raises(UsageError, match="holds no experiment"):
        write_vif_card(tmp_path)
