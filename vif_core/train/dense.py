"""Dense labels: what each patch shows, as words. The vision tower learns from them before any question."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vif_core.data.specks.scenes import GRID, PATCH_PX, Scene, coverage
from vif_core.data.specks.words import COLOURS, COLUMNS, LETTERS, ROWS, SHAPES, SIZES

_NO_LETTER = "nothing"
LABEL_WORDS = {
    "shape": SHAPES,
    "colour": COLOURS,
    "size": SIZES,
    "letter": (_NO_LETTER, *LETTERS),
    "row": ROWS,
    "column": COLUMNS,
}
_SIZE_WEIGHT = torch.tensor([3.0, 1.5, 0.5])  # tiny objects cover few patches
_LEAST_COVER_PX = 2.5


def label_ids(word_ids: dict[str, int]) -> dict[str, Tensor]:
    """Token ids of each of LABEL_WORDS."""
    return {name: torch.tensor([word_ids[word] for word in words]) for name, words in LABEL_WORDS.items()}


def dense_labels(scene: Scene) -> np.ndarray:
    """[7, GRID * GRID] int64: whether the patch shows an object, then an index into each of LABEL_WORDS.

    A patch shows the object that covers most of it, from 2.5 px of area on; the word indices of empty patches are 0.
    """
    cover = np.full((GRID, GRID), _LEAST_COVER_PX, np.float32)
    shown = np.full((GRID, GRID), -1)
    letter = np.zeros((GRID, GRID), np.int64)
    for number, thing in enumerate(scene.things):
        canvas = np.zeros((GRID * PATCH_PX, GRID * PATCH_PX), np.float32)
        canvas[thing.y : thing.y + thing.side_px, thing.x : thing.x + thing.side_px] = coverage(thing)
        area = canvas.reshape(GRID, PATCH_PX, GRID, PATCH_PX).sum((1, 3))
        most = area > cover
        cover[most], shown[most] = area[most], number
        if thing.letter_box is not None:
            x0, y0, x1, y1 = (int(v) for v in thing.letter_box)
            glyph = np.zeros_like(canvas)
            glyph[y0:y1, x0:x1] = 1
            inside = glyph.reshape(GRID, PATCH_PX, GRID, PATCH_PX).sum((1, 3)) >= PATCH_PX
            letter[inside] = 1 + LETTERS.index(thing.letter)
    object_patch = shown.ravel() >= 0
    labels = np.zeros((1 + len(LABEL_WORDS), GRID * GRID), np.int64)
    labels[0] = object_patch
    words = [(SHAPES.index(t.shape), COLOURS.index(t.colour), SIZES.index(t.size)) for t in scene.things]
    labels[1:4, object_patch] = np.array(words)[shown.ravel()[object_patch]].T
    labels[4] = letter.ravel()
    labels[5], labels[6] = np.divmod(np.arange(GRID * GRID), GRID)
    return labels


def dense_loss(
    features: Tensor, labels: Tensor, words: Tensor, ids: dict[str, Tensor], foreground: nn.Linear
) -> tuple[Tensor, dict[str, float]]:
    """Cross-entropy of each patch's labels, read off by the decoder's own word embeddings.

    features: projected patches [B, GRID * GRID, D]; labels: [B, 7, GRID * GRID]; words: embeddings [vocabulary, D];
    ids: token ids of each of LABEL_WORDS. Returns the loss and the accuracy of each label on object patches.
    """
    features = features.float()
    shows = labels[:, 0].bool()
    loss = F.binary_cross_entropy_with_logits(foreground(features)[..., 0], shows.float())
    patches, target = features[shows], labels.transpose(1, 2)[shows]  # [N D], [N 7]
    weight = _SIZE_WEIGHT.to(features.device)[target[:, 3]]
    accuracy = {}
    for i, (name, token_ids) in enumerate(ids.items(), start=1):
        logits = patches @ words[token_ids].T
        hit = (logits.argmax(1) == target[:, i]).float()
        each = weight
        if name == "letter":
            each = weight * torch.where(target[:, 4] > 0, 3.0, 0.5)
            hit = hit[target[:, 4] > 0]
        part = (F.cross_entropy(logits, target[:, i], reduction="none") * each).sum() / each.sum()
        loss = loss + part * (0.5 if name in ("row", "column") else 1.0)
        accuracy[name] = hit.mean().item() if len(hit) else float("nan")
    tiny = target[:, 3] == 0
    if tiny.any():
        seen = (patches[tiny] @ words[ids["shape"]].T).argmax(1) == target[tiny, 1]
        accuracy["shape_tiny"] = seen.float().mean().item()
    return loss, accuracy
