"""The figures of one run, by name."""

from __future__ import annotations

from functools import cached_property

import pandas as pd
import plotly.graph_objects as go
from matplotlib.figure import Figure

from vif_core.errors import UsageError
from vifscope.figures import twins
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
from vifscope.figures.interactive import violins_figure
from vifscope.figures.lights import light_strip
from vifscope.figures.static import attenuation_figure, focus_figure, shares_figure, video_figure, violin_figure
from vifscope.figures.strip import of_layers, of_lights, strip_figure
from vifscope.figures.theme import COLUMN_IN, LIGHT, Theme
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

    @cached_property
    def lights(self) -> pd.DataFrame:
        return light_strip(self.run)

    @cached_property
    def video(self) -> pd.DataFrame:
        return video_frame(self.run, self._map_kind)

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
                return strip_figure(of_layers(self.strip), theme=theme)
            case "spotlights":
                return strip_figure(of_lights(self.lights), theme=theme, width_in=COLUMN_IN)
            case "video":
                return video_figure(self.video, theme=theme)
        raise _unknown(name)

    def interactive(self, name: str) -> go.Figure:
        """The same figure in plotly, with the numbers under the pointer. Raises as `figure` does."""
        match name:
            case "attenuation":
                return twins.attenuation_figure(wide(self.summary, ATTENUATION))
            case "violins":
                name = self.run.path.resolve().name
                return violins_figure([self.violins], [wide(self.summary, ATTENUATION)], [name])
            case "focus":
                return twins.focus_figure(wide(self.summary, FOCUS))
            case "shares":
                return twins.shares_figure(wide(self.summary, SHARES))
            case "maps":
                return twins.strip_figure(of_layers(self.strip))
            case "spotlights":
                return twins.strip_figure(of_lights(self.lights), width_px=twins.COLUMN_PX)
            case "video":
                return twins.video_figure(self.video)
        raise _unknown(name)


def _unknown(name: str) -> UsageError:
    return UsageError(f"there is no figure {name!r}", expected=f"one of {', '.join(FIGURES)}")
