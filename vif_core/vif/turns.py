"""What belongs to which turn: one question, and its answer, of a sequence. Each turn has a map of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vif_core.vlm.layout import ImageGrid, Layout

NONE = -1
"""Fills up a list of positions, and stands for no turn."""


@dataclass(frozen=True)
class Turns:
    """M turns of a batch of B padded sequences of T positions.

    sample:    the sequence that holds the turn.
    prior:     positions of the text that the prior sees: the question and earlier text, never a response.
    posterior: of the text that the posterior sees: the same and this turn's answer. None where no answer is known.
    of:        the turn of each position, whose map its row takes; NONE for padding, visual tokens, text before them.
    visual:    positions of the visual tokens.
    points:    centre of each one's cell, (row, col) in [0, 1] of its image; NaN where it has none (newline tokens).
    extent:    height and width of its image over the longer side, in (0, 1].
    seen:      visual tokens that lie before the turn's last row; with text between images, not before its first one.
    ahead:     every visual token that a turn sees lies before all of its rows.
    first:     no sequence has a position with a turn before this one.
    """

    sample: Int[Tensor, " M"]
    prior: Int[Tensor, "M Tp"]
    posterior: Int[Tensor, "M Tq"] | None
    of: Int[Tensor, "B T"]
    visual: Int[Tensor, "B V"]
    points: Float[Tensor, "B V 2"]
    extent: Float[Tensor, "B V 2"]
    seen: Bool[Tensor, "M V"]
    ahead: bool
    first: int = 0

    def __len__(self) -> int:
        return len(self.sample)

    def to(self, device: torch.device) -> Turns:
        moved: dict[str, Any] = {
            name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return replace(self, **moved)

    def repeated(self, times: int) -> Turns:
        """Every sequence `times` times in a row, as generation lays out several beams or answers of each."""
        rows = torch.arange(len(self.of), device=self.of.device).repeat_interleave(times)
        turns = [(self.sample == b).nonzero()[:, 0] for b in rows]  # of each new sequence
        order = torch.cat(turns)
        of = self.of[rows]
        sample = torch.empty_like(order)
        first = 0
        for b, own in enumerate(turns):
            sample[first : first + len(own)] = b
            if len(own):
                of[b] += torch.where(of[b] != NONE, first - own[0], 0)
            first += len(own)
        return Turns(
            sample,
            self.prior[order],
            None if self.posterior is None else self.posterior[order],
            of,
            self.visual[rows],
            self.points[rows],
            self.extent[rows],
            self.seen[order],
            self.ahead,
            self.first,
        )


def turns_of(
    turn: np.ndarray, answer: np.ndarray, visual: np.ndarray, places: Sequence[tuple[np.ndarray, np.ndarray]]
) -> Turns:
    """Turns of a batch.

    turn:   [B, T] number of the turn of each text position within its sequence, from 1; 0 for text before the first
            question that every turn reads (a system line); NONE for padding.
    answer: [B, T] True at response tokens, what ends them included.      visual: [B, T] True at visual tokens.
    places: each sequence's centres and extents of its visual tokens, [V, 2] each (`grid_places`).
    A turn without an answer (the one to be generated) makes the whole batch one without posterior.
    """
    text = (turn >= 0) & ~visual
    n_visual = max(1, int(visual.sum(1).max()))
    at = _listed([np.flatnonzero(row) for row in visual], n_visual)
    points, extent = (
        np.full((len(turn), n_visual, 2), np.nan, np.float32),
        np.ones((len(turn), n_visual, 2), np.float32),
    )
    of = np.full(turn.shape, NONE)
    sample: list[int] = []
    prior, posterior, seen, ahead = [], [], [], True
    for b, (centres, sizes) in enumerate(places):
        points[b, : len(centres)], extent[b, : len(sizes)] = centres, sizes
        if not len(centres):
            continue
        first = at[b, 0]
        for number in range(1, int(turn[b].max(initial=0)) + 1):
            own = text[b] & (turn[b] == number)
            asked = text[b] & (turn[b] <= number) & ~answer[b]
            rows = np.flatnonzero(own & (np.arange(turn.shape[1]) > first))
            if not len(rows):
                continue
            of[b, rows] = len(sample)
            sample.append(b)
            prior.append(np.flatnonzero(asked))
            posterior.append(np.flatnonzero(asked | (own & answer[b])))
            seen.append((at[b] >= 0) & (at[b] < rows[-1]))
            ahead = ahead and at[b, seen[-1]].max() < rows[0]
    answered = bool(sample) and all(len(q) > len(p) for p, q in zip(prior, posterior, strict=True))
    return Turns(
        torch.tensor(sample, dtype=torch.long),
        torch.from_numpy(_listed(prior)),
        torch.from_numpy(_listed(posterior)) if answered else None,
        torch.from_numpy(of),
        torch.from_numpy(at),
        torch.from_numpy(points),
        torch.from_numpy(extent),
        torch.from_numpy(np.array(seen, dtype=bool).reshape(len(sample), n_visual)),
        bool(ahead),
        int((of != NONE).any(0).argmax()),
    )


def turns_of_layouts(layouts: Sequence[Layout], length: int, *, responses: bool = True) -> Turns:
    """Turns of left-padded samples of one question each, from where everything is in them.

    responses: whether the response's rows take the map too.
    """
    shape = len(layouts), length
    turn, answer, visual = np.full(shape, NONE), np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    for b, layout in enumerate(layouts):
        pad = length - len(layout)
        turn[b, pad:] = 1
        answer[b, pad + layout.response_start :] = True
        visual[b, pad + layout.visual] = True
    turns = turns_of(turn, answer, visual, [grid_places(layout.grids, len(layout.visual)) for layout in layouts])
    return turns if responses else replace(turns, of=turns.of.where(~torch.from_numpy(answer), NONE))


def grid_places(grids: Sequence[ImageGrid], n_visual: int) -> tuple[np.ndarray, np.ndarray]:
    """Centre of each visual token's cell, (row, col) in [0, 1] of its image, and that image's extents: [V, 2] each.

    Cells are patches: row i of n lies at (i + 0.5) / n. Centres are NaN for tokens outside the grids (newlines).
    Where an image has tiles and a thumbnail, both are in the coordinates and aspect of the thumbnail's image; cells of
    a padded canvas (Llama 4) may lie beyond 1. The aspect is the grid's own elsewhere.
    """
    centres, extent = np.full((n_visual, 2), np.nan), np.ones((n_visual, 2))
    thumbnails = {grid.image: grid for grid in grids if grid.frame == "thumbnail"}
    for grid in grids:
        whole = thumbnails.get(grid.image)
        if whole is None:
            row, col = (np.arange(grid.rows) + 0.5) / grid.rows, (np.arange(grid.cols) + 0.5) / grid.cols
            centres[grid.index] = np.stack(np.meshgrid(row, col, indexing="ij"), axis=-1)
            extent[grid.index] = np.array([grid.rows, grid.cols]) / max(grid.rows, grid.cols)
            continue
        x0, y0, x1, y1 = whole.rect_px
        middle = grid.boxes_px.reshape(grid.rows, grid.cols, 2, 2).mean(2)[..., ::-1]  # (y, x)
        size = np.array([y1 - y0, x1 - x0])
        centres[grid.index] = (middle - [y0, x0]) / size
        extent[grid.index] = size / size.max()
    return centres, extent


def _listed(lists: Sequence[np.ndarray], length: int | None = None) -> np.ndarray:
    """Position lists of different length as one array, filled up with NONE."""
    length = max([1, *(len(own) for own in lists)]) if length is None else length
    filled = np.full((len(lists), length), NONE, dtype=np.int64)
    for row, own in zip(filled, lists, strict=True):
        row[: len(own)] = own
    return filled
