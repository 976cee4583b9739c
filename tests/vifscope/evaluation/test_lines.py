from __future__ import annotations

import json
import subprocess
import sys

import pytest

from vif_core.errors import UsageError, VifError
from vifscope.evaluation.lines import AnswerLines

CONFIG = {"model": "m", "blind": False}


def record(index, error=None):
    return {"sample_id": f"s{index}", "response": "red", "error": error}


def write(path, *records, config=CONFIG):
    with AnswerLines(config, path) as lines:
        lines.add(records)
    return path


def kept(path, config=CONFIG):
    with AnswerLines(config, path) as lines:
        return lines.records, lines.done


def test_the_file_is_its_configuration_and_a_line_a_sample(tmp_path):
    path = write(tmp_path / "new" / "a.jsonl", record(0), record(1))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines == [{"configuration": CONFIG}, record(0), record(1)]


def test_what_was_answered_is_there_again_and_failures_are_not_done(tmp_path):
    path = write(tmp_path / "a.jsonl", record(0), record(1, "no"))
    records, done = kept(path)
    assert records == {"s0": record(0), "s1": record(1, "no")}
    assert done == {"s0"}


def test_a_sample_that_was_tried_again_counts_once_as_it_is_now(tmp_path):
    path = write(tmp_path / "a.jsonl", record(0, "no"))
    write(path, record(0))
    assert kept(path) == ({"s0": record(0)}, {"s0"})


@pytest.mark.parametrize("cut", range(1, 40, 6))
def test_a_line_that_was_cut_short_is_dropped_and_the_rest_goes_on(tmp_path, cut):
    path = write(tmp_path / "a.jsonl", record(0), record(1))
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    assert set(kept(path)[0]) == {"s0"}
    write(path, record(1))
    assert path.read_bytes() == whole


def test_an_empty_file_is_begun(tmp_path):
    path = tmp_path / "a.jsonl"
    path.touch()
    assert kept(write(path, record(0)))[1] == {"s0"}


def test_another_configuration_is_refused_and_the_file_left_as_it_is(tmp_path):
    path = write(tmp_path / "a.jsonl", record(0))
    before = path.read_bytes()
    line = "has another configuration: blind is false, not true; expected the same configuration to go on with it. Name"
    with pytest.raises(UsageError, match=line):
        kept(path, CONFIG | {"blind": True})
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "text",
    ['{"image": "a.png"}\n', '{"image": "a.png"}\n{"image": "b.png"}\n', "[1]\n", "5\n", "null\n", "no line end"],
)
def test_a_file_of_something_else_is_refused_and_left_as_it_is(tmp_path, text):
    path = tmp_path / "data.jsonl"
    path.write_text(text)
    with pytest.raises(UsageError, match="its first line holds no configuration"):
        kept(path)
    assert path.read_text() == text


def test_a_damaged_line_is_named(tmp_path):
    path = write(tmp_path / "a.jsonl", record(0), record(1))
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1][:-5], lines[2], ""]))
    with pytest.raises(UsageError, match=r"a\.jsonl line 2 is not a line of an evaluation; expected JSON"):
        kept(path)


def test_two_commands_do_not_write_one_file(tmp_path):
    code = (
        "import sys; from vifscope.evaluation.lines import AnswerLines; from pathlib import Path\n"
        "try: AnswerLines({'model': 'm', 'blind': False}, Path(sys.argv[1]))\n"
        "except Exception as error: print(error)"
    )
    path = tmp_path / "a.jsonl"
    with AnswerLines(CONFIG, path):
        done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert f"file {path} is being written by another process; expected one writer at a time" in done.stdout


def test_a_disk_that_refuses_is_one_line(tmp_path):
    with pytest.raises(VifError, match="cannot be written"):
        AnswerLines(CONFIG, tmp_path)


def test_a_disk_that_is_full_at_the_end_leaves_its_own_line(tmp_path):
    """Closing flushes once more what could not be written."""

    class Full:
        def write(self, *_):
            raise OSError(28, "No space left on device")

        flush = close = write

    lines = AnswerLines(CONFIG, tmp_path / "a.jsonl")
    lines._file.close()
    lines._file = Full()
    with pytest.raises(VifError, match="No space left"), lines:
        lines.add([record(0)])


def test_without_a_file_records_are_kept_all_the_same():
    with AnswerLines(CONFIG, None) as lines:
        lines.add([record(0)])
    assert lines.done == {"s0"}
