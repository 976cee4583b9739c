"""The runs that are browsed: which samples they hold, and what is shown of each. All that the pages know of a run."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from vif_core.errors import UsageError, VifError
from vifscope.figures.frames import ATTENUATION, summary_frame, violin_frame
from vifscope.figures.palette import RUNS
from vifscope.figures.viewer import CURVES
from vifscope.metrics.attenuation import deep_layers
from vifscope.runs import RunStore
from vifscope.runs.maps import on_grid
from vifscope.summary import TOLD, pooled_dict

Image.MAX_IMAGE_PIXELS = 50_000_000

THUMBNAIL_PX = 192
MEAN_SAMPLES = 200

SORTS = {
    "sample_id": "Sample",
    "visual_ratio": "Visual ratio, deep layers",
    "visual_entropy": "Visual entropy, deep layers",
    "box_lift": "Box lift, deep layers",
    "entropy_change": "Change of entropy between runs",
}


@dataclass(frozen=True)
class Chosen:
    """What of a sample's flow is drawn. head and row None: means over heads and over the measured rows.

    row:  position of a stored query row in the sequence, as in `query_rows`.
    grid: which of its grids (tiles, images).
    """

    head: int | None = None
    row: int | None = None
    grid: int = 0


class Browsed:
    """One run. name: unique among the runs that are browsed.     colour: number of its colour, by its place."""

    def __init__(self, store: RunStore, name: str, colour: int = 0) -> None:
        self.store, self.name, self.colour = store, name, colour % len(RUNS)

    @cached_property
    def layers(self) -> pd.DataFrame:
        """The mean-head, unintervened metrics of every layer and sample."""
        layers = self.store.layers()
        return layers[layers["map"] == "raw"]

    @cached_property
    def _rows(self) -> dict[Any, Any]:
        """Places in `layers` of each sample's rows."""
        return self.layers.groupby("sample_id", sort=False).indices

    @cached_property
    def num_layers(self) -> int:
        return int(self.layers["layer"].max()) + 1

    @cached_property
    def summary(self) -> pd.DataFrame:
        """Its pooled summary_frame, of the metrics that the overview draws and tells of."""
        return summary_frame(self.store, metrics={*CURVES, *TOLD, *ATTENUATION}, by_kind=False)

    @cached_property
    def found(self) -> dict[str, Any]:
        """What it found in numbers and in words."""
        return pooled_dict(self.store, frame=self.summary)

    @cached_property
    def violins(self) -> pd.DataFrame:
        """Its `violin_frame`. Raises VifError where a shard is corrupt."""
        return violin_frame(self.store)

    @cached_property
    def deep(self) -> pd.DataFrame:
        """Each sample's metrics over the deep layers, by sample_id."""
        deep = self.layers[self.layers["layer"].isin(deep_layers(self.num_layers))]
        return deep.groupby("sample_id")[[*CURVES]].mean()

    @cached_property
    def mean_maps(self) -> np.ndarray | None:
        """Mean map of the first samples that lie on the first one's grid, renormalised: [L, rows, cols]. None without.

        At most MEAN_SAMPLES of them; those of corrupt shards are left out.
        """
        total, counted, like = None, 0, None
        for sample_id in self.store.sample_ids[:MEAN_SAMPLES]:
            grids = self.store.grids(sample_id)
            shape = [(grid["rows"], grid["cols"]) for grid in grids[:1]]
            like = like or shape
            if not grids or shape != like:
                continue
            try:
                maps = self.maps(sample_id, Chosen())
            except VifError:  # its shard is corrupt, and in `problems` from now on
                continue
            maps = maps / np.maximum(maps.sum((1, 2), keepdims=True), 1e-12)
            if np.isnan(maps).all():
                continue
            total, counted = maps if total is None else total + maps, counted + 1
        return None if total is None else total / counted

    def curves(self, sample_id: str) -> pd.DataFrame:
        """A sample's metrics, a row a layer."""
        return self.layers.iloc[self._rows.get(sample_id, [])].sort_values("layer")[["layer", *CURVES]]

    def maps(self, sample_id: str, chosen: Chosen) -> np.ndarray:
        """Flow on one grid in every layer: [L, rows, cols]. Raises UsageError for what the run does not hold."""
        grid = self.grid(sample_id, chosen)
        if chosen.head is not None:
            flow = self.store.head_flow(sample_id)  # [L H V]
            if not 0 <= chosen.head < flow.shape[1]:
                raise UsageError(f"there is no head {chosen.head}", expected=f"from 0 to {flow.shape[1] - 1}")
            flow = flow[:, chosen.head]
        else:
            stored = self.store.sample(sample_id)
            flow = self.store.flow(sample_id)  # [L R V]
            if chosen.row is None:
                flow = flow[:, np.asarray(stored["measured"], dtype=bool)].mean(1)
            elif chosen.row in stored["query_rows"]:
                flow = flow[:, stored["query_rows"].index(chosen.row)]
            else:
                raise UsageError(f"{self.name} does not store row {chosen.row} of sample {sample_id}",
                                 expected="one of its query_rows")  # fmt: skip
        return on_grid(flow, grid)

    def nearest(self, sample_id: str, chosen: Chosen) -> Chosen:
        """What can be shown in place of `chosen`: the mean of the rows where the row is not stored."""
        lacks = chosen.row is not None and chosen.row not in self.store.sample(sample_id)["query_rows"]
        return replace(chosen, row=None) if lacks else chosen

    def shown(self, sample_id: str, chosen: Chosen) -> tuple[np.ndarray | None, str]:
        """As `maps`, of the `nearest`, and a word where that is another or there is none to show."""
        nearest = self.nearest(sample_id, chosen)
        try:
            return self.maps(sample_id, nearest), "" if nearest == chosen else "row not stored: mean"
        except VifError as error:
            return None, f"no map: {error}"

    def grid(self, sample_id: str, chosen: Chosen) -> dict[str, Any]:
        grids = self.store.grids(sample_id)
        if not 0 <= chosen.grid < len(grids):
            raise UsageError(
                f"sample {sample_id} of {self.name} has {len(grids)} maps, not map {chosen.grid}",
                expected="a model whose visual tokens form a grid" if not grids else f"from 0 to {len(grids) - 1}",
            )
        return grids[chosen.grid]

    def head_maps(self, sample_id: str, grid: int, layer: int) -> np.ndarray:
        """Every head's map in one layer: [H, rows, cols]. Raises UsageError for what the run does not hold."""
        return on_grid(self.store.head_flow(sample_id, layer=layer), self.grid(sample_id, Chosen(grid=grid)))

    def heads(self, sample_id: str) -> int:
        """How many heads have maps of their own; 0 where the run keeps none."""
        try:
            return self.store.head_flow(sample_id, layer=0).shape[0]
        except VifError:
            return 0


class Catalogue:
    """The runs, the baseline first, and the samples that the first of them holds.

    answers: runs of single questions that were asked live, which stand on no page but their sample's.
    """

    def __init__(self, runs: Sequence[Browsed], problems: Sequence[str] = ()) -> None:
        self.runs = list(runs)
        self.answers: list[Browsed] = []
        self._refused = list(problems)

    @classmethod
    def open(cls, paths: Sequence[Path]) -> Catalogue:
        """Opens runs; one that cannot be opened is named in `problems` and passed over. Raises UsageError where that
        leaves none."""
        runs: list[Browsed] = []
        refused: list[str] = []
        for path in paths:
            try:
                store = RunStore.open(path)
            except VifError as error:
                refused.append(str(error))
                continue
            if store.layers().empty:
                refused += store.problems or [str(UsageError(f"run {path} holds no measured sample"))]
                continue
            taken = {run.name for run in runs}
            name = path.resolve().name
            runs.append(Browsed(store, name if name not in taken else f"{name} ({len(runs) + 1})", len(runs)))
        if not runs:
            raise UsageError(" ".join(refused))
        return cls(runs, refused)

    @property
    def problems(self) -> list[str]:
        """Runs and shards that are corrupt, so far as read."""
        return [*self._refused, *(problem for run in self.runs for problem in run.store.problems)]

    @cached_property
    def samples(self) -> pd.DataFrame:
        """A row a measured sample of the first run, indexed by sample_id: question, answer, kind, size, each run's
        response and correct (suffix _0, _1, ...), deep-layer metrics of the last run, and `entropy_change`: its entropy
        less the first run's."""
        first = self.runs[0].store.samples()
        first = first[first["error"].isna()].set_index("sample_id")
        table = first[["question", "answer", "kind", "size"]].astype(object).fillna("")
        for number, run in enumerate(self.runs):
            mine = run.store.samples().set_index("sample_id")
            table[f"response_{number}"] = mine["response"].reindex(table.index).fillna("")
            table[f"correct_{number}"] = mine["correct"].reindex(table.index)
        table = table.join(self.runs[-1].deep)
        change = self.runs[-1].deep["visual_entropy"] - self.runs[0].deep["visual_entropy"]
        return table.assign(entropy_change=change.reindex(table.index))

    @cached_property
    def ids(self) -> list[str]:
        """Ids of the samples, sorted."""
        return sorted(self.samples.index)

    def add_answers(self, found: Sequence[tuple[Path, str]]) -> None:
        """Runs of one question that was asked live, and what each is called."""
        self.answers += [Browsed(RunStore.open(path), name, place) for place, (path, name) in enumerate(found)]

    def place(self, run: Browsed) -> int:
        """The number by which addresses of pictures name a run."""
        return [*self.runs, *self.answers].index(run)

    def holders(self, sample_id: str) -> list[Browsed]:
        """The runs that measured a sample. Raises UsageError where none did."""
        found = [run for run in [*self.runs, *self.answers] if sample_id in run.deep.index]
        if not found:
            raise UsageError(f"no run holds sample {sample_id}", expected="an id from the page of samples")
        return found

    def find(
        self,
        text: str = "",
        kind: str = "",
        size: str = "",
        verdict: str = "",
        sort: str = "sample_id",
        down: bool = False,
    ) -> list[str]:
        """Ids of the samples that fit, sorted. text: part of question, answer or id.   verdict: "right" or "wrong" (of
        the last run), or "differ" (right in one run, wrong in another)."""
        table = self.samples
        keep = pd.Series(True, index=table.index)
        if text:
            words = table["question"] + " " + table["answer"] + " " + table.index.to_series()
            keep &= words.str.contains(text, case=False, regex=False)
        keep &= (table["kind"] == kind) if kind else True
        keep &= (table["size"] == size) if size else True
        if verdict == "differ":
            verdicts = table[[f"correct_{number}" for number in range(len(self.runs))]]
            keep &= verdicts.nunique(axis=1) > 1
        elif verdict:
            keep &= (table[f"correct_{len(self.runs) - 1}"] == (verdict == "right")).fillna(False).astype(bool)
        found = table[keep]
        if sort in found.columns:
            return found[sort].sort_values(ascending=not down, kind="stable", na_position="last").index.tolist()
        return sorted(found.index, reverse=down)

    def picture(self, number: int, sample_id: str, i: int = 0) -> bytes:
        """An image of a sample as PNG. Raises UsageError for what the runs do not hold, VifError for a broken file."""
        return self._store(number).png(sample_id, i)

    @lru_cache(maxsize=512)  # noqa: B019  one catalogue lives as long as its server
    def thumbnail(self, number: int, sample_id: str) -> bytes:
        """A sample's first image as PNG, at most THUMBNAIL_PX on a side. Raises like `picture`."""
        image = self._store(number).image(sample_id)
        image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        return buffer.getvalue()

    def _store(self, number: int) -> RunStore:
        every = [*self.runs, *self.answers]
        if not 0 <= number < len(every):
            raise UsageError(f"there is no run {number}")
        return every[number].store
