"""`vifscope compare` prints what changed, writes it, and refuses what cannot be compared."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
from html import escape
from pathlib import Path

import pytest
from rich.console import Console

from vifscope.cli.comparison import comparison_view
from vifscope.comparison import Comparison

ROOT = Path(__file__).parents[3]
PAIRS = ((6, 11), (7, 13), (8, 15))


@pytest.fixture(scope="module")
def runs(run_of):
    """A model without VIF and one with it, as folders."""
    vif = run_of(12, model="mini-llava-vif", pairs=PAIRS)
    return [run_of(12, model="mini-llava").path, vif.path]


@pytest.fixture(scope="module")
def found(run_of):
    return Comparison([run_of(12, model="mini-llava"), run_of(12, model="mini-llava-vif", pairs=PAIRS)]).summary_dict()


def printed(found, *, width=80, encoding="utf-8"):
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    Console(file=file, width=width, color_system=None).print(comparison_view(found))
    file.seek(0)
    return file.read()


def test_findings_tables_and_files_are_printed(command, runs, tmp_path):
    code, out, err = command("compare", *runs, "--out", tmp_path / "compared")
    assert (code, err) == (0, "")
    assert "mini-llava-vif less mini-llava" in out
    assert "visual entropy fell from" in " ".join(out.split())
    assert "12 samples in every run." in out
    for file in ("comparison.csv", "accuracy.csv", "figures/maps.png", "index.html"):
        assert f"  {file}\n" in out
        assert (tmp_path / "compared" / file).exists()


def test_json_is_one_object_with_what_was_found(command, runs, found, tmp_path):
    code, out, _ = command("compare", *runs, "--out", tmp_path / "compared", "--json")
    said = json.loads(out)
    assert code == 0
    assert said["others"] == found["others"]
    assert said["folder"] == str(tmp_path / "compared")
    assert "index.html" in said["files"]


def test_by_default_it_is_written_beside_the_runs(command, runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = command("compare", *runs)
    assert code == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith(f"compare-{runs[0].name}-{runs[1].name}-")
    assert str(Path("runs") / folder.name) in out


@pytest.mark.parametrize(
    ("pick", "line"),
    [
        (lambda runs, other: [runs[0]], "1 run to compare; expected two or more, the baseline first."),
        (lambda runs, other: [runs[0], "nowhere"], "nowhere does not exist; expected the folder of a run."),
        (lambda runs, other: [runs[0], other], "has other data than"),
    ],
    ids=["one run", "no run", "other data"],
)
def test_what_cannot_be_compared_is_one_line_and_exit_code_2(command, runs, records_run, tmp_path, pick, line):
    other = records_run(2, config={"data": "pope", "data_fingerprint": "2"}).path
    code, out, err = command("compare", *pick(runs, other), "--out", tmp_path / "compared")
    assert (code, out) == (2, "")
    assert err.startswith("vifscope: ")
    assert len(err.splitlines()) == 1
    assert line in err
    assert not (tmp_path / "compared").exists()


def test_a_run_is_not_written_over(command, runs):
    code, _, err = command("compare", *runs, "--out", runs[0])
    assert code == 2
    assert "is the folder of a run" in err


def test_it_needs_no_torch(runs, tmp_path):
    arguments = ["vifscope", "compare", *map(str, runs), "--out", str(tmp_path / "compared"), "--json"]
    code = (
        f"import sys; from vifscope.cli.main import main; sys.argv = {arguments!r}\n"
        "try: main()\nfinally: print('torch' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr.strip()) == (0, "False")


def test_help_shows_how_it_is_called(command):
    code, out, _ = command("compare", "--help")
    assert code == 0
    assert "vifscope compare runs/control runs/vif runs/vif-swapped" in " ".join(out.split())


def test_a_run_whose_shards_are_corrupt_says_so(command, runs, tmp_path):
    bad = tmp_path / "bad"
    shutil.copytree(runs[1], bad)
    for shard in (bad / "samples").glob("*.parquet"):
        shard.write_bytes(shard.read_bytes()[::-1])
    for arguments in (["summary", bad], ["compare", runs[0], bad, "--out", tmp_path / "out"]):
        code, _, said = command(*arguments)
        assert code == 1
        assert re.search(r"run .*bad: samples/.*\.parquet .*Delete that file", said), said


def test_a_broken_map_or_picture_costs_its_figure_alone(command, runs, found, tmp_path):
    def maps(run):
        return (run / "maps").glob("*.safetensors")

    def pictures(run):
        return (run / "images").glob("*.png")

    for files in (maps, pictures):
        bad, out = tmp_path / files.__name__, tmp_path / "out" / files.__name__
        shutil.copytree(runs[1], bad)
        for file in files(bad):
            file.write_bytes(b"broken")
        code, said, err = command("compare", runs[0], bad, "--out", out, "--json")
        (line,) = err.splitlines()
        assert code == 3
        assert re.search(rf"vifscope: run .*{files.__name__}: (maps|images)/\S+ cannot be read", line), line
        assert escape(line.removeprefix("vifscope: ")) in (out / "index.html").read_text(encoding="utf-8")
        assert json.loads(said)["others"][0]["accuracy"] == found["others"][0]["accuracy"]
        assert {file.name for file in (out / "figures").glob("*.png")} == {
            "accuracy.png", "curves.png", "differences.png",
        }  # fmt: skip
        assert {file.name for file in out.iterdir()} == {"accuracy.csv", "comparison.csv", "figures", "index.html"}


def test_it_fits_eighty_columns_whole(found):
    lines = printed(found).splitlines()
    assert max(map(len, lines)) <= 80
    assert not any("…" in line for line in lines)


def test_there_is_a_row_a_layer_and_one_a_deep_scope(found):
    rows = [line.split() for line in printed(found).splitlines()]
    layers = [row for row in rows if len(row) == 7 and row[0].removesuffix("i").isdigit()]
    assert [row[0] for row in layers] == [f"{i}i" if i in (11, 13, 15) else str(i) for i in range(16)]
    entropy = found["others"][0]["layers"][13]["visual_entropy"]["difference"]
    assert layers[13][3] == f"{entropy:+.2f}*"
    assert [row[0] for row in rows if len(row) == 7 and row[0] in ("deep", "injected", "uninjected")]


def test_what_is_so_by_construction_is_in_brackets_without_a_star(found):
    rows = {row[0]: row for line in printed(found).splitlines() if len(row := line.split()) == 7}
    for name in ("11i", "13i", "15i", "deep", "injected"):
        assert all(cell.startswith("(") and cell.endswith(")") for cell in rows[name][1:3])
        assert not any(cell.startswith("(") for cell in rows[name][3:])
    assert not rows["uninjected"][1].startswith("(")
    assert "held up by the map and no finding" in " ".join(printed(found).split())


def test_undefined_values_are_dashes(run_of):
    found = Comparison([run_of(2, boxes=False, answers=False)] * 2).summary_dict()
    assert printed(found, encoding="ascii").isascii()
    text = printed(found)
    rows = [line.split() for line in text.splitlines()]
    assert ["all", "0", "-", "-", "-", "-", "-"] in rows
    assert sum(row[-2:] == ["-", "-"] and row[0].isdigit() for row in rows if row) == 16  # box mass and box lift
    assert "nan" not in text.lower()


def test_a_single_image_has_no_interval(run_of):
    rows = [line.split() for line in printed(Comparison([run_of(1)] * 2).summary_dict()).splitlines()]
    (overall,) = (row for row in rows if row[:2] == ["all", "1"])
    assert overall[-2:] == ["-", "1"]


def test_brackets_in_names_are_no_markup(found):
    evil = found | {"samples": "[bold]a[/bold] [x"}
    assert "[bold]a[/bold] [x" in printed(evil)
