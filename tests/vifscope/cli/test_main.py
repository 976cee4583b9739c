"""The command prints what was asked for, says in one line what went wrong, and returns the exit code for it."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import vif_core.load
from vif_core.vlm.tiny import tiny_model, tiny_videos
from vifscope import measure, pipeline
from vifscope.api import Run
from vifscope.figures.frames import video_frame
from vifscope.runs import RunStore, disk

ROOT = Path(__file__).parents[3]


def write_listing(folder: Path, rows: list[dict]) -> None:
    (folder / "samples.jsonl").write_text("\n".join(json.dumps(row) for row in rows))


def listed(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]


@pytest.fixture
def analyze(command, model, data, tmp_path):
    """vifscope analyze on the tiny model and the three pictures, without figures."""

    def run(*arguments: object, n: int = 3) -> tuple[int, str, str]:
        options = {"--model": model, "--data": data, "--n": n, "--out": tmp_path / "run", "--max-new-tokens": 3}
        given = [part for option, value in options.items() if option not in arguments for part in (option, value)]
        return command("analyze", *given, "--no-figures", *arguments)

    return run


def test_a_summary_and_the_run_are_printed_on_stdout_and_progress_on_stderr(analyze, tmp_path):
    code, out, err = analyze()
    assert code == 0
    assert "attenuation index" in " ".join(out.split())
    assert str(tmp_path / "run") in out
    assert "Measuring samples" in err
    assert "3/3" in err


def test_json_is_the_only_thing_on_stdout(analyze, monkeypatch):
    captured = measure.capture

    def chatty(*args):
        print("a library prints")
        os.write(1, b"and so does one in C\n")
        return captured(*args)

    monkeypatch.setattr(measure, "capture", chatty)
    code, out, err = analyze("--json")
    summary = json.loads(out)
    assert (code, summary["n"], summary["failed"]) == (0, 3, 0)
    assert len(summary["layers"]) == 3
    assert "a library prints" in err
    assert "and so does one in C" in err


def test_summary_prints_the_same_again(analyze, command, tmp_path):
    _, printed, _ = analyze()
    assert command("summary", tmp_path / "run") == (0, printed, "")
    _, out, _ = command("summary", tmp_path / "run", "--json")
    assert json.loads(out)["n"] == 3


def test_families_are_listed_with_what_was_proved(command):
    code, out, _ = command("models")
    assert code == 0
    assert "64 families proved" in out
    assert "qwen2_5_vl" in out
    assert "vifscope check MODEL" in out
    code, out, _ = command("models", "--json")
    listed = {family["name"]: family for family in json.loads(out)["families"]}
    assert (listed["llava"]["map"], listed["llava"]["vif"]) == ("image", "trains")
    assert listed["t5gemma2"]["rows"] == "refused"


def test_summary_needs_no_torch(analyze, tmp_path):
    analyze()
    code = (
        "import sys; from vifscope.cli.main import main\n"
        f"sys.argv = ['vifscope', 'summary', {str(tmp_path / 'run')!r}]\n"
        "try: main()\nfinally: print('torch' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr.strip()) == (0, "False")


def test_figures_and_page_are_named_at_the_end(analyze, tmp_path):
    code, out, _ = analyze("--figures")
    assert code == 0
    for file in ("figures/attenuation.png", "figures/attenuation.pdf", "index.html"):
        assert file in out
        assert (tmp_path / "run" / file).exists()


@pytest.mark.parametrize("name", ["[vif]", "[/x]", ":smile:"])
def test_a_folder_is_named_as_it_is(analyze, command, data, model, tmp_path, name):
    code, out, _ = analyze("--out", tmp_path / name)
    assert (code, f"{tmp_path / name}\n" in out) == (0, True)
    answers = tmp_path / name / "answers.jsonl"
    code, out, _ = command("eval", "--model", model, "--data", data, "--out", answers)
    assert (code, f"{answers}\n" in out) == (0, True)


def test_figures_of_fewer_samples_are_not_named_as_those_of_a_run_that_grew(analyze, tmp_path):
    _, out, _ = analyze("--figures", "--json", n=2)
    assert "index.html" in json.loads(out)["files"]
    assert json.loads(analyze("--json", n=2)[1])["files"] == json.loads(out)["files"]
    assert json.loads(analyze("--json")[1])["files"] == []
    assert "summary.csv" in json.loads(analyze("--figures", "--json")[1])["files"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["training", "--recipe", "r", "--blind", "b", "--vif", "x"], "TRAINING and --recipe and --blind say nothing"),
        (["--blind", "b", "--vif", "x"], "--blind says nothing with --vif; expected --vif with --notes alone, or"),
        (["training", "--notes", "n.md"], "--notes says nothing without --vif; expected"),
    ],
)
def test_options_of_the_other_card_are_refused(command, arguments, line):
    code, out, err = command("card", *arguments)
    assert (code, out) == (2, "")
    assert line in err


def test_a_failed_sample_is_recorded_and_the_exit_code_is_3(analyze, data, tmp_path):
    rows = listed(data)
    write_listing(data, [{**rows[0], "image": "gone.png"}, {**rows[1], "question": ""}, rows[2]])
    code, _, err = analyze()
    assert code == 3
    assert "vifscope: 2 of 3 samples failed; the first: sample 00000" in err
    errors = RunStore.open(tmp_path / "run").samples().set_index("sample_id")["error"]
    assert "gone.png does not exist; expected a picture" in errors["000000"]
    assert "000001 has an empty question; expected some text" in errors["000001"]


def test_a_broken_image_is_recorded(analyze, data):
    (data / "red.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    code, _, err = analyze()
    assert code == 3
    assert "red.png cannot be read" in err


def test_a_grid_and_token_count_that_disagree_are_told_before_a_run_begins(analyze, model, tmp_path, monkeypatch):
    vlm = vif_core.load.load(model)
    vlm.processor.num_additional_image_tokens = 5  # the processor now writes more image tokens than the grid has cells
    monkeypatch.setattr(pipeline, "load", lambda *_, **__: vlm)
    code, _, err = analyze()
    assert code == 1
    assert "vifscope: grid 4x4 has 16 cells but the prompt holds 20 visual tokens; expected equal counts" in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--n", "4"], "n is 4, but mine has 3 samples; expected a number from 1 to 3. Use --n 3 for all of them."),
        (["--n", "0"], "n is 0, but mine has 3 samples"),
        (["--data", "nowhere"], "there is no data at nowhere; expected"),
        (["--data", "specks:nope"], "specks has no split 'nope'"),
        (["--model", "nothing"], "model 'nothing' is no folder, no embedded model and no model id"),
        (["--batch-size", "0"], "--batch-size is '0'; expected \"auto\" or a number from 1 on."),
        (["--max-rows", "0"], "max_rows is 0; expected at least 1."),
        (["--device", "abacus"], "device 'abacus' cannot be used"),
        (["--dtype", "int3"], "dtype 'int3'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_asked_for_is_one_line_and_exit_code_2(analyze, arguments, line):
    code, out, err = analyze(*arguments)
    (said,) = (text for text in err.splitlines() if text.startswith("vifscope: "))
    assert code == 2
    assert line in said
    assert out == ""


@pytest.mark.parametrize("arguments", [["--rows", "all"], ["--n", "many"], ["--no-such-option"]])
def test_options_that_cannot_be_parsed_have_exit_code_2(analyze, arguments):
    assert analyze(*arguments)[0] == 2


def test_a_hub_id_without_network_is_one_line(analyze, monkeypatch):
    monkeypatch.setattr(vif_core.load, "_online", lambda: False)
    code, _, err = analyze("--model", "nobody/not-on-this-machine")
    assert code == 1
    assert "vifscope: model nobody/not-on-this-machine cannot be loaded" in err
    assert "Check the id and the network" in err


def test_a_family_that_is_not_supported_is_one_line(analyze, model):
    config = json.loads((model / "config.json").read_text())
    broken = model.parent / "unknown"
    broken.mkdir(exist_ok=True)
    for file in model.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    (broken / "config.json").write_text(json.dumps(config | {"model_type": "abacus"}))
    code, _, err = analyze("--model", broken)
    assert code == 1
    (said,) = (text for text in err.splitlines() if text.startswith("vifscope: "))
    assert "cannot be built" in said
    assert "expected an image-text-to-text model" in said


def test_a_run_of_another_configuration_is_refused_and_overwritten_on_request(analyze):
    assert analyze()[0] == 0
    code, _, err = analyze("--rows", "last")
    assert code == 2
    assert 'rows is "response", not "last"' in err
    assert "--overwrite" in err
    assert analyze("--rows", "last", "--overwrite")[0] == 0


def test_a_folder_that_is_no_run_is_refused(command, tmp_path):
    code, out, err = command("summary", tmp_path / "nothing")
    assert (code, out) == (2, "")
    assert err.startswith(f"vifscope: {tmp_path / 'nothing'} does not exist; expected the folder of a run")


def test_a_full_disk_is_a_failure_and_the_run_resumes(analyze, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(disk.os, "fsync", full)
        code, _, err = analyze()
    assert code == 1
    assert "No space left on device" in err
    assert "run the same command again" in err
    assert analyze()[0] == 0


def test_ctrl_c_says_how_to_resume_and_the_same_command_does(analyze, monkeypatch, tmp_path):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(measure, "capture", interrupted)
        code, out, err = analyze()
    assert (code, out) == (130, "")
    assert "interrupted; what was committed is kept. The same command resumes: vifscope analyze --model" in err
    assert RunStore.open(tmp_path / "run").manifest["status"] == "interrupted"
    assert analyze()[0] == 0


def test_a_larger_n_extends_the_run(analyze, tmp_path):
    assert analyze(n=2)[0] == 0
    assert analyze(n=3)[0] == 0
    assert len(RunStore.open(tmp_path / "run").sample_ids) == 3


def test_env_names_versions_and_the_device(command):
    code, out, _ = command("env", "--json")
    found = json.loads(out)
    assert code == 0
    assert {"python", "torch", "transformers", "nnsight", "device"} <= set(found)
    assert found["torch"] in command("env")[1]


@pytest.mark.parametrize("name", [[], ["analyze"], ["summary"], ["train"]])
def test_help_shows_how_it_is_called(command, name):
    code, out, _ = command(*name, "--help")
    assert code == 0
    assert "Usage: vifscope" in out
    if name:
        assert f"vifscope {name[0]} " in out.split("Usage", 1)[1]


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from vifscope.cli.main import main; sys.argv = ['vifscope', 'analyze', '--help']\n"
        "try: main()\n"
        "finally: print([m for m in ('torch', 'pandas', 'matplotlib') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr.strip()) == (0, "[]")


def test_train_calls_the_recipe(command, monkeypatch, tmp_path):
    from vif_core.train import recipe

    def train(name, out, **options):
        given = {key: value for key, value in options.items() if value is not None}
        return f"{name} {out} {given}"

    monkeypatch.setattr(recipe, "train", train)
    options = {"data": "specks", "model": "mini-llava", "steps": 5, "seed": 3, "processes": 1}
    given = [text for name, value in options.items() for text in (f"--{name}", value)]
    line = f"mini-llava-vif {tmp_path} {options}\n"
    assert command("train", "mini-llava-vif", "--out", tmp_path, *given)[:2] == (0, line)


def test_a_folder_of_frames_is_analysed_from_the_command_line(command, tmp_path):
    vlm = tiny_model("qwen2_5_vl")
    model, data, run = (tmp_path / name for name in ("model", "data", "run"))
    vlm.model.save_pretrained(model)
    vlm.processor.save_pretrained(model)
    rows = []
    for sample in tiny_videos((3, 2)):
        names = [f"{sample.sample_id}/{i}.png" for i in range(len(sample.frames))]
        (data / sample.sample_id).mkdir(parents=True)
        for name, frame in zip(names, sample.frames, strict=True):
            frame.save(data / name)
        rows.append({"frames": names, "question": sample.question, "fps": 1})
    (data / "films.jsonl").write_text("\n".join(map(json.dumps, rows)))
    options = {"--model": model, "--data": data, "--n": 2, "--out": run, "--max-new-tokens": 3}
    code, out, err = command("analyze", *(part for pair in options.items() for part in pair), "--json")
    assert code == 0, err
    assert {"figures/video.pdf", "figures/video.png"} <= set(json.loads(out)["files"])
    table = Run(run).video()
    pd.testing.assert_frame_equal(table, video_frame(RunStore.open(run)))
    assert table.groupby("sample_id")["frame"].unique().map(list).tolist() == [[0, 2], [0]]
    code, out, _ = command("figures", run, "--out", tmp_path / "figures", "--format", "svg", "--json")
    assert code == 0
    assert "run/video.svg" in out
