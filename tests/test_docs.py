"""README, CONTRIBUTING and CHANGELOG say what is true."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")


def shell_lines(text: str) -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    return [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]


def test_the_two_set_up_lines_are_there_once_each():
    assert README.count("pip install -c constraints.txt -e . && vifscope analyze --n 500\n") == 1
    assert README.count("pip install -c constraints.txt -e '.[test]' && pytest\n") == 1


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", (ROOT / page).read_text()):
        assert (ROOT / target).exists(), target


def test_every_room_that_the_readme_names_exists():
    table = README.split("## How it is built")[1].split("##")[0]
    for row in re.findall(r"^\| (`.*?`.*?) \|", table, re.MULTILINE):
        room = ""
        for name in re.findall(r"`([^`]+)`", row):
            if name.startswith("v"):
                room = name.split("/")[0]
                assert (ROOT / name).exists(), name
            else:
                assert (ROOT / room / name).exists(), f"{room}/{name}"


def test_commands_and_options_that_the_readme_shows_exist():
    lines = [part.strip() for line in shell_lines(README) for part in line.split("&&") if "vifscope " in part]
    commands = {line.split()[1] for line in lines} | set(re.findall(r"`vifscope (\w+)", README))
    for command in commands:
        help_text = subprocess.run(
            [sys.executable, "-c", "from vifscope.cli.main import main; main()", command, "--help"],
            capture_output=True,
            text=True,
            check=True,
            env={"COLUMNS": "200", "PATH": "", "TERM": "dumb"},
        ).stdout
        for line in (line for line in lines if line.split()[1] == command):
            for option in re.findall(r"--[\w-]+", line):
                assert option in help_text, f"{command} {option}"


def test_the_first_python_example_runs_on_names_that_exist():
    import vifscope
    from vifscope.api import Run

    code = re.search(r"```python\n(.*?)```", README, re.DOTALL).group(1)
    for name in re.findall(r"vifscope\.(\w+)\(", code):
        assert hasattr(vifscope, name), name
    for name in re.findall(r"run\.(\w+)", code):
        assert hasattr(Run, name), name


def test_constraints_pin_what_was_tested():
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    assert pins["torch"] == "2.13.0"
    assert {"transformers", "nnsight", "numpy", "pandas", "pyarrow"} <= pins.keys()
