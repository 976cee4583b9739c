"""Two runs of the embedded models, and the app that serves them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from vifscope_browser.catalogue import Catalogue
from vifscope_browser.serve import listening

from vifscope.api import analyze

N = 12
CHROMIUM = next((path for path in ("/usr/bin/chromium", "/usr/bin/chromium-browser") if os.path.exists(path)), None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without Chromium its tests are passed over, except where everything must be there."""
    if CHROMIUM or os.environ.get("CI"):
        return
    for item in items:
        if item.get_closest_marker("browser"):
            item.add_marker(pytest.mark.skip(reason="needs Chromium: apt-get install chromium"))


@pytest.fixture(scope="session")
def run_folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    models = {"base": "mini-llava", "vif": "mini-llava-vif"}
    return [analyze(model, n=N, out=folder / name, figures=False).path for name, model in models.items()]


@pytest.fixture(scope="session")
def catalogue(run_folders: list[Path]) -> Catalogue:
    return Catalogue.open(run_folders)


@pytest.fixture(scope="session")
def serving() -> Iterator[Callable[..., str]]:
    """Serves what `listening` is given until the session ends, and returns the address."""
    servers = []

    def serve(*given: Any, **options: Any) -> str:
        server = listening(*given, **options)
        servers.append(server)

        def run() -> None:
            with suppress(OSError):  # closing takes the socket from under its loop
                server.run()

        threading.Thread(target=run, daemon=True).start()
        return f"http://127.0.0.1:{server.effective_port}"

    yield serve
    for server in servers:
        server.close()


@pytest.fixture(scope="session")
def address(catalogue: Catalogue, serving: Callable[..., str]) -> str:
    return serving(catalogue)


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict) -> dict:
    return browser_type_launch_args | {"executable_path": CHROMIUM, "args": ["--no-sandbox"]}


@pytest.fixture(scope="session")
def browser_context_args(browser_context_args: dict) -> dict:
    return browser_context_args | {"viewport": {"width": 1280, "height": 720}}
