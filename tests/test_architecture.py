"""The house stays as the README draws it: light imports, one-way imports, and a wheel that holds what it should."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = ("torch", "transformers", "nnsight", "matplotlib", "seaborn", "plotly", "dash", "pandas")


@pytest.mark.parametrize("package", ["vifscope", "vif_core", "vifscope.cli.main", "vifscope_browser.command"])
def test_import_is_light(package):
    code = f"import sys, {package}; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_run_is_read_and_drawn_without_torch():
    code = (
        "import sys, vifscope.runs, vifscope.figures.frames, vifscope.figures.static, vifscope.report,"
        "vifscope.comparison;"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_there_is_no_room_without_an_idea():
    assert not [
        path
        for path in (*ROOT.glob("v*/**/*.py"), *ROOT.glob("apps/**/*.py"))
        if path.stem in ("utils", "helpers", "misc", "common")
    ]


@pytest.mark.slow
def test_the_wheel_holds_code_assets_and_recipes_and_nothing_else(tmp_path):
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        size = sum(info.compress_size for info in archive.infolist())
    sources = {
        str(path.relative_to(parent))
        for parent, room in ((ROOT, "vif_core"), (ROOT, "vifscope"), (ROOT / "apps", "vifscope_browser"))
        for path in (parent / room).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    packed = {name for name in names if ".dist-info/" not in name}
    assert packed == sources
    assert "vif_core/assets/mini-llava/model.safetensors" in packed
    assert "vif_core/train/recipes/mini-llava.yaml" in packed
    assert size < 40e6
