"""The table of an experiment in a terminal, what is said meanwhile, and the command's options."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from vif_core.errors import UsageError
from vifscope import api
from vifscope.ablation.result import MEASURES
from vifscope.cli.ablation import ablation_view, progress_lines, read_seeds
from vifscope.cli.main import main


def row(mean, difference=None, low=None, high=None, seeds=2):
    ends = {"difference_low": low, "difference_high": high}
    return {"mean": mean, "control_seeds": seeds, "difference": difference} | ends


FOUND = {
    "recipe": "mini-llava-vif",
    "data": "specks-test",
    "samples": {"answers": 8000, "tiny": 4000, "flow": 400, "checks": 500},
    "failed": 0,
    "unfinished": [],
    "arms": [
        {"arm": "vif", "about": "VIF", "seeds": [1, 2]}
        | {measure.name: row(0.95, 0.0123, 0.001, 0.02) for measure in MEASURES}
        | {"centre_spread": row(0.2514), "entropy_uninjected": row(None)}
        | {"kl_nats": row(397.7)}
        | {"accuracy_other": row(0.975, 0.002, -0.1, 0.1), "accuracy_tiny": row(0.95, 0.0123)},
        {"arm": "late", "about": "VIF", "seeds": [1]}
        | {measure.name: row(0.95, 0.0123, 0.001, 0.02, seeds=1) for measure in MEASURES}
        | {"centre_spread": row(0.2514)},
        {"arm": "control", "about": "none", "seeds": [1]} | {measure.name: row(0.5) for measure in MEASURES[:6]},
    ],
}  # fmt: skip


def printed(width: int = 80) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(ablation_view(FOUND))
    return console.export_text()


def test_an_arm_is_its_numbers_and_below_them_the_differences():
    lines = printed().splitlines()
    first, second = (i for i, line in enumerate(lines) if line.startswith(" vif"))
    assert lines[first].split() == ["vif", "95.0", "95.0", "97.5"]
    assert lines[first + 1].split() == ["2", "seeds", "+1.2*", "+1.2", "+0.2"], "a star: an interval that leaves 0 out"
    (late, _) = (i for i, line in enumerate(lines) if line.startswith(" late"))
    assert lines[late + 1].split() == ["1", "seed", "+1.2", "+1.2", "+1.2"], "no star: images alone"
    assert lines[second].split() == ["vif", "0.95", "-", *["0.95"] * 3, "397.7", "0.251"]
    control = [line for line in lines if line.startswith(" control")]
    assert control[1].split() == ["control", "0.50", "0.50", "0.50", "-", "-", "-", "-"], "it has no maps"
    assert max(map(len, lines)) <= 80


def test_what_the_numbers_are_of_is_said():
    words = " ".join(printed().split())
    assert "8000 samples of specks-test; flow and maps of 400." in words
    assert "*: the 95 % interval over seeds and images leaves 0 out" in words


@pytest.mark.parametrize("text", ["", "a", "3-1", "1,,2", "-2", "1-"])
def test_seeds_that_cannot_be_read_are_refused(text):
    with pytest.raises(UsageError, match="expected numbers and ranges, such as 1-5 or 1,3,4"):
        read_seeds(text)


def test_trainings_are_lines_and_what_is_measured_has_bars(capfd):
    with progress_lines() as tell:
        tell("vif, seed 1 (1 of 2): training", 0, 0)
        tell("vif, seed 1: answers", 0, 4)
        tell("vif, seed 1: answers", 4, 4)
        tell("control, seed 1 (2 of 2): training", 0, 0)
    out, err = capfd.readouterr()
    assert out == ""
    assert "vif, seed 1 (1 of 2): training\n" in err
    assert "4/4" in err
    assert err.index("4/4") < err.index("control, seed 1 (2 of 2): training")


@dataclass
class Stub:
    """Stands in for an Ablation."""

    experiment: SimpleNamespace
    found: dict
    errors: dict

    def summary_dict(self):
        return self.found


@pytest.fixture
def command(monkeypatch, capfd):
    """Runs vifscope ablate with these arguments: (exit code, stdout, stderr, what was asked for)."""

    def run(*arguments, found=FOUND, errors=()):
        asked = {}

        def ablate(recipe, out, **options):
            asked.update({"recipe": recipe, "out": out} | options)
            print("a library prints")
            return Stub(SimpleNamespace(path=Path("runs/x")), found, dict(errors))

        monkeypatch.setattr(api, "ablate", ablate)
        monkeypatch.setattr(sys, "argv", ["vifscope", "ablate", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
        return int(stopped.value.code or 0), *capfd.readouterr(), asked

    return run


def test_options_reach_the_experiment(command):
    code, out, _, asked = command("--budget", "10", "--arms", "vif, control", "--seeds", "1-2,5", "--n-eval", "8000")
    assert code == 0
    assert asked["recipe"] == "mini-llava-vif"
    assert (asked["budget_minutes"], asked["arms"], asked["seeds"]) == (10.0, ["vif", "control"], [1, 2, 5])
    assert asked["n_eval"] == 8000
    assert "ablation.md" in out
    assert "runs/x" in out


def test_help_says_whose_steps_a_budget_is_timed_with(command):
    _, out, _, _ = command("--help")
    words = " ".join(out.replace("│", " ").split())
    assert "timed with VIF as the recipe has it: arms with more layer pairs take longer" in words


def test_json_is_the_only_thing_on_stdout(command):
    code, out, err, _ = command("--steps", "4", "--json")
    assert code == 0
    assert json.loads(out) == FOUND
    assert "a library prints" in err


@pytest.mark.parametrize("options", [(), ("--json",)], ids=["table", "json"])
def test_arms_that_are_not_in_the_table_are_named_on_stderr(command, options):
    left = {"arms": ["control", "late"], "seeds": [1, 2], "command": "vifscope ablate --arms control,late"}
    code, out, err, _ = command(*options, found=FOUND | {"unfinished": [left]})
    assert code == 0
    line = (
        "vifscope: not in the table: control, late (seeds 1, 2), of which not all of these samples are measured. "
        "To complete: vifscope ablate --arms control,late\n"
    )
    assert line in err
    assert line not in out


@pytest.mark.parametrize("options", [(), ("--json",)], ids=["table", "json"])
def test_samples_that_failed_are_counted_and_exit_code_3(command, options):
    code, out, err, _ = command(*options, errors={"s1": "RuntimeError: too long", "s2": "no grid"})
    assert code == 3
    assert "vifscope: 2 of 8000 samples failed; the first: RuntimeError: too long\n" in err
    assert out


def test_wrong_seeds_are_one_line_and_exit_code_2(command):
    code, out, err, asked = command("--seeds", "many")
    assert (code, out, asked) == (2, "", {})
    assert err.startswith("vifscope: --seeds is 'many'; expected numbers and ranges")
