"""Arms x seeds: train each, measure each, resume where that stopped."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
import yaml

from vif_core.errors import UsageError, VifError
from vif_core.train.phases import PhaseRecipe
from vif_core.train.recipe import read_recipe, train
from vifscope.ablation.arms import ARMS, arm_recipe, scaled
from vifscope.ablation.experiment import Experiment, Numbers
from vifscope.ablation.measures import Measurer, Part
from vifscope.ablation.result import Ablation
from vifscope.ablation.samples import Asked, batches_of
from vifscope.evaluation.lines import AnswerLines
from vifscope.pipeline import Progress
from vifscope.runs.disk import lock, make_folders

BATCH_SIZE = 64
LOCK = ".lock"
TRIED_STEPS = 10
"""Steps of each phase from which the time of a step is taken; the first two are left out."""

Measure = Callable[[Part, Sequence[Sequence[Asked]]], Iterator[list[dict[str, Any]]]]


def ablate(
    recipe: str | Path = "mini-llava-vif",
    out: str | Path | None = None,
    *,
    budget_minutes: float | None = None,
    steps: int | None = None,
    arms: Sequence[str] = tuple(ARMS),
    seeds: Sequence[int] = (1, 2, 3),
    numbers: Numbers | None = None,
    data: str | None = None,
    model: str | None = None,
    processes: int | None = None,
    progress: Progress = lambda *_: None,
) -> Ablation:
    """What `vifscope.ablate` does."""
    read = read_recipe(recipe)
    if not isinstance(read, PhaseRecipe):
        raise UsageError(f"recipe {recipe} has stages", expected="one of phases with VIF, such as mini-llava-vif")
    whole = read.changed(model=model, processes=processes)
    for arm in arms:
        arm_recipe(whole, arm)
    if budget_minutes is not None and steps is not None:
        raise UsageError("both a budget and steps are given", expected="one of them")
    if budget_minutes is not None and budget_minutes <= 0:
        raise UsageError(f"the budget is {budget_minutes} minutes", expected="more than 0")
    path = Path("runs") / f"ablate-{whole.name}" if out is None else Path(out)
    asked = {
        "recipe": whole.to_values(),
        "budget_minutes": budget_minutes,
        "steps": steps,
        "data": data or _test_data(whole),
    }

    def settle() -> PhaseRecipe:
        if steps is not None:
            return scaled(whole, steps)
        return whole if budget_minutes is None else _within(whole, budget_minutes, path / "trial", progress)

    def waiting() -> None:
        progress(f"waiting for another process to begin or to tabulate {path}", 0, 0)

    make_folders(path)
    with lock(path / LOCK, f"experiment {path}", waiting):
        experiment = Experiment.begin(path, asked, numbers or Numbers(), settle, str(recipe))
        experiment.samples(lambda done, total: progress("choosing samples", done, total))
    experiment.finished()  # what was measured of another recipe or other data is refused before anything is trained
    rounds = [(arm, seed) for seed in seeds for arm in arms]
    for number, (arm, seed) in enumerate(rounds, 1):
        if not experiment.lacking(arm, seed):
            continue
        named = f"{arm}, seed {seed}"
        progress(f"{named} ({number} of {len(rounds)}): training", 0, 0)
        train(experiment.recipe_file(arm), experiment.training(arm, seed), seed=seed)
        _measure(experiment, arm, seed, lambda part, *at, named=named: progress(f"{named}: {part}", *at))
    ablation = Ablation(experiment)
    with lock(path / LOCK, f"experiment {path}", waiting):
        ablation.write()
    return ablation


def _test_data(recipe: PhaseRecipe) -> str:
    sources = {str(each.source) for phase in recipe.phases for each in recipe.data_of(phase)}
    if all(source.partition(":")[0] == "specks" for source in sources):
        return "specks:test"
    raise UsageError(
        f"recipe {recipe.name} trains on {', '.join(sorted(sources))}, whose test split is not known",
        expected="what to ask the trained models about",
        next_step="Name it with --data",
    )


def _within(recipe: PhaseRecipe, minutes: float, trial: Path, progress: Progress) -> PhaseRecipe:
    """The recipe in as many steps as its training takes so many minutes for, by a short trial on this machine.

    Raises UsageError where not even a step a phase fits.
    """
    phases = tuple(replace(phase, steps=TRIED_STEPS, epochs=None) for phase in recipe.phases)
    short = replace(recipe, phases=phases, log_steps=1, save_steps=10 * TRIED_STEPS)
    shutil.rmtree(trial, ignore_errors=True)
    make_folders(trial)
    (trial / "trial.yaml").write_text(yaml.safe_dump(short.to_values(), sort_keys=False))
    progress("a trial of a few steps, for the time of each", 0, 0)
    start = time.monotonic()
    train(trial / "trial.yaml", trial / "training")
    spent = time.monotonic() - start
    lines = [json.loads(line) for line in (trial / "training" / "learning.jsonl").read_text().splitlines()]
    told = {(line["phase"], line["step"]): line["time"] for line in lines}
    each = [(told[p.name, TRIED_STEPS] - told[p.name, 2]) / (TRIED_STEPS - 2) for p in phases]
    shutil.rmtree(trial)
    return _fitting(recipe, each, 60 * minutes, start=max(0.0, spent - TRIED_STEPS * sum(each)))


def _fitting(recipe: PhaseRecipe, step_seconds: Sequence[float], seconds: float, start: float) -> PhaseRecipe:
    """The recipe scaled so that its steps, and what a training takes besides, fill so many seconds."""
    known = [phase.steps or 0 for phase in recipe.phases]
    total = sum(known)
    mean = sum(n * each for n, each in zip(known, step_seconds, strict=True)) / max(1, total)
    steps = int((seconds - start) / max(mean, 1e-6))
    if steps < len(known):
        raise UsageError(
            f"a training that takes {start:.0f} s besides its steps, and {mean:.1f} s a step, within {seconds:.0f} s",
            expected="time for a step of each phase",
            next_step="Raise --budget",
        )
    return scaled(recipe, steps)


def _measure(experiment: Experiment, arm: str, seed: int, progress: Progress) -> None:
    """Measures what the arm's training with this seed lacks."""
    recipe = arm_recipe(experiment.recipe, arm)
    make_folders(experiment.training(arm, seed) / "measured")
    processes = 1 if torch.cuda.is_available() else recipe.processes or 1
    model = experiment.model(arm, seed), recipe.maps_from, experiment.data
    with _measurers(*model, processes=processes) as records_of:
        for part in experiment.lacking(arm, seed):
            chosen = experiment.chosen(part)
            with AnswerLines(experiment.identity(arm, seed, part), experiment.measured(arm, seed, part)) as lines:
                batches = batches_of(chosen, BATCH_SIZE)
                left = [batch for batch in batches if not {each.sample_id for each in batch} <= lines.done]
                done = len(chosen) - sum(map(len, left))
                progress(part.name, done, len(chosen))
                for records in records_of(part, left):
                    lines.add([record for record in records if record["sample_id"] not in lines.done])
                    done += len(records)
                    progress(part.name, done, len(chosen))
            if not lines.done & {each.sample_id for each in chosen}:
                raise VifError(
                    f"{arm}, seed {seed}, {part.name}: none of the {len(chosen)} samples could be measured; the first: "
                    f"{lines.records[chosen[0].sample_id]['error']}"
                )


@contextmanager
def _measurers(model: Path, maps_from: Any, data: str, *, processes: int) -> Iterator[Measure]:
    """Measures batches in this process, or in several of one thread each."""
    if processes == 1:
        measurer = Measurer(model, maps_from, data)
        yield lambda part, batches: (measurer(part, batch) for batch in batches)
        return
    spawn = multiprocessing.get_context("spawn")  # a fork would share this process's threads
    pool = ProcessPoolExecutor(processes, spawn, _start, (model, maps_from, data))
    try:
        yield lambda part, batches: pool.map(_measured, repeat(part), batches)
    finally:
        pool.shutdown(cancel_futures=True)


_own: list[Measurer] = []
"""In a process of `_measurers`: its measurer."""


def _start(model: Path, maps_from: Any, data: str) -> None:
    _own.append(Measurer(model, maps_from, data, threads=1))


def _measured(part: Part, asked: Sequence[Asked]) -> list[dict[str, Any]]:
    return _own[0](part, asked)
