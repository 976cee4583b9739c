"""`vifscope eval` prints how many answers are right, keeps them, and goes on where it stopped."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from vifscope.cli.evaluation import evaluation_view
from vifscope.evaluation import Evaluation, job


@pytest.fixture
def evaluate(command, model, data):
    """vifscope eval on the tiny model and the three pictures."""

    def run(*arguments: object) -> tuple[int, str, str]:
        options = {"--model": model, "--data": data, "--max-new-tokens": 3}
        given = [part for option, value in options.items() if option not in arguments for part in (option, value)]
        return command("eval", *given, *arguments)

    return run


def printed(found):
    file = io.StringIO()
    Console(file=file, width=80, color_system=None).print(evaluation_view(found))
    return file.getvalue()


def record(index, kind, size, right):
    known = {"sample_id": f"s{index:05d}", "kind": kind, "size": size, "question": "Which?", "answer": "red"}
    verdict = {"response": "red", "exact": right, "correct": right, "score": float(right), "error": None}
    return known | verdict | {"image": str(index), "blank_response": "blue", "blank_correct": False}


@pytest.fixture(scope="module")
def found():
    kinds, sizes = ("describe", "grounding", "existence"), ("tiny", "small", "large")
    rows = tuple(record(i, kinds[i % 3], sizes[i // 3 % 3], i % 5 > 0) for i in range(90))
    return Evaluation({"model": "m", "data": "d", "blind": True}, rows).summary_dict()


def test_shares_are_printed_on_stdout_and_progress_on_stderr(evaluate):
    code, out, err = evaluate()
    assert code == 0
    assert "tiny on 3 samples of mine:" in " ".join(out.split())
    assert "Answering questions" in err
    assert "3/3" in err


def test_json_is_the_only_thing_on_stdout(evaluate):
    code, out, _ = evaluate("--json", "--n", 2)
    summary = json.loads(out)
    assert (code, summary["n"], summary["failed"]) == (0, 2, 0)
    assert summary["accuracy"]["n"] == 2


def test_the_same_command_goes_on_where_it_stopped(evaluate, tmp_path, monkeypatch):
    path, answer = tmp_path / "answers.jsonl", job.answer

    def interrupted(vlm, samples, most):
        if path.read_text().count("sample_id"):
            raise KeyboardInterrupt
        return answer(vlm, samples, most)

    with monkeypatch.context() as patched:
        patched.setattr(job, "answer", interrupted)
        code, out, err = evaluate("--out", path, "--batch-size", 1)
    assert (code, out) == (130, "")
    assert "interrupted; what was answered is kept. The same command resumes: vifscope eval --model" in err
    assert path.read_text().count("sample_id") == 1
    code, out, _ = evaluate("--out", path)
    assert code == 0
    assert path.read_text().count("sample_id") == 3
    assert str(path) in out


def test_an_interruption_without_a_file_says_that_nothing_is_kept(evaluate, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(job, "answer", interrupted)
    code, _, err = evaluate()
    assert code == 130
    assert "interrupted; nothing is kept without --out." in err


def test_another_configuration_is_refused(evaluate, tmp_path):
    assert evaluate("--out", tmp_path / "a.jsonl")[0] == 0
    code, _, err = evaluate("--out", tmp_path / "a.jsonl", "--blind")
    assert code == 2
    assert "blind is false, not true" in err


def test_failed_samples_are_recorded_and_the_exit_code_is_3(evaluate, data, tmp_path):
    (data / "red.png").unlink()
    code, out, err = evaluate("--out", tmp_path / "a.jsonl")
    assert code == 3
    assert "vifscope: 1 of 3 samples failed; the first: sample 000000" in err
    assert "Left out: 1 sample that failed." in " ".join(out.split())
    assert "red.png does not exist" in (tmp_path / "a.jsonl").read_text()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--n", "4"], "n is 4, but mine has 3 samples; expected a number from 1 to 3. Use --n all for all of them."),
        (["--n", "many"], "--n is 'many'; expected \"all\" or a number from 1 on."),
        (["--data", "nowhere"], "there is no data at nowhere; expected"),
        (["--model", "nothing"], "model 'nothing' is no folder, no embedded model and no model id"),
        (["--batch-size", "0"], "--batch-size is '0'; expected \"auto\" or a number from 1 on."),
        (["--max-new-tokens", "0"], "max_new_tokens is 0; expected at least 1."),
        (["--dtype", "int3"], "dtype 'int3'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_asked_for_is_one_line_and_exit_code_2(evaluate, arguments, line):
    code, out, err = evaluate(*arguments)
    (said,) = (text for text in err.splitlines() if text.startswith("vifscope: "))
    assert (code, out) == (2, "")
    assert line in said


def test_help_shows_how_it_is_called(command):
    code, out, _ = command("eval", "--help")
    assert code == 0
    said = " ".join(out.split())
    assert "vifscope eval --model mini-llava --data specks:heldout --n all --blind" in said
    assert "in words or as x0, y0, x1, y1 in the answer's unit" in said


def test_it_fits_eighty_columns_whole(found):
    lines = printed(found).splitlines()
    assert max(map(len, lines)) <= 80
    assert not any("…" in line for line in lines)


def test_what_is_undefined_is_a_dash():
    rows = tuple(record(i, "count", "tiny", True) | {"image": "one"} for i in range(3))
    found = Evaluation({"model": "m", "data": "d", "blind": True}, rows).summary_dict()
    row = next(line.split() for line in printed(found).splitlines() if line.split()[:1] == ["all"])
    assert row == ["all", "3", "100.0", "100.0", "-", "100.0", "0.0", "-"]


def test_there_is_a_row_a_group_with_its_shares(found):
    lines = [line.split() for line in printed(found).splitlines()]
    row = next(line for line in lines if line[:1] == ["all"])
    shares = [found["accuracy"][name]["mean"] for name in ("exact", "correct", "score", "blank", "majority")]
    assert row[1] == "90"
    assert [row[2], row[3], *row[-3:]] == [f"{100 * share:.1f}" for share in shares]
    heads = [" ".join(line[:2]) for line in lines if len(line) > 8]
    assert {"describe (F1)", "grounding (IoU)", "describe, tiny", "grounding, large"} <= set(heads)
