"""The notebooks: each runs as it stands, and its script and its .ipynb say the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ANALYSES = Path(__file__).parent.parent / "analyses"
SCRIPTS = sorted(ANALYSES.glob("*.py"))
NAMES = [script.stem for script in SCRIPTS]


def script_cells(script: Path) -> list[tuple[str, str]]:
    """(kind, source) of a py:percent script's cells."""
    cells = []
    for part in script.read_text().split("\n# %%")[1:]:
        head, _, source = part.partition("\n")
        kind = "markdown" if "[markdown]" in head else "code"
        source = source.strip("\n")
        if kind == "markdown":
            source = "\n".join(line.removeprefix("#").removeprefix(" ") for line in source.splitlines())
        cells.append((kind, source))
    return cells


@pytest.mark.parametrize("script", SCRIPTS, ids=NAMES)
def test_script_and_notebook_say_the_same(script):
    notebook = json.loads(script.with_suffix(".ipynb").read_text())
    assert [(cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"]] == script_cells(script)
    assert not any(cell.get("outputs") for cell in notebook["cells"]), "outputs stay out of git"


@pytest.mark.parametrize("script", SCRIPTS, ids=NAMES)
def test_a_notebook_defines_nothing(script):
    assert not [line for line in script.read_text().splitlines() if line.startswith(("def ", "class "))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where all notebooks run, so that the runs are made once."""
    folder = tmp_path_factory.mktemp("analyses")
    for name in ("paper", "results"):
        (folder / name).symlink_to(ANALYSES / name)
    return folder


@pytest.mark.notebooks
@pytest.mark.parametrize("script", SCRIPTS, ids=NAMES)
def test_a_notebook_runs_and_ends_with_a_verdict(script, folder):
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=folder,
        env=os.environ | {"VIFSCOPE_N": "24"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    last = done.stdout.strip().splitlines()[-1]
    verdicts = (
        "holds here",
        "does not hold here",
        "neither borne out nor refuted",
        "Not measured here",
        "nothing is settled",
    )
    assert any(verdict in last for verdict in verdicts)
