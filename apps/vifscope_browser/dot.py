"""The coloured dot that stands for a run on every page."""

from __future__ import annotations

from dash import html

from vifscope.figures.palette import RUNS


def dot(colour: int) -> html.I:
    """colour: number of the run's colour."""
    return html.I(className="dot", style={"background": RUNS[colour % len(RUNS)]})
