"""The model card of an embedded model: how it was trained, what it answers, and that it answers because it looks."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from vif_core.data.sample import Sample
from vif_core.data.specks import Specks
from vif_core.data.specks.questions import KINDS
from vif_core.data.specks.words import SIZES
from vif_core.load import load
from vif_core.train.recipe import Recipe, read_stages
from vif_core.vlm.model import VLM
from vifscope import pipeline
from vifscope.evidence.answers import answer_all
from vifscope.evidence.blind import accuracy_by_kind, blank, majority_answers, without_image
from vifscope.evidence.knockout import box_knockout
from vifscope.evidence.markdown import number, share, table
from vifscope.figures.theme import LIGHT, TEXT_IN, style
from vifscope.measure import Reading
from vifscope.runs import RunStore
from vifscope.scoring.answers import score_response
from vifscope.summary import summary_dict
from vifscope.versions import versions

N_TEST, N_HELD_OUT, N_MAJORITY, N_KNOCKOUT, N_ANALYSIS = 2100, 1050, 7000, 420, 500
LOOKS = ("attribute", "text", "grounding")  # kinds whose answer lies in one target box


def write_card(training: Path, recipe_name: str = "mini-llava", blind: Path | None = None) -> Path:
    """Measure the model trained in `training` and write README.md, card.json and learning.png beside its weights.

    blind: folder of the training on text alone; its column stays empty without it.
    Returns the path of README.md. Raises VifError where the folder holds no trained model.
    """
    recipe = read_stages(recipe_name)
    folder = training / recipe.model
    vlm = load(folder)
    learning = learning_lines(training / "learning.jsonl")
    figures = measure_card(vlm, load(blind) if blind else None, training)
    figures["training"] = {
        "minutes": {stage: round(spent / 60, 1) for stage, spent in seconds(learning).items()},
        "machine": machine(),
        "versions": versions(),
    }
    (folder / "card.json").write_text(json.dumps(figures, indent=1) + "\n")
    learning_figure(learning).savefig(folder / "learning.png", dpi=130)
    card = folder / "README.md"
    card.write_text(card_text(recipe, figures))
    return card


def measure_card(vlm: VLM, blind: VLM | None, work: Path) -> dict[str, Any]:
    """Everything that the card states, measured on splits that training never saw."""
    test = [Specks("test")[i] for i in range(N_TEST)]
    held_out = [Specks("heldout")[i] for i in range(N_HELD_OUT)]
    responses = answer_all(vlm, test)
    majority = majority_answers([Specks("train")[i] for i in range(N_MAJORITY)])
    short = [sample for sample in test if sample.kind != "describe"]
    accuracy = {
        "test": accuracy_by_kind(test, responses),
        "held-out pairs": accuracy_by_kind(held_out, answer_all(vlm, held_out)),
        "majority answer": accuracy_by_kind(test, [majority(sample) for sample in test]),
        "blank image": accuracy_by_kind(test, answer_all(vlm, [blank(sample) for sample in test])),
    }
    if blind:
        accuracy["text alone"] = accuracy_by_kind(test, answer_all(blind, [without_image(s) for s in test]))
    one_box = [sample for sample in short if sample.kind in LOOKS and sample.boxes][:N_KNOCKOUT]
    run = RunStore.open(pipeline.analyze(vlm, Specks("test"), N_ANALYSIS, work / "card-run", Reading(), overwrite=True))
    cut = box_knockout(vlm, one_box)
    return {
        "accuracy": accuracy,
        "by_size": _by_size(test, responses),
        "knockout": {"n": len(cut), **{name: float(cut[name].mean()) for name in ("clean", "target", "distractor")}},
        "attention": {key: value for key, value in summary_dict(run).items() if key not in ("run", "files")},
    }


def learning_figure(learning: pd.DataFrame) -> Figure:
    """Token accuracy by kind of question over the steps of the stages with questions, on scenes never seen before."""
    asked = [f"token_accuracy_{kind}" for kind in KINDS if f"token_accuracy_{kind}" in learning]
    with style(LIGHT):
        figure = Figure(figsize=(TEXT_IN, 3.0), layout="constrained")
        axes = figure.subplots()
        start = 0
        for place, (stage, part) in enumerate(learning.dropna(subset=asked, how="all").groupby("stage", sort=False)):
            steps = start + part["step"]
            for i, kind in enumerate(KINDS):
                column = f"token_accuracy_{kind}"
                if column in part and part[column].notna().any():
                    axes.plot(steps, part[column], color=f"C{i}", lw=1.2, label=kind if start == 0 else None)
            axes.axvline(start, color=LIGHT.muted, lw=0.6)
            axes.text(
                start,
                1.02 + 0.07 * (place % 2),
                f" {stage}",
                fontsize=7,
                color=LIGHT.muted,
                transform=axes.get_xaxis_transform(),
            )
            start = int(steps.max())
        axes.set(xlabel="step", ylabel="token accuracy", ylim=(0, 1), xlim=(0, start))
        figure.legend(loc="outside right upper", frameon=False, fontsize=7)
    return figure


def card_text(recipe: Recipe, figures: dict[str, Any]) -> str:
    """The card in Markdown."""
    accuracy, cut, attention = figures["accuracy"], figures["knockout"], figures["attention"]
    columns = list(accuracy)
    kinds = ["overall", *KINDS]
    by_kind = table(["kind", *columns], [[kind, *(share(accuracy[c].get(kind)) for c in columns)] for kind in kinds])
    by_size = table(
        ["kind", *SIZES],
        [[kind, *(share(sizes.get(size)) for size in SIZES)] for kind, sizes in figures["by_size"].items()],
    )
    minutes = figures["training"]["minutes"]
    stages = table(
        ["stage", "learns", "steps", "rows a step", "learning rate", "minutes"],
        [[s.name, ", ".join(s.train), s.steps, s.rows, f"{s.lr:g}", minutes.get(s.name, "")] for s in recipe.stages],
    )
    layers = table(
        ["layer", "visual ratio", "ratio lift", "relative entropy", "box lift"],
        [
            [
                row["layer"],
                *(number(row[name]) for name in ("visual_ratio", "ratio_lift", "relative_entropy", "box_lift")),
            ]
            for row in attention["layers"]
        ],
    )
    training = figures["training"]
    versions_used = ", ".join(f"{name} {training['versions'].get(name)}" for name in ("torch", "transformers"))
    return f"""# {recipe.model}

A small LLaVA ({len(attention["layers"])} decoder layers, 12 x 12 visual tokens of 8 px), trained from nothing on
`specks`, the procedural benchmark of this project. It exists so that every part of vifscope runs offline on a model
whose attention means something. It knows {len(KINDS)} kinds of question about coloured shapes, and nothing else.

## Accuracy

On {N_TEST} samples of the test split, and on {N_HELD_OUT} of the split with shape-colour pairs that were never trained
on. A place is right from an IoU of 0.5 on, a description from an F1 of 0.5 of its facts. The columns to the right of
these two are what can be had without looking; the best of them is the blind baseline.

{by_kind}

By the size of the target (the smallest one of several), test split:

{by_size}

## It answers because it looks

{cut["n"]} test questions about one box ({", ".join(LOOKS)}): right {share(cut["clean"])} as they are,
{share(cut["target"])} when no text row may see the patches of the target box at any layer, and
{share(cut["distractor"])} when the same is done to an equal box elsewhere.

## Attention

{N_ANALYSIS} test samples, response rows, head mean: {attention["sentence"]}

{layers}

## Training

`vifscope train {recipe.model}` runs it again: seed {recipe.seed}, {recipe.processes} processes of one thread each on
{training["machine"]}, {sum(minutes.values()):.0f} minutes in all. Muon for matrices and AdamW for the rest; warm-up,
constant rate, decay; bf16 autocast; loss on answers, plus dense patch labels where a picture is shown; rows of one
scene with many questions behind it. No scene is shown twice, so the curve below, from which the stages were settled, is
on scenes not seen before; the test split had no part in it.

{stages}

![learning curve](learning.png)

Made with {versions_used}. Licence: Apache-2.0.
"""


def _by_size(samples: Sequence[Sample], responses: Sequence[str]) -> dict[str, dict[str, float]]:
    """Accuracy by kind (and overall) and size of the target; kinds without sizes left out."""
    frame = pd.DataFrame(
        {
            "kind": sample.kind,
            "size": sample.size,
            "right": bool(score_response(sample, response)[0]),
        }
        for sample, response in zip(samples, responses, strict=True)
        if sample.size
    )
    frame = pd.concat([frame.assign(kind="overall"), frame])
    return {
        str(kind): {str(size): float(right) for size, right in part.groupby("size")["right"].mean().items()}
        for kind, part in frame.groupby("kind", sort=False)
    }


def learning_lines(path: Path, by: str = "stage") -> pd.DataFrame:
    """Log lines by stage (or phase) and step; of a step that was run again after an interruption, the last one.

    What was not finite is NaN.
    """
    lines = pd.DataFrame(json.loads(line) for line in path.read_text().splitlines())
    return lines.groupby([by, "step"], sort=False).last().reset_index()


def seconds(learning: pd.DataFrame, by: str = "stage") -> dict[str, float]:
    """Wall time of each stage: what its last log line tells, without interruptions.

    Where lines tell none, it is that between them, and the steps before the first one are taken to last as the others.
    """
    found = {}
    for stage, part in learning.groupby(by, sort=False):
        part = part.sort_values("step")
        first, last = part.iloc[0], part.iloc[-1]
        if pd.notna(last.get("seconds")):
            found[str(stage)] = float(last["seconds"])
        elif last["step"] > first["step"]:
            found[str(stage)] = float(last["time"] - first["time"]) * last["step"] / (last["step"] - first["step"])
    return found


def machine() -> str:
    """What the training ran on, in words."""
    return f"{platform.machine()}, {os.cpu_count()} cores, no GPU"
