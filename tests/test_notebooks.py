"""The notebooks: each runs as it stands, and its script and its .ipynb say the same."""

from __future__ import annotations

import json
import os
from pathlib import Path

import nbformat
import pytest
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient

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


class OwnKernel(AsyncKernelManager):
    """A kernel of this environment: none has to be installed on the machine, and none that is gets in its way."""

    def _kernel_spec_manager_default(self) -> KernelSpecManager:
        return KernelSpecManager(kernel_dirs=[])


def executed(path: Path, folder: Path) -> nbformat.NotebookNode:
    """The notebook with its outputs."""
    notebook = nbformat.read(path, as_version=4)
    where = {"metadata": {"path": str(folder)}}
    client = NotebookClient(notebook, timeout=600, resources=where, kernel_manager_class=OwnKernel)
    return client.execute(env=os.environ | {"VIFSCOPE_N": "24", "HF_HUB_OFFLINE": "1"})


def told(cell: nbformat.NotebookNode, stream: str) -> str:
    return "".join(output["text"] for output in cell.get("outputs", []) if output.get("name") == stream)


@pytest.mark.notebooks
@pytest.mark.parametrize("script", SCRIPTS, ids=NAMES)
def test_a_notebook_runs_and_ends_with_a_verdict(script, folder):
    """The script says the same (above), so that it is not run as well."""
    cells = [cell for cell in executed(script.with_suffix(".ipynb"), folder).cells if cell["cell_type"] == "code"]
    assert not [told(cell, "stderr") for cell in cells if told(cell, "stderr")], "no warning, nothing but what is said"
    last = told(cells[-1], "stdout").strip().splitlines()[-1]
    verdicts = (
        "holds here",
        "does not hold here",
        "neither borne out nor refuted",
        "Not measured here",
        "nothing is settled",
    )
    assert any(verdict in last for verdict in verdicts)
    for cell in cells:
        shown = [kind for output in cell["outputs"] for kind in output.get("data", {})]
        if ".figure(" in cell["source"]:
            assert "image/png" in shown
