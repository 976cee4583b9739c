"""Packed rows of specks as training rows, for models that have the vocabulary of mini-llava."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from vif_core.data.specks.scenes import GRID, IMAGE_PX
from vif_core.data.specks.words import vocabulary
from vif_core.errors import UsageError
from vif_core.train.mini_llava import PIXEL_MEAN, PIXEL_STD
from vif_core.train.packing import PackedSpecks, PackOptions
from vif_core.train.rows import SHARED, TrainingRow
from vif_core.vif.turns import grid_places
from vif_core.vlm.layout import ImageGrid, box_weights
from vif_core.vlm.model import VLM

_GRID = ImageGrid(0, "image", GRID, GRID, 0, GRID, (0.0, 0.0, float(IMAGE_PX), float(IMAGE_PX)))

_TRIED = 8
"""Rows among which one must hold a question."""


@dataclass(frozen=True)
class PackedRows:
    """An endless source: row i holds scene i and as many questions about it as fit; each question is a turn."""

    packs: PackedSpecks
    image_token_id: int
    name: str = "specks"

    @classmethod
    def of(cls, vlm: VLM, options: PackOptions, *, seed: int, phase: int) -> PackedRows:
        """Raises UsageError for a tokenizer that lacks words of specks, and for rows too short for a question."""
        word_ids = vlm.tokenizer.get_vocab()
        if lacking := [word for word in vocabulary() if word not in word_ids]:
            raise UsageError(
                f"packed specks for {vlm.name}, whose tokenizer has no token {lacking[0]!r}",
                expected="a model with the vocabulary of mini-llava",
                next_step="Use the source specks:train, which goes through the model's own chat template",
            )
        packs = PackedSpecks(options, word_ids, seed=seed, stage=phase, rows=0)
        if not any((packs[index]["segment"] > SHARED).any() for index in range(_TRIED)):
            raise UsageError(
                f"no question fits into packed rows of {options.length} tokens", expected="a greater pack.length"
            )
        return cls(packs, vlm.image_token_id)

    def __len__(self) -> int:
        return 0

    def __getitem__(self, index: int) -> TrainingRow:
        row = self.packs[index]
        segment, visual = row["segment"], row["input_ids"] == self.image_token_id
        answer = np.zeros(len(segment), dtype=bool)
        for number in range(1, segment.max() + 1):
            own = np.flatnonzero(segment == number)
            answer[own[np.argmax(row["kind"][own] >= 0) :]] = True
        n_visual = int(visual.sum())
        images = {}
        if "pixels" in row:
            pixels = torch.from_numpy(row["pixels"]).permute(2, 0, 1)[None]  # [1 3 H W]
            images["pixel_values"] = (pixels.float() - PIXEL_MEAN) / PIXEL_STD
        boxes = row["boxes"]
        return TrainingRow(
            input_ids=row["input_ids"],
            labels=row["labels"],
            weights=row["weights"],
            turn=segment,
            answer=answer,
            visual=visual,
            places=grid_places([_GRID] if n_visual else [], n_visual),
            covered={
                int(number): box_weights([_GRID], n_visual, [tuple(box) for box in boxes[boxes[:, 0] == number, 1:]])
                for number in np.unique(boxes[:, 0])
                if n_visual
            },
            apart=True,
            position_ids=row["position_ids"],
            images=images,
        )
