"""From training rows to one batch: padded inputs, labels, and the turns that VIF makes maps for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vif_core.train.packing import tree_mask
from vif_core.train.rows import IGNORED, SHARED, TrainingRow
from vif_core.vif.turns import NONE, Turns, turns_of


def collate_rows(rows: Sequence[TrainingRow], pad_token_id: int) -> dict[str, Any]:
    """Rows, padded on the right to the longest, as one batch of B sequences of T positions.

    inputs:  what the model takes. attention_mask is [B, T], or [B, 1, T, T] with position_ids where some row holds
             turns that do not see one another.
    labels:  [B, T], IGNORED where nothing is learned.      label_weights: [B, T].
    turns:   Turns of all rows that have visual tokens; none of the others'.
    covered: [M, V] share of each visual token's footprint that the turn's target boxes cover; NaN where unknown.
    skipped: rows that could not be used and were replaced.
    """
    length = max(len(row) for row in rows)
    turn = _padded([row.turn for row in rows], length, NONE)
    ids = _padded([row.input_ids for row in rows], length, pad_token_id)
    inputs: dict[str, Tensor] = {"input_ids": torch.from_numpy(ids)}
    if any(row.apart for row in rows):
        segment = np.where(np.array([row.apart for row in rows])[:, None] | (turn == NONE), turn, SHARED)
        inputs["attention_mask"] = tree_mask(torch.from_numpy(segment))
        positions = [np.arange(len(row)) if row.position_ids is None else row.position_ids for row in rows]
        inputs["position_ids"] = torch.from_numpy(_padded(positions, length, 0))
    else:
        inputs["attention_mask"] = torch.from_numpy((turn != NONE).astype(np.int64))
    for name in sorted({name for row in rows for name in row.tokens}):
        values = [row.tokens.get(name, np.zeros(len(row), np.int64)) for row in rows]
        inputs[name] = torch.from_numpy(_padded(values, length, 0))
    for name in sorted({name for row in rows for name in row.images}):
        inputs[name] = _joined([row.images[name] for row in rows if name in row.images])
    turns = batch_turns(rows, length)
    return {
        "inputs": inputs,
        "labels": torch.from_numpy(_padded([row.labels for row in rows], length, IGNORED)),
        "label_weights": torch.from_numpy(_padded([row.weights for row in rows], length, 0.0)),
        "turns": turns,
        "covered": _covered(rows, turns),
        "skipped": sum(row.skipped for row in rows),
    }


def batch_turns(rows: Sequence[TrainingRow], length: int) -> Turns:
    """Turns of rows padded on the right to `length`.

    The turns of a row that are apart are found as those of as many sequences: one for each, without the others.
    """
    owner, turn, places = [], [], []
    for b, row in enumerate(rows):
        own = np.pad(row.turn, (0, length - len(row)), constant_values=NONE)
        alone = [np.where((own == n) | (own == SHARED), np.minimum(own, 1), NONE) for n in range(1, own.max() + 1)]
        for sequence in alone if row.apart and alone else [own]:
            owner.append(b)
            turn.append(sequence)
            places.append(row.places)
    answer = _padded([rows[b].answer for b in owner], length, False)
    visual = _padded([rows[b].visual for b in owner], length, False)
    found = turns_of(np.stack(turn), answer, visual, places)
    first = [owner.index(b) for b in range(len(rows))]
    of = torch.full((len(rows), length), NONE)
    for sequence, b in zip(found.of, owner, strict=True):
        of[b] = torch.maximum(of[b], sequence)
    return replace(
        found,
        sample=torch.tensor(owner)[found.sample],
        of=of,
        visual=found.visual[first],
        points=found.points[first],
        extent=found.extent[first],
    )


def _covered(rows: Sequence[TrainingRow], turns: Turns) -> Tensor:
    covered = torch.full((len(turns), turns.visual.shape[1]), torch.nan)
    for m, b in enumerate(turns.sample.tolist()):
        row = rows[b]
        known = row.covered.get(int(row.turn[turns.of[b, : len(row)].numpy() == m][0]))
        if known is not None:
            covered[m] = 0.0
            covered[m, : len(known)] = torch.from_numpy(known)
    return covered


def _padded(values: Sequence[np.ndarray], length: int, fill: Any) -> np.ndarray:
    return np.stack([np.pad(own, (0, length - len(own)), constant_values=fill) for own in values])


def _joined(values: Sequence[Tensor]) -> Tensor:
    """Images of several rows; where they differ in size (more tiles), the smaller are filled up with zeros."""
    shape = [max(sizes) for sizes in zip(*(value.shape[1:] for value in values), strict=True)]
    grown = []
    for value in values:
        missing = [most - own for own, most in zip(value.shape[1:], shape, strict=True)]
        grown.append(F.pad(value, [side for each in reversed(missing) for side in (0, each)]))
    return torch.cat(grown)
