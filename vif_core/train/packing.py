"""Many questions behind one picture in one row: the cheapest way to learn from a scene.

The questions share the prefix (system line and picture, or the scene in words), see nothing of one another
(block-diagonal mask) and each continues the prefix's positions, so that a packed row equals as many plain prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vif_core.data.specks.questions import KINDS, ask, written
from vif_core.data.specks.scenes import GRID, IMAGE_PX, Scene, make_scene
from vif_core.data.specks.words import SYSTEM
from vif_core.errors import UsageError
from vif_core.train.dense import dense_labels
from vif_core.train.rows import IGNORED, SHARED
from vif_core.vif.turns import NONE


@dataclass(frozen=True)
class PackOptions:
    """What the rows of one training stage hold.

    length:    tokens a row.            text_only: share of rows whose prefix is the scene in words, not a picture.
    kinds:     weight of each question kind.        easy: share of scenes with two to four objects.
    text_weight: loss weight of a token that is no answer (0: loss on answers alone).
    reasons: answers that follow from something say it first ("row-3 column-2 and row-9 column-4 , above").
    blind: no scene at all before the questions: what can be answered from their words alone.
    questions: at most so many a row; None fills the row.
    """

    length: int = 480
    text_only: float = 0.0
    kinds: dict[str, float] | None = None
    easy: float = 0.0
    text_weight: float = 0.0
    reasons: bool = False
    blind: bool = False
    questions: int | None = None

    def __post_init__(self) -> None:
        unknown = set(self.kinds or {}) - set(KINDS)
        if unknown:
            raise ValueError(f"unknown question kinds {sorted(unknown)}; expected some of {sorted(KINDS)}")
        if self.questions is not None and self.questions < 1:
            raise ValueError(f"questions is {self.questions}; expected 1 or more")


class PackedSpecks(Dataset):
    """Row i is the same for the same (seed, stage, i), whatever came before it: a resumed run sees the same rows."""

    def __init__(self, options: PackOptions, word_ids: dict[str, int], *, seed: int, stage: int, rows: int) -> None:
        self.options, self.word_ids, self.seed, self.stage, self.rows = options, word_ids, seed, stage, rows
        weights = np.array([(options.kinds or dict.fromkeys(KINDS, 1.0)).get(kind, 0.0) for kind in KINDS])
        self.kind_weights = weights / weights.sum()

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, index: int) -> dict:
        rng = np.random.default_rng([self.seed, 0, self.stage, index])
        text_only = rng.random() < self.options.text_only
        scene = make_scene(rng, things=(2, 4) if rng.random() < self.options.easy else (5, 10))
        row = self._row(rng, scene, text_only)
        if not text_only and not self.options.blind:
            row["pixels"] = scene.pixels
            row["dense"] = dense_labels(scene)
        return row

    def _row(self, rng: np.random.Generator, scene: Scene, text_only: bool) -> dict:
        prefix = [self.word_ids["<s>"], *self._ids(SYSTEM), self.word_ids["USER:"]]
        if not self.options.blind:
            shown = self._ids(written(rng, scene)) if text_only else [self.word_ids["<image>"]] * GRID * GRID
            prefix += [*shown, self.word_ids["\n"]]
        length, kinds = self.options.length, list(KINDS)
        row: dict[str, np.ndarray] = {
            "input_ids": np.full(length, self.word_ids["<pad>"]),
            "segment": np.full(length, NONE),
            "position_ids": np.zeros(length, np.int64),
            "labels": np.full(length, IGNORED),
            "weights": np.zeros(length, np.float32),
            "kind": np.full(length, -1),
        }
        boxes: list[tuple[float, ...]] = []
        end = len(prefix)
        if end > length:
            raise UsageError(f"{end} tokens before the first question of packed rows of {length}",
                             expected="a greater pack.length")  # fmt: skip
        row["input_ids"][:end] = prefix
        row["segment"][:end] = SHARED
        row["position_ids"][:end] = np.arange(end)
        if text_only and self.options.text_weight:
            row["labels"][1:end] = prefix[1:]
            row["weights"][1:end] = self.options.text_weight
        asked: set[str] = set()
        for _ in range(200):
            kind = int(rng.choice(len(kinds), p=self.kind_weights))
            question = ask(rng, scene, kinds[kind])
            if question is None or question.text in asked:
                continue
            head = [*self._ids(question.text), self.word_ids["ASSISTANT:"]]
            told_first = f"{question.reasons} , " if self.options.reasons and question.reasons else ""
            answer = [*self._ids(told_first + question.answer), self.word_ids["</s>"]]
            start, end = end, end + len(head) + len(answer)
            if end > length:
                break
            asked.add(question.text)
            told = start + len(head)
            row["input_ids"][start:end] = head + answer
            row["segment"][start:end] = len(asked)
            row["position_ids"][start:end] = len(prefix) + np.arange(end - start)
            if self.options.text_weight:
                row["labels"][start + 1 : told] = head[1:]
                row["weights"][start + 1 : told] = self.options.text_weight
            row["labels"][told:end] = answer
            row["weights"][told : end - 1] = (len(answer) - 1) ** -0.5  # long answers count more, not in full
            row["weights"][end - 1] = 0.1
            row["kind"][told : end - 1] = kind
            boxes += [(len(asked), *box) for box in question.boxes]
            if len(asked) == self.options.questions:
                break
        row["boxes"] = np.array(boxes, np.float32).reshape(-1, 5)  # number of the question, then x0, y0, x1, y1
        return row

    def _ids(self, text: str) -> list[int]:
        return [self.word_ids[word] for word in text.split(" ")]


def collate(rows: Sequence[dict]) -> dict[str, Tensor]:
    """Rows -> tensors of one batch.

    input_ids, position_ids, labels, weights, kind: [B, T]; attention_mask: [B, 1, T, T], True where seen;
    pixels: [images, 3, IMAGE_PX, IMAGE_PX] uint8 and dense: [images, 7, GRID * GRID], rows with a picture alone.
    """
    batch = {
        key: torch.from_numpy(np.stack([row[key] for row in rows]))
        for key in ("input_ids", "position_ids", "labels", "weights", "kind")
    }
    batch["attention_mask"] = tree_mask(torch.from_numpy(np.stack([row["segment"] for row in rows])))
    pictured = [row for row in rows if "pixels" in row]
    if pictured:
        pixels = torch.from_numpy(np.stack([row["pixels"] for row in pictured]))  # [images H W 3]
        batch["pixels"] = pixels.permute(0, 3, 1, 2)
        assert batch["pixels"].shape[1:] == (3, IMAGE_PX, IMAGE_PX)
        batch["dense"] = torch.from_numpy(np.stack([row["dense"] for row in pictured]))
    return batch


def tree_mask(segment: Tensor) -> Tensor:
    """[B, T] segments -> [B, 1, T, T]: causal, and each question sees the prefix and itself alone."""
    length = segment.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    query, key = segment[:, :, None], segment[:, None, :]
    return (causal & ((key == SHARED) | (key == query)))[:, None]
