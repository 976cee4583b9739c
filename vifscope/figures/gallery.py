"""The figures of one run, by name."""

from __future__ import annotations

from functools import cached_property

import pandas as pd
from matplotlib.figure import Figure

from vif_core.errors import UsageError
from vifscope.figures.frames import (
    ATTENUATION,
    FOCUS,
    SHARES,
    map_strip,
    summary_frame,
    video_frame,
    violin_frame,
    wide,
)
from vifscope.figures.lights import light_strip
from vifscope.figures.static import attenuation_figure, focus_figure, shares_figure, video_figure, violin_figure
from vifscope.figures.strip import light_strip_figure, map_strip_figure
from vifscope.figures.theme import LIGHT, Theme
from vifscope.runs import RunStore

FIGURES = ("attenuation", "violins", "focus", "shares", "maps", "spotlights", "video")


class Gallery:
    """Draws the figures of `run` for one kind of map; what several of them show is read and computed once."""

    def __init__(self, run: RunStore, map_kind: str = "raw") -> None:
        self.run = run
        self._map_kind = map_kind

    @cached_property
    def summary(self) -> pd.DataFrame:
        return summary_frame(self.run, self._map_kind)

    @cached_property
    def violins(self) -> pd.DataFrame:
        return violin_frame(self.run, self._map_kind)

    @cached_property
    def strip(self) -> pd.DataFrame:
        return map_strip(self.run, map_kind=self._map_kind)

    def figure(self, name: str, theme: Theme = LIGHT) -> Figure:
        """One of FIGURES. Raises UsageError for another name, and where the run has nothing to draw in it."""
        match name:
            case "attenuation":
                return attenuation_figure(wide(self.summary, ATTENUATION), theme=theme)
            case "violins":
                return violin_figure(self.violins, wide(self.summary, ATTENUATION), theme=theme)
            case "focus":
                return focus_figure(wide(self.summary, FOCUS), theme=theme)
            case "shares":
                return shares_figure(wide(self.summary, SHARES), theme=theme)
            case "maps":
                return map_strip_figure(self.strip, theme=theme)
            case "spotlights":
                return light_strip_figure(light_strip(self.run), theme=theme)
            case "video":
                return video_figure(video_frame(self.run, self._map_kind), theme=theme)
        raise UsageError(f"there is no figure {name!r}", expected=f"one of {', '.join(FIGURES)}")
