"""The command `vifscope app`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def app(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Runs, the first of them the baseline, or one folder of runs.", show_default="the two newest in runs/"
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="A model to ask live, on a page of its own; answers are kept in runs/asked.")
    ] = None,
    device: Annotated[str, typer.Option(help="Of that model: cpu, cuda, cuda:1, ...")] = "auto",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 picks a free one.")] = 8050,
    host: Annotated[str, typer.Option(help="Where to listen; anything but 127.0.0.1 lets others in.")] = "127.0.0.1",
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page.")] = True,
) -> None:
    """Browse runs in a web page: every layer of every sample, for several models side by side.

    Of a folder of runs the newest two are opened; so they are of runs/ where none is named, and where that has none a
    small one of mini-llava is made.

    Examples:

      vifscope app runs/mini-llava-specks-test-1a2b3c4d runs/mini-llava-vif-specks-test-5e6f7a8b

      vifscope app --model mini-llava-vif

      vifscope app --port 9000 --no-browser
    """
    from vifscope_browser.serve import serve

    serve(runs or [], model=model, device=device, host=host, port=port, browser=browser)
