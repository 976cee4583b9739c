"""Run a recipe's stages inside one of its processes: `python -m vif_core.train.stages RECIPE OUT`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from transformers import LlavaForConditionalGeneration, TrainingArguments, set_seed
from transformers.trainer_utils import get_last_checkpoint

from vif_core.train.dense import label_ids
from vif_core.train.mini_llava import build_processor, config, draw_weights
from vif_core.train.packing import PackedSpecks, PackOptions
from vif_core.train.recipe import Recipe, Stage, read_stages
from vif_core.train.trainer import SpecksTrainer, TrainedLlava

_PARTS = {"decoder": "language_model", "vision": "vision_tower", "projector": "multi_modal_projector"}


def run_stages(recipe: Recipe, out: Path) -> None:
    """Train stage after stage, keep each one's weights, and save the model in bf16 with its processor at the end.

    A stage whose weights are kept is not run again; one with checkpoints goes on from the last.
    """
    torch.set_num_threads(1)
    first_process = os.environ.get("RANK", "0") == "0"
    processor = build_processor()
    word_ids = processor.tokenizer.get_vocab()
    torch.manual_seed(recipe.seed)
    trained = TrainedLlava(config())
    draw_weights(trained)
    trained.label_ids = label_ids(word_ids)
    if recipe.compile:
        for layer in (*trained.model.language_model.layers, *trained.model.vision_tower.encoder.layers):
            layer.forward = torch.compile(layer.forward, dynamic=False)
    for number, stage in enumerate(recipe.stages):
        weights = out / f"{number}-{stage.name}.pt"
        if weights.exists():
            trained.load_state_dict(torch.load(weights, weights_only=True))
            continue
        _run_stage(recipe, stage, number, trained, word_ids, out)
        if first_process:
            torch.save(trained.state_dict(), weights.with_suffix(".part"))
            weights.with_suffix(".part").replace(weights)
    if first_process:
        model = LlavaForConditionalGeneration(config())
        kept = {name: value for name, value in trained.state_dict().items() if not name.startswith("foreground")}
        model.load_state_dict(kept)
        model.bfloat16().save_pretrained(out / recipe.model)
        processor.save_pretrained(out / recipe.model)


def _run_stage(
    recipe: Recipe, stage: Stage, number: int, model: TrainedLlava, word_ids: dict[str, int], out: Path
) -> None:
    set_seed(recipe.seed + number)
    for name, parameter in model.named_parameters():
        learns = any(_PARTS[part] in name for part in stage.train) or (stage.dense > 0 and "foreground" in name)
        unread = "post_layernorm" in name  # of CLIP's pooled output, which LLaVA does not read
        parameter.requires_grad_(learns and not unread)
    folder = out / f"{number}-{stage.name}"
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=stage.steps,
        per_device_train_batch_size=stage.rows // processes,
        learning_rate=stage.lr,
        weight_decay=0.02,
        max_grad_norm=3.0,
        warmup_steps=int(stage.steps * stage.warmup),
        lr_scheduler_type="warmup_stable_decay",
        lr_scheduler_kwargs={"num_decay_steps": int(stage.steps * stage.decay), "min_lr_ratio": 0.01},
        logging_steps=recipe.log_steps,
        save_steps=recipe.save_steps,
        use_cpu=True,
        bf16=True,
        ddp_backend="gloo" if processes > 1 else None,
        ddp_find_unused_parameters=False,
        report_to=[],
        remove_unused_columns=False,
        seed=recipe.seed + number,
        dataloader_pin_memory=False,
    )
    rows = PackedSpecks(
        PackOptions(**stage.pack), word_ids, seed=recipe.seed, stage=number, rows=stage.steps * stage.rows
    )
    trainer = SpecksTrainer(
        model,
        arguments,
        rows,
        answers=stage.answers,
        dense=stage.dense,
        vision_scale=stage.vision_scale,
        records=out / "learning.jsonl",
        stage=stage.name,
    )
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(folder)) if folder.is_dir() else None)


if __name__ == "__main__":
    run_stages(read_stages(sys.argv[1]), Path(sys.argv[2]))
