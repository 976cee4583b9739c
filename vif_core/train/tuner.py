"""The HF Trainer as phases use it: a part at its own rate, losses told apart, and checkpoints that resume exactly."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor
from torch.utils.data import SequentialSampler
from transformers import PrinterCallback, TrainerCallback, TrainingArguments

from vif_core.errors import VifError
from vif_core.train.checkpoint import WholeCheckpoints, load_trained, save_trained
from vif_core.train.collate import collate_rows
from vif_core.train.groups import Groups, build_optimizer
from vif_core.train.learner import Learner
from vif_core.train.phases import Phase, PhaseRecipe
from vif_core.train.rows import Mixture
from vif_core.train.watch import map_figures
from vif_core.vif.config import VIFConfig

TRAINED = "trained.safetensors"

LINES = 10
"""Log lines that a phase has at least, where it has the steps: enough to watch over a short one too."""


class PhaseTrainer(WholeCheckpoints):
    """Trains a learner for one phase.

    Each token of a step has the same say in the cross-entropy (by its label weight), however the step's rows are
    shared between processes and turns of accumulation; VIF's losses are means over these.
    """

    def __init__(
        self,
        model: Learner,
        phase: Phase,
        arguments: TrainingArguments,
        rows: Mixture,
        groups: Groups,
        optimizer: str,
        callbacks: list[TrainerCallback],
    ) -> None:
        pad = model.vlm.tokenizer.pad_token_id

        def batch(indices: Sequence[int]) -> dict[str, Any]:
            """Rows are read here and not by torch, which would make a worker's error the line of its traceback."""
            try:
                return collate_rows([rows[index] for index in indices], pad)
            except VifError as error:
                return {"refused": error}

        super().__init__(
            model=model,
            args=arguments,
            train_dataset=range(len(rows)),
            data_collator=batch,
            optimizers=(build_optimizer(optimizer, groups, phase), None),
            callbacks=callbacks,
        )
        self.remove_callback(PrinterCallback)
        self.phase, self.groups, self.learner = phase, groups, model
        self.folder = Path(arguments.output_dir or "")
        self.model_accepts_loss_kwargs = self.loss_is_scaled_for_ga = True  # `compute_loss` divides by itself
        self._figures: defaultdict[str, list[Tensor]] = defaultdict(list)
        self._skipped = 0
        self._in_use: dict[str, float] = {}

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        weights = self._in_use = self._weights()
        self._set(weights)
        out = model(
            **inputs["inputs"],
            use_cache=False,
            turns=inputs["turns"],
            labels=inputs["labels"],
            label_weights=inputs["label_weights"],
        )
        parts = {name: getattr(out, name) for name in ("cross_entropy", "kl", "volume", "entropy", "guide")}
        own = _label_weight(inputs)
        share = own / num_items_in_batch.clamp(min=1e-6)  # a step may hold no answer
        loss = parts["cross_entropy"] * share
        if self.learner.vif is not None:
            equation_10 = _vif_loss(self.learner.vif.config, parts, weights)
            loss = loss + equation_10 / self.current_gradient_accumulation_steps
        self._skipped += inputs["skipped"]
        for name, value in (parts | map_figures(out.readings, inputs["covered"])).items():
            self._figures[name].append(value.detach())
        return (loss, {}) if return_outputs else loss

    def _weights(self) -> dict[str, float]:
        """The phase's ramps at this step; variant no-sparsity goes before the phase's own weight."""
        defaults: dict[str, float] = {}
        config = None if self.learner.vif is None else self.learner.vif.config
        if config is not None:
            defaults = {"kl": config.lambda_kl, "sparsity": config.lambda_sp, "alpha": config.alpha}
        step, losses = self.state.global_step, self.phase.losses
        weights = {name: ramp.at(step, defaults.get(name, 0.0)) for name, ramp in vars(losses).items()}
        if config is not None and config.variant == "no-sparsity":
            weights["sparsity"] = 0.0
        return weights

    def _set(self, weights: dict[str, float]) -> None:
        """Tell VIF what this step wants of it."""
        vif = self.learner.vif
        if vif is not None:
            warming = self.phase.losses.alpha.warmup > 0  # a tensor then: a compiled model takes any value of it
            alpha = weights["alpha"]
            vif.alpha = torch.tensor(alpha, device=self.args.device) if warming else float(alpha)
            vif.posterior_share = weights["posterior_share"]
            vif.guiding = weights["guide"] > 0
            vif.seeking = self.phase.seek
            vif.pairs_a_pass = self.phase.pairs_a_pass

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> Tensor:
        """Label weight of this step's rows, as a mean over processes. Raises what a worker could not read."""
        for batch in batch_samples:
            if "refused" in batch:
                raise batch["refused"]
        own = torch.stack([_label_weight(batch) for batch in batch_samples]).sum().to(device)
        return self.accelerator.gather(own[None]).mean()

    def _get_train_sampler(self, train_dataset=None):
        return SequentialSampler(self.train_dataset)  # type: ignore[arg-type]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the means of each loss and figure since the last line, over processes, and the rates in use."""
        own: dict[str, float] = {name: torch.stack(values).mean().item() for name, values in self._figures.items()}
        everyone = gather_object([own | {"skipped_rows": self._skipped}])
        names = dict.fromkeys(name for each in everyone for name in each)
        told = {name: [each[name] for each in everyone if name in each] for name in names}
        skipped = sum(told.pop("skipped_rows"))
        logs |= {name: sum(values) / len(values) for name, values in told.items()}
        logs["skipped_rows"] = skipped
        if "learning_rate" in logs:
            assert self.lr_scheduler is not None
            factor = logs.pop("learning_rate") / float(self.lr_scheduler.base_lrs[0])
            logs |= {f"lr_{part}": self.phase.lr[part] * factor for part in self.groups}
        if self.learner.vif is not None:
            logs |= {f"weight_{name}": value for name, value in self._in_use.items()}
        self._figures.clear()
        super().log(logs, start_time)

    def _save(self, output_dir=None, state_dict=None) -> None:
        if self.args.should_save:
            folder = self.folder if output_dir is None else Path(output_dir)
            folder.mkdir(parents=True, exist_ok=True)
            save_trained(self.learner, folder / TRAINED)

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None) -> None:
        load_trained(self.learner, Path(resume_from_checkpoint) / TRAINED)


def multiplies_bf16() -> bool:
    """Whether this CPU multiplies in bfloat16 itself. Where it only emulates that, float32 is several times as fast."""
    able = torch.cpu.get_capabilities()
    return any(able.get(name, False) for name in ("amx_bf16", "avx512_bf16", "bf16", "sve_bf16"))


def training_arguments(recipe: PhaseRecipe, phase: Phase, folder: Path, steps: int, seed: int) -> TrainingArguments:
    """What the HF Trainer is told of a phase."""
    processes = _processes()
    at_once, accumulated = phase.shared(processes)
    schedule: dict[str, Any] = {"lr_scheduler_type": "cosine"}
    if phase.schedule == "constant-decay":
        decay = {"num_decay_steps": int(steps * phase.decay), "min_lr_ratio": 0.01}
        schedule = {"lr_scheduler_type": "warmup_stable_decay", "lr_scheduler_kwargs": decay}
    cpu = not torch.cuda.is_available()
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=at_once,
        gradient_accumulation_steps=accumulated,
        learning_rate=max(phase.lr[part] for part in phase.train),
        max_grad_norm=phase.max_grad_norm,
        warmup_steps=int(steps * phase.warmup),
        **schedule,
        logging_steps=max(1, min(recipe.log_steps, steps // LINES)),
        logging_nan_inf_filter=False,
        save_steps=recipe.save_steps,
        use_cpu=cpu,
        bf16=phase.bf16 and (not cpu or multiplies_bf16()),
        ddp_backend="gloo" if cpu and processes > 1 else None,
        ddp_find_unused_parameters="vision" in phase.train,  # encoders hold layers that are not read
        report_to=[],
        remove_unused_columns=False,
        seed=seed,
        dataloader_num_workers=recipe.workers,
        dataloader_pin_memory=not cpu,
        disable_tqdm=True,
    )


def _vif_loss(config: VIFConfig, parts: dict[str, Tensor], weights: dict[str, float]) -> Tensor:
    """Equation 10 without its cross-entropy, with the guide, and with free bits where they are given."""
    kl = parts["kl"]
    if weights["free_bits_nats"]:
        assert config.width
        dimensions = config.slots * config.width if config.kl_reduction == "mean" else 1
        kl = torch.relu(kl - weights["free_bits_nats"] / dimensions)
    sparsity = config.entropy_weight * parts["entropy"] + config.volume_weight * parts["volume"]
    return weights["kl"] * kl + weights["sparsity"] * sparsity + weights["guide"] * parts["guide"]


def _processes() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def _label_weight(batch: dict[str, Any]) -> Tensor:
    """Sum of the weights of the labels that are learned; the first token of a row is told by nothing."""
    return (batch["label_weights"] * (batch["labels"] >= 0))[:, 1:].sum()
