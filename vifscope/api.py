"""What a notebook uses: load a model, analyze or evaluate it, open what was written, compare it, look at it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vif_core.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import plotly.graph_objects as go
    from matplotlib.figure import Figure

    from vif_core.data.sample import Source
    from vif_core.vlm.layout import RowKind
    from vif_core.vlm.model import VLM
    from vifscope.ablation import Ablation
    from vifscope.comparison import Comparison
    from vifscope.evaluation import Evaluation
    from vifscope.figures.gallery import Gallery
    from vifscope.figures.viewer import View
    from vifscope.runs import RunStore

EMBEDDED = "mini-llava"


def load(model: str | Path = EMBEDDED, *, device: str = "auto", dtype: str = "auto") -> VLM:
    """A vision-language model: "mini-llava", a local folder or a hub id. Raises VifError where it cannot be loaded."""
    from vif_core.load import load as load_model

    return load_model(model, device=device, dtype=dtype)


def analyze(
    model: str | Path | VLM = EMBEDDED,
    data: str | Path | Source = "specks",
    n: int = 500,
    out: str | Path | None = None,
    *,
    rows: RowKind = "response",
    store_rows: RowKind | None = None,
    max_rows: int | None = None,
    response: Literal["generated", "given"] = "generated",
    max_new_tokens: int = 96,
    batch_size: int | Literal["auto"] = "auto",
    seed: int = 0,
    device: str = "auto",
    dtype: str = "auto",
    overwrite: bool = False,
    figures: bool = True,
    progress: Callable[[str, int, int], None] | None = None,
) -> Run:
    """Measures where a model looks while it answers n samples, and writes a run. The same call resumes what stopped.

    model:          "mini-llava", a local folder, a hub id, or what `load` returned.
    data:           "specks", "specks:SPLIT", "hub:OWNER/NAME[:SPLIT]", a folder or listing, or a Source.
    n:              samples: the first n of one permutation by `seed`, so that a larger n extends the run.
    out:            the run's folder; runs/MODEL-DATA-HASH by default.
    rows:           query rows that enter the metrics: "response", "last", "question" or "text".
    store_rows:     query rows whose maps are stored; by default `rows`, and "text" for mini-llava.
    max_rows:       at most so many rows a sample, evenly spaced.
    response:       "generated" greedily, of at most max_new_tokens, or "given": the sample's answer.
    overwrite:      start anew where `out` holds a run of another configuration.
    figures:        write the figures and index.html as well.
    progress:       called with what is being done, how much of it is done, and how much there is.
    Raises UsageError for what cannot be asked for, VifError where no sample can be measured.
    """
    from vifscope import pipeline
    from vifscope.measure import Reading

    kept = store_rows or ("text" if str(getattr(model, "name", model)) == EMBEDDED else rows)
    tell = progress or (lambda *_: None)
    path = pipeline.analyze(
        model,
        data,
        n,
        out,
        Reading(rows, kept, max_rows, response, max_new_tokens),
        batch_size=None if batch_size == "auto" else batch_size,
        seed=seed,
        device=device,
        dtype=dtype,
        overwrite=overwrite,
        progress=tell,
    )
    run = Run(path)
    if figures:
        tell("drawing", 0, 1)
        run.write_report()
        tell("drawing", 1, 1)
    return run


@dataclass(frozen=True)
class Run:
    """One analysis, on disk. `store` gives everything that it holds."""

    path: Path

    @cached_property
    def store(self) -> RunStore:
        from vifscope.runs import RunStore

        return RunStore.open(self.path)

    @property
    def sample_ids(self) -> list[str]:
        """Ids of the measured samples."""
        return self.store.sample_ids

    @property
    def errors(self) -> list[str]:
        """The error lines of the samples that failed."""
        return self.store.samples()["error"].dropna().tolist()

    def summary(self) -> pd.DataFrame:
        """Every layer metric with its bootstrap 95 % interval over images, pooled (group "all") and by question kind.

        Columns group, layer, metric, mean, low, high, n (samples in which the metric is defined).
        """
        return self._gallery.summary

    def samples(self) -> pd.DataFrame:
        """A row a sample: question, answer, response, correct, boxes, tokens, and where everything is."""
        return self.store.samples()

    def video(self) -> pd.DataFrame:
        """Visual ratio and entropy of each frame of the run's videos: columns sample_id, layer, frame, visual_ratio,
        visual_entropy (nats). Raises UsageError for a run without videos."""
        from vifscope.figures.frames import video_frame

        return video_frame(self.store)

    def map(self, sample: str | int, layer: int, row: int | None = None, *, grid: int = 0) -> np.ndarray:
        """Flow of one layer over the visual tokens of an image, laid out on its grid: [rows, cols], not renormalised.

        sample: an id, or its place among `sample_ids`.     layer: from 0; negative from the end.
        row:    place among the stored query rows; None for the mean over the measured ones.
        grid:   which of the sample's grids, where images are tiled or several.
        Raises UsageError for what the run does not hold.
        """
        import numpy as np

        from vifscope.runs.maps import on_grid

        sample_id = (
            self.sample_ids[_place(sample, len(self.sample_ids), "sample")] if isinstance(sample, int) else sample
        )
        flow = self.store.flow(sample_id)  # [L R V]
        stored = self.store.sample(sample_id)
        grids = stored["images"] or []
        if not grids:
            raise UsageError(
                f"the visual tokens of sample {sample_id} have no place in the image",
                expected="a model whose visual tokens form a grid",
                next_step="Read store.flow(sample_id) instead",
            )
        rows = flow[_place(layer, len(flow), "layer")]  # [R V]
        kept = np.asarray(stored["measured"]) if row is None else [_place(row, len(rows), "row")]
        return on_grid(rows[kept].mean(0), grids[_place(grid, len(grids), "grid")])

    def figure(self, name: str = "attenuation") -> Figure:
        """One of "attenuation", "violins", "focus", "shares", "maps", "spotlights" (of a model with VIF) and "video"
        (ratio and entropy by frame).

        Raises UsageError for another name, and for spotlights and videos that the run does not hold.
        """
        return self._gallery.figure(name)

    def interactive(self, name: str = "attenuation") -> go.Figure:
        """The same figures in plotly, with the numbers under the pointer. Raises as `figure` does."""
        return self._gallery.interactive(name)

    def view(self, samples: int | Sequence[str] = 12) -> View:
        """A viewer of some samples, layer by layer: a notebook shows it, and its `html` stands alone as a file.

        samples: ids, or so many of the first. Raises UsageError for samples that the run did not measure.
        """
        from vifscope.figures.viewer import View, viewer_html

        ids = self.sample_ids[:samples] if isinstance(samples, int) else samples
        return View(viewer_html([(self.store, sample_id) for sample_id in ids]))

    def summary_dict(self) -> dict[str, Any]:
        """What the run found, ready for JSON: accuracy, attenuation index, every layer, a sentence, the files written.

        Undefined numbers are None. Keys: `vifscope.summary.summary_dict`.
        """
        from vifscope.summary import summary_dict

        return summary_dict(self.store, frame=self._gallery.summary)

    def write_report(self) -> None:
        """Writes the figures (PNG and PDF), summary.csv and index.html into the run."""
        from vifscope.report import write_report

        write_report(self.store, self._gallery)

    @cached_property
    def _gallery(self) -> Gallery:
        from vifscope.figures.gallery import Gallery

        return Gallery(self.store)


def open_run(path: str | Path) -> Run:
    """The run at `path`. Raises UsageError where there is none."""
    run = Run(Path(path))
    run.store  # noqa: B018  raises where there is no run
    return run


def compare(runs: Sequence[str | Path | Run]) -> Comparison:
    """Runs of the same data held against the first of them, sample by sample.

    runs: two or more, open or as folders, the baseline first. Only samples that all of them measured count.
    Nothing is written before `Comparison.write`. Raises UsageError for runs that cannot be compared: of other data or
    query rows, of another depth, without a common sample.
    """
    from vifscope.comparison import Comparison

    opened = [run if isinstance(run, Run) else open_run(run) for run in runs]
    return Comparison([run.store for run in opened])


def evaluate(
    model: str | Path | VLM = EMBEDDED,
    data: str | Path | Source = "specks",
    n: int | Literal["all"] | None = None,
    out: str | Path | None = None,
    *,
    blind: bool = False,
    max_new_tokens: int = 96,
    batch_size: int | Literal["auto"] = "auto",
    seed: int = 0,
    device: str = "auto",
    dtype: str = "auto",
    progress: Callable[[str, int, int], None] | None = None,
) -> Evaluation:
    """How many of n questions a model answers rightly, without reading its attention.

    model, data, seed:  as for `analyze`, which measures the same samples first.
    n:                  samples; "all" of them, or by default 500, or as many as there are.
    out:                a JSON-lines file with a line a sample; the same call goes on where it stopped. None: no file.
    blind:              also answer every question from a grey image, and with the majority answer to its like.
    batch_size:         "auto" is 64 for models under 100 million parameters, else 8 on an accelerator and 4 on the CPU.
    A sample that fails is recorded and the next one follows. Raises UsageError for what cannot be asked for and for a
    file of another configuration, VifError where no sample can be answered.
    """
    from vifscope import evaluation

    return evaluation.evaluate(
        model,
        data,
        n,
        out,
        blind=blind,
        max_new_tokens=max_new_tokens,
        batch_size=None if batch_size == "auto" else batch_size,
        seed=seed,
        device=device,
        dtype=dtype,
        progress=progress or (lambda *_: None),
    )


def ablate(
    recipe: str | Path = "mini-llava-vif",
    out: str | Path | None = None,
    *,
    budget_minutes: float | None = None,
    steps: int | None = None,
    arms: Sequence[str] | None = None,
    seeds: Sequence[int] = (1, 2, 3),
    n_eval: int = 2000,
    n_flow: int = 400,
    n_checks: int = 500,
    data: str | None = None,
    model: str | None = None,
    processes: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Ablation:
    """Trains and measures the arms of an experiment, seed by seed, and holds them against the control.

    recipe:         one of phases with VIF, by name or path.        model: what is trained, in place of its own.
    out:            folder; runs/ablate-RECIPE by default. The same call goes on where it stopped, another choice of
                    arms, seeds or numbers adds to it, and calls with different arms may run side by side.
    budget_minutes: of each training, turned into steps by a short trial of the recipe on this machine: arms with more
                    layer pairs take longer. Or `steps` over all phases; without either the recipe's own. Phases keep
                    their shares, and warm-ups theirs.
    arms:           of `vifscope.ablation.arms.ARMS`; all by default.   seeds: each arm is trained with each of them.
    n_eval:         samples that are asked about, half of them about tiny objects where there are any; n_flow: of those,
                    how many are read for flow and maps; n_checks: how many are asked again with other maps (arm "vif").
    data:           what is asked about; by default the test split of the recipe's data.
    processes:      of each training, as the recipe has it by default, and of measuring.
    A sample that a model refuses has no value in that arm; the next call tries it again while that model is there.
    Raises UsageError for what cannot be asked for, and where the folder holds what was measured of another recipe or of
    other data; VifError where training fails, or a model refuses every sample.
    """
    from vifscope import ablation
    from vifscope.ablation.arms import ARMS

    return ablation.ablate(
        recipe,
        out,
        budget_minutes=budget_minutes,
        steps=steps,
        arms=tuple(ARMS) if arms is None else arms,
        seeds=seeds,
        numbers=ablation.Numbers(n_eval, n_flow, n_checks),
        data=data,
        model=model,
        processes=processes,
        progress=progress or (lambda *_: None),
    )


def _place(index: int, length: int, what: str) -> int:
    if not -length <= index < length:
        raise UsageError(f"there is no {what} {index}", expected=f"from 0 to {length - 1}")
    return index
