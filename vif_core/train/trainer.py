"""The HF Trainer as this project sets it up: packed rows, a loss on weighted tokens, and records of it."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import SequentialSampler
from transformers import LlavaConfig, LlavaForConditionalGeneration, TrainerCallback, TrainingArguments

from vif_core.data.specks.questions import KINDS
from vif_core.train.checkpoint import WholeCheckpoints
from vif_core.train.dense import dense_loss
from vif_core.train.mini_llava import PIXEL_MEAN, PIXEL_STD
from vif_core.train.optimizer import MuonAdamW
from vif_core.train.packing import collate
from vif_core.train.records import strict


class TrainedLlava(LlavaForConditionalGeneration):
    """A LLaVA whose forward gives the training loss; the head that tells object patches apart is for training alone."""

    def __init__(self, config: LlavaConfig) -> None:
        super().__init__(config)
        self.foreground = nn.Linear(config.get_text_config().hidden_size, 1)
        self.label_ids: dict[str, Tensor] = {}

    def save_pretrained(self, save_directory, **kwargs):  # type: ignore[override]
        """Under the module's own names: with the original format's names a resumed run would not find its weights."""
        super().save_pretrained(save_directory, **{**kwargs, "save_original_format": False})

    def forward(self, batch: dict[str, Tensor], *, answers: bool, dense: float) -> tuple[Tensor, dict[str, float]]:
        """Loss of one batch: weighted cross-entropy of the labelled tokens plus `dense` times that of the patches.

        answers: False to train on dense labels alone, without the decoder.
        Returns the loss and the figures worth recording; those of a kind of question under the kind's name.
        """
        figures: dict[str, float] = {}
        total = torch.zeros(())
        pixels = batch.get("pixels")
        if pixels is not None:
            pixels = (pixels.float() - PIXEL_MEAN) / PIXEL_STD
        features: Tensor | None = None
        if answers:
            out = super().forward(
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                position_ids=batch["position_ids"],
                pixel_values=pixels,
                use_cache=False,
            )
            total, figures = _answer_loss(out.logits[:, :-1], batch)
            if pixels is not None:
                features = out.image_hidden_states
        elif pixels is not None:
            features = self.model.get_image_features(pixels).pooler_output
        if dense and features is not None:
            features = features if torch.is_tensor(features) else torch.cat(list(features))
            features = features.reshape(*batch["dense"].shape[::2], -1)  # [images patches D]
            words = self.model.language_model.embed_tokens.weight
            loss, accuracy = dense_loss(features, batch["dense"], words, self.label_ids, self.foreground)
            total = total + dense * loss
            figures |= {f"patch_{name}": value for name, value in accuracy.items()}
        return total, figures


def _answer_loss(logits: Tensor, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
    labels, weights, kinds = (batch[key][:, 1:] for key in ("labels", "weights", "kind"))
    told = labels >= 0
    scores, labels, weights, kinds = logits[told].float(), labels[told], weights[told], kinds[told]
    loss = (F.cross_entropy(scores, labels, reduction="none") * weights).sum() / weights.sum()
    hit = (scores.argmax(1) == labels).float()
    by_kind = {kind: hit[kinds == i] for i, kind in enumerate(KINDS)}
    figures = {f"token_accuracy_{kind}": hits.mean().item() for kind, hits in by_kind.items() if len(hits)}
    return loss, {"loss_answers": loss.item(), **figures}


class SpecksTrainer(WholeCheckpoints):
    """Trains on packed rows. Figures of the loss are averaged between two log lines and logged beside it."""

    def __init__(
        self,
        model: TrainedLlava,
        args: TrainingArguments,
        dataset,
        *,
        answers: bool,
        dense: float,
        vision_scale: float,
        records: Path,
        stage: str,
    ) -> None:
        vision: list[tuple[str, nn.Parameter]] = []
        decoder: list[tuple[str, nn.Parameter]] = []
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                is_vision = "vision_tower" in name or "multi_modal_projector" in name
                (vision if is_vision else decoder).append((name, parameter))
        optimizer = MuonAdamW([(vision, vision_scale), (decoder, 1.0)], args.learning_rate, args.weight_decay)
        super().__init__(
            model=model,
            args=args,
            train_dataset=dataset,
            data_collator=lambda rows: {"batch": collate(rows)},
            optimizers=(optimizer, None),
            callbacks=[_Records(records, stage)],
        )
        self._answers, self._dense = answers, dense
        self._figures: defaultdict[str, list[float]] = defaultdict(list)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss, figures = model(inputs["batch"], answers=self._answers, dense=self._dense)
        for name, value in figures.items():
            if value == value:
                self._figures[name].append(value)
        return (loss, {}) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        logs |= {name: round(sum(values) / len(values), 4) for name, values in self._figures.items()}
        self._figures.clear()
        super().log(logs, start_time)

    def _get_train_sampler(self, train_dataset=None):
        return SequentialSampler(self.train_dataset)  # type: ignore[arg-type]


class _Records(TrainerCallback):
    """One JSON line a log step: the learning curve that the model card draws from."""

    def __init__(self, path: Path, stage: str) -> None:
        self.path, self.stage = path, stage

    def on_log(self, args, state, control, logs=None, **kwargs):
        if state.is_world_process_zero and logs:
            line = {"stage": self.stage, "step": state.global_step, "time": round(time.time(), 1), **strict(logs)}
            with self.path.open("a") as file:
                file.write(json.dumps(line) + "\n")
