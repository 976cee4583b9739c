"""Run a recipe's phases inside one of its processes: `python -m vif_core.train.tune OUT`, which holds the recipe."""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from math import ceil
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
from torch import distributed
from transformers import set_seed
from transformers.trainer_utils import get_last_checkpoint
from transformers.utils import logging

from vif_core.data.open import open_training
from vif_core.errors import UsageError, VifError
from vif_core.load import DTYPES, load
from vif_core.train.checkpoint import load_trained, save_trained
from vif_core.train.conversations import ConversationRows, Reader
from vif_core.train.groups import add_lora, learning, merge_lora
from vif_core.train.learner import Learner
from vif_core.train.packed import PackedRows
from vif_core.train.phases import PACKED, Phase, PhaseRecipe
from vif_core.train.recipe import RECORD, read_recipe
from vif_core.train.records import ProgressBar, Records
from vif_core.train.rows import Mixture, Rows
from vif_core.train.tuner import PhaseTrainer, training_arguments
from vif_core.train.watch import Watch
from vif_core.vif.config import VIFConfig
from vif_core.vif.model import add_vif
from vif_core.vlm.discover import blocks_of, decoder_of
from vif_core.vlm.model import VLM


def run_phases(recipe: PhaseRecipe, out: Path, vlm: VLM | None = None) -> Path:
    """Train phase after phase, keep what each one learned, and write the trained model's folder, which is returned.

    A phase whose weights are kept is not run again; one with a checkpoint goes on from it.
    vlm: the model, where it is loaded already.
    """
    gpu = torch.cuda.is_available()
    if not gpu:
        torch.set_num_threads(1)
    set_seed(recipe.seed)
    vlm = vlm or load(recipe.model, device=f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if gpu else "cpu")
    vlm.refuse_crossing()
    attach(recipe, vlm)
    if recipe.compile:
        for block in blocks_of(vlm.model, vlm.layers):
            block.forward = torch.compile(block.forward, dynamic=False)
    before, vif_steps, learned = 0, 0, set[str]()
    for number, phase in enumerate(recipe.phases):
        order = number if phase.order is None else phase.order
        model = Learner(vlm)  # accelerate prepares a module once: used again, it would run without autocast
        set_seed(recipe.seed + order)  # fresh adapters do not depend on whether the phases before were run or skipped
        if phase.lora:
            add_lora(vlm.model, phase.lora)
        groups = learning(model, phase)
        learned |= {name for named in groups.values() for name, _ in named}
        rows, steps = phase_rows(recipe, phase, order, vlm)
        kept, folder = out / f"{number}-{phase.name}.safetensors", out / f"{number}-{phase.name}"
        if kept.exists():
            load_trained(model, kept)
        else:
            _checkpointing(vlm.model, phase.gradient_checkpointing)
            trainer = PhaseTrainer(
                model,
                phase,
                training_arguments(recipe, phase, folder, steps, recipe.seed + order),
                rows,
                groups,
                recipe.optimizer,
                [
                    Records(out, phase.name, before),
                    ProgressBar(phase.name),
                    Watch(phase.name, phase.losses.settled, vif_steps),
                ],
            )
            if rank := trainer.args.process_index:  # weights are alike; what it draws from here on is its own
                set_seed(crc32(f"{recipe.seed + order} {rank}".encode()))
            trainer.train(resume_from_checkpoint=get_last_checkpoint(str(folder)) if folder.is_dir() else None)
            if _first_process():
                save_trained(model, kept)
                shutil.rmtree(folder, ignore_errors=True)
            trainer.accelerator.wait_for_everyone()
        before += steps
        vif_steps += steps if "vif" in phase.train else 0
    folder = out / recipe.name
    if _first_process():
        part = folder.with_name(folder.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        write_model(Learner(vlm), part, learned, recipe.save_dtype)
        part.rename(folder)
    return folder


def attach(recipe: PhaseRecipe, vlm: VLM) -> None:
    """Give the model the recipe's VIF; the control has none. Raises UsageError where model and recipe disagree."""
    if vlm.vif is None and recipe.vif is not None:
        add_vif(vlm, recipe.vif)
    elif vlm.vif is not None and (recipe.vif is None or _resolved(recipe.vif, vlm) != vlm.vif.config):
        raise UsageError(
            f"model {vlm.name} has VIF already, and not as the recipe has it",
            expected="its own configuration under vif, to train it further",
            next_step="Give the base model, or copy its configuration into the recipe",
        )
    if vlm.vif is not None:
        vlm.vif.maps_from = recipe.maps_from


def _resolved(config: VIFConfig, vlm: VLM) -> VIFConfig:
    return config.resolved(len(blocks_of(vlm.model, vlm.layers)), decoder_of(vlm.model).config.hidden_size)


def phase_rows(recipe: PhaseRecipe, phase: Phase, number: int, vlm: VLM) -> tuple[Mixture, int]:
    """The phase's rows in order, and its steps. Raises UsageError for data that is missing or does not fit."""
    sources: list[Rows] = []
    data = recipe.data_of(phase)
    for each in data:
        if each.source == PACKED:
            sources.append(PackedRows.of(vlm, each.pack, seed=recipe.seed, phase=number))
            continue
        conversations = open_training(str(each.source))
        skipped = getattr(conversations, "skipped", "")
        if skipped and _first_process():
            print(f"vifscope: {conversations.name}: left out {skipped}", file=sys.stderr)
        sources.append(ConversationRows(conversations, Reader.of(vlm), phase.max_length))
    endless = [source.name for source in sources if not len(source)]
    if endless and (phase.epochs is not None or (len(sources) > 1 and any(each.share is None for each in data))):
        raise UsageError(
            f"phase {phase.name} counts the rows of {endless[0]}, which are endless",
            expected="steps in place of epochs, and a share for each of several sources",
        )
    steps = phase.steps or sys.maxsize
    if phase.epochs is not None:
        steps = min(steps, ceil(phase.epochs * sum(map(len, sources)) / phase.rows))
    shares = [1.0] if len(sources) == 1 else [each.share for each in data]
    return Mixture(sources, shares, seed=recipe.seed, phase=number, length=steps * phase.rows), steps


def write_model(model: Learner, folder: Path, learned: Collection[str], dtype: str | None = None) -> None:
    """The trained model's folder: VIF with what was trained beside it, or the plain model with its processor.

    learned: names of the parameters that learned in some phase. Adapters of a model with VIF are kept apart, unless
    other weights of the base have learned too; those of the control are folded into its weights.
    """
    base: Any = model.base
    if dtype:
        model.to(DTYPES[dtype])
    adapted = getattr(base, "peft_config", None)
    if adapted and (model.vif is None or any(n.startswith("base.") and "lora_" not in n for n in learned)):
        merge_lora(base)
        learned = {*learned, *(f"base.{name}" for name, _ in base.named_parameters())}
    if model.vif is not None:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in learned)  # VIF writes the base where some of it learns
        model.vif.save_pretrained(folder)
        return
    base.save_pretrained(folder)
    model.vlm.processor.save_pretrained(folder)


@contextmanager
def sole_training(out: Path) -> Iterator[None]:
    """Within the block no other process trains in `out`. Raises UsageError where one does."""
    with (out / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(
                f"another process trains in {out}", expected="one at a time", next_step="Wait for it, or end it"
            ) from error
        yield


def _checkpointing(base: Any, wanted: bool) -> None:
    """Recompute activations in the backward pass, or keep them."""
    old = not hasattr(base, "activation_checkpointing_enable")  # its name in earlier versions of transformers
    name = "gradient_checkpointing" if old else "activation_checkpointing"
    if wanted:
        getattr(base, f"{name}_enable")({"use_reentrant": False})
    elif getattr(base, f"is_{name}"):
        getattr(base, f"{name}_disable")()


def _first_process() -> bool:
    return os.environ.get("RANK", "0") == "0"


def main(out: Path) -> int:
    logging.disable_progress_bar()
    try:
        if not _first_process():
            run_phases(_recipe(out), out)
        else:
            with sole_training(out):
                run_phases(_recipe(out), out)
        _part()
    except VifError as error:
        print(f"vifscope: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _part() -> None:
    """Ends the group of processes together: one that leaves while another still talks to it can make that one abort."""
    if distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()


def _recipe(out: Path) -> PhaseRecipe:
    recipe = read_recipe(out / RECORD)
    assert isinstance(recipe, PhaseRecipe)
    return recipe


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
