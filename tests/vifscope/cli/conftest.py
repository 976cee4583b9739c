"""The command as a user runs it, on a tiny model and three pictures."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from vif_core.vlm.tiny import tiny_model
from vifscope.cli.main import main


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    """A tiny random LLaVA in a folder."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    vlm = tiny_model("llava")
    vlm.model.save_pretrained(folder)
    vlm.processor.save_pretrained(folder)
    return folder


@pytest.fixture
def data(tmp_path) -> Path:
    """Three pictures with a question each."""
    folder = tmp_path / "mine"
    folder.mkdir()
    rows = []
    for i, colour in enumerate(("red", "green", "blue")):
        Image.new("RGB", (30 + 8 * i, 30), colour).save(folder / f"{colour}.png")
        rows.append({"image": f"{colour}.png", "question": "Which colour?", "answer": colour, "boxes": [[0, 0, 9, 9]]})
    (folder / "samples.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return folder


@pytest.fixture
def command(monkeypatch, capfd):
    """Runs vifscope with these arguments: (exit code, stdout, stderr)."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["vifscope", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        out, err = capfd.readouterr()
        return int(stopped.value.code or 0), out, err

    return run
