"""A comparison as a notebook uses it: tables, figures, findings, files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from matplotlib.figure import Figure

from vif_core.errors import UsageError
from vifscope.comparison.frames import (
    accuracy_frame,
    curves_frame,
    differences_frame,
    gains_frame,
    maps_frame,
    targets_frame,
)
from vifscope.comparison.pairs import pair
from vifscope.comparison.report import write_report
from vifscope.comparison.words import comparison_dict
from vifscope.figures import twins
from vifscope.figures.contrast import accuracy_figure, curves_figure, differences_figure
from vifscope.figures.strip import of_runs, strip_figure
from vifscope.figures.theme import LIGHT, Theme
from vifscope.runs import RunStore

_LONGEST_NAME = 150


class Comparison:
    """Runs of the same data, each held against the first over the samples that all of them measured.

    names: of the runs, the baseline first: the model's, or the folder's where several have the same model.
    files: what `write` wrote, as paths in its folder.
    Raises UsageError for runs that cannot be compared (`vifscope.comparison.pairs.pair`).
    """

    def __init__(self, runs: Sequence[RunStore]) -> None:
        self.sides = pair(runs)
        self.names = [side.name for side in self.sides]
        self.files: list[str] = []
        self._drawn: dict[int, pd.DataFrame] = {}

    @property
    def sample_ids(self) -> list[str]:
        """The samples that all runs measured."""
        return [sample["sample_id"] for sample in self.sides[0].samples]

    @cached_property
    def curves(self) -> pd.DataFrame:
        """Each metric of each run by layer, with intervals: `curves_frame`."""
        return curves_frame(self.sides)

    @cached_property
    def differences(self) -> pd.DataFrame:
        """What changes from the baseline, by metric and layer and over the deep layers: `differences_frame`."""
        return differences_frame(self.sides)

    @cached_property
    def accuracy(self) -> pd.DataFrame:
        """Paired differences of accuracy, overall, by kind and by size: `accuracy_frame`."""
        return accuracy_frame(self.sides)

    @cached_property
    def targets(self) -> pd.DataFrame:
        """How large each target is and what the second run gains on it: `targets_frame`."""
        return targets_frame(*self.sides[:2])

    @cached_property
    def gains(self) -> pd.DataFrame:
        """The second run's gain in accuracy by the size of the target: `gains_frame`."""
        return gains_frame(self.targets)

    @property
    def figures(self) -> dict[str, str]:
        """Name and caption of every figure; maps-2 shows the third run beside the baseline, and so on."""
        chosen = "of 16 drawn samples of each of the most frequent kinds, the one whose visual entropy changes most"
        captions = {
            "curves": "Every metric by decoder layer, with 95 % intervals. Dashed: uniform attention.",
            "differences": "Change from the baseline by decoder layer, with 95 % intervals of the paired difference.",
            "accuracy": "Change of accuracy from the baseline, with 95 % intervals; in brackets the number of pairs.",
        }
        for place, name in enumerate(self.names[1:], 1):
            caption = f"Visual attention of {self.names[0]} and {name} in deep layers: {chosen} there."
            captions["maps" if place == 1 else f"maps-{place}"] = caption
        return captions

    def figure(self, name: str = "differences", theme: Theme = LIGHT) -> Figure:
        """One of `figures`. Raises UsageError for another name, and where there is nothing to draw in it."""
        match name.partition("-"):
            case "curves", "", "":
                return curves_figure(self.curves, theme=theme)
            case "differences", "", "":
                return differences_figure(self.differences, theme=theme)
            case "accuracy", "", "":
                return accuracy_figure(self._known_accuracy, theme=theme)
            case "maps", _, place if name in self.figures:
                return strip_figure(of_runs(self._maps(int(place or 1))), theme=theme)
        raise self._unknown(name)

    def interactive(self, name: str = "differences") -> go.Figure:
        """The same figure in plotly, with the numbers under the pointer. Raises as `figure` does."""
        match name.partition("-"):
            case "curves", "", "":
                return twins.curves_figure(self.curves)
            case "differences", "", "":
                return twins.differences_figure(self.differences)
            case "accuracy", "", "":
                return twins.accuracy_figure(self._known_accuracy)
            case "maps", _, place if name in self.figures:
                return twins.strip_figure(of_runs(self._maps(int(place or 1))))
        raise self._unknown(name)

    def summary_dict(self, files: Sequence[str] = ()) -> dict[str, Any]:
        """What was found, ready for JSON; undefined numbers are None. Keys: `comparison_dict`."""
        return comparison_dict(self.sides, self.differences, self.accuracy, files)

    def write(self, out: str | Path | None = None) -> Path:
        """Writes figures (PNG, PDF), comparison.csv, accuracy.csv and index.html; returns the folder.

        out: runs/compare-RUN-RUN-HASH by default. Raises UsageError for the folder of a run, VifError where it
        cannot be written.
        """
        path = Path("runs") / self.default_name if out is None else Path(out)
        self.files = write_report(self, path)
        return path

    @property
    def default_name(self) -> str:
        """compare-RUN-RUN-HASH: the folders' names, a long row of them cut, and 8 digits that tell their paths."""
        paths = [side.run.path.resolve() for side in self.sides]
        names = "-".join(["compare", *(path.name for path in paths)])
        digest = hashlib.sha256("\0".join(map(str, paths)).encode(errors="surrogateescape")).hexdigest()
        return f"{names[:_LONGEST_NAME]}-{digest[:8]}"

    @property
    def _known_accuracy(self) -> pd.DataFrame:
        if not self.accuracy["n"].any():
            raise UsageError("accuracy is unknown", expected="samples with an answer")
        return self.accuracy

    def _unknown(self, name: str) -> UsageError:
        return UsageError(f"there is no figure {name!r}", expected=f"one of {', '.join(self.figures)}")

    def _maps(self, place: int) -> pd.DataFrame:
        if place not in self._drawn:
            self._drawn[place] = maps_frame(self.sides[0], self.sides[place])
        return self._drawn[place]
