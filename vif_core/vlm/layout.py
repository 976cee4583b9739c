"""Where everything is in a prompt: visual tokens, their grids and footprints, segments, and which rows to read."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from vif_core.data.sample import Box
from vif_core.errors import UsageError

SEGMENTS = ("bos", "template", "visual", "question", "response")
"""What a position holds; `Layout.segment` indexes into this."""

RowKind = Literal["response", "last", "question", "text"]


@dataclass(frozen=True)
class ImageGrid:
    """One grid of visual tokens: a whole image, its tiles put together, its thumbnail, or a frame of a video.

    image:   index of the image in the sample, of the frame in its video (of the first where frames are merged).
    frame:   "image", "tile", "thumbnail" or "frame".
    offset:  index of the first token among the sample's V visual tokens.
    stride:  tokens from one grid row to the next: cols, or cols + 1 where a newline token ends each row; less than
             cols where the tokens come tile by tile, each a square of stride x stride.
    rect_px: footprint of the whole grid in original pixels of its image.
    """

    image: int
    frame: str
    rows: int
    cols: int
    offset: int
    stride: int
    rect_px: Box

    @property
    def index(self) -> np.ndarray:
        """Indices of the cells among the visual tokens, [rows, cols]."""
        return grid_index(self.rows, self.cols, self.offset, self.stride)

    @property
    def n_tokens(self) -> int:
        """Visual tokens that the grid takes up, newline tokens included."""
        return self.rows * max(self.cols, self.stride)

    def to_grid(self, values: Any) -> Any:
        """Values over visual tokens [..., V] (array or tensor) laid out on this grid: [..., rows, cols]."""
        return values[..., self.index]

    @property
    def boxes_px(self) -> np.ndarray:
        """Footprints of the cells, [rows, cols, 4], xyxy in original pixels."""
        x0, y0, x1, y1 = self.rect_px
        x, y = np.linspace(x0, x1, self.cols + 1), np.linspace(y0, y1, self.rows + 1)
        corners = np.broadcast_arrays(x[None, :-1], y[:-1, None], x[None, 1:], y[1:, None])
        return np.stack(corners, axis=-1)


def grid_index(rows: int, cols: int, offset: int, stride: int) -> np.ndarray:
    """Indices of a grid's cells among the visual tokens, [rows, cols]; the parameters are an ImageGrid's.

    >>> grid_index(2, 2, offset=1, stride=3).tolist()  # a newline token ends each row
    [[1, 2], [4, 5]]
    >>> grid_index(2, 4, offset=0, stride=2).tolist()  # two tiles of 2 x 2
    [[0, 1, 4, 5], [2, 3, 6, 7]]
    """
    row, col = np.arange(rows)[:, None], np.arange(cols)
    if stride >= cols:
        return offset + stride * row + col
    tile = row // stride * (cols // stride) + col // stride
    return offset + tile * stride**2 + row % stride * stride + col % stride


def patch_boxes(grids: Sequence[ImageGrid], n_visual: int) -> np.ndarray:
    """Footprint of every visual token, [V, 4] xyxy in original pixels; NaN for tokens outside the grids (newlines)."""
    boxes = np.full((n_visual, 4), np.nan)
    for grid in grids:
        boxes[grid.index] = grid.boxes_px
    return boxes


def box_weights(grids: Sequence[ImageGrid], n_visual: int, boxes: Sequence[Box]) -> np.ndarray:
    """Share of each visual token's footprint covered by the union of `boxes` on the first image: [V], in [0, 1].

    0 for newline tokens and for the tokens of other images and frames.

    >>> grid = ImageGrid(image=0, frame="image", rows=1, cols=2, offset=0, stride=2, rect_px=(0, 0, 20, 10))
    >>> box_weights([grid], 2, [(5, 0, 10, 10), (0, 0, 10, 5)])
    array([0.75, 0.  ])
    """
    weights = np.zeros(n_visual)
    for grid in grids:
        if grid.image != 0:
            continue
        x0, y0, x1, y1 = np.moveaxis(grid.boxes_px, -1, 0)
        covered = np.zeros((grid.rows, grid.cols))
        for a0, b0, a1, b1 in _disjoint(boxes):
            covered += np.clip(np.minimum(x1, a1) - np.maximum(x0, a0), 0, None) * np.clip(
                np.minimum(y1, b1) - np.maximum(y0, b0), 0, None
            )
        weights[grid.index] = np.clip(covered / ((x1 - x0) * (y1 - y0)), 0, 1)
    return weights


def _disjoint(boxes: Sequence[Box]) -> list[Box]:
    """Rectangles that do not overlap and together cover the same area as `boxes`."""
    ys = sorted({y for box in boxes for y in (box[1], box[3])})
    pieces: list[Box] = []
    for y0, y1 in pairwise(ys):
        end = -np.inf
        for a0, _, a1, _ in sorted(box for box in boxes if box[1] <= y0 and box[3] >= y1):
            if a1 > end:
                pieces.append((max(a0, end), y0, a1, y1))
                end = a1
    return pieces


@dataclass(frozen=True)
class Crossing:
    """What a sample's rows see by cross-attention: K keys that are not tokens of its own sequence, padded right.

    segment: [K], index into SEGMENTS.      first: position of the first row that sees them.
    """

    segment: np.ndarray
    first: int


@dataclass(frozen=True)
class Layout:
    """Where everything is in one sample's sequence of N tokens, and among the K keys that its rows see.

    The keys are the same tokens, or those of a cross-attention. Padding is left out.

    input_ids: [N].      visual: which keys are the V visual tokens; of a sequence's own tokens, ascending.
    grids:     empty where visual tokens are latent queries without a place in the image: no map then.
    segment:   [N], index into SEGMENTS.
    response_start: position of the first response token; N where there is no response yet.
    crossing:  the keys of a cross-attention; None where they are the sequence's own tokens.
    """

    input_ids: np.ndarray
    visual: np.ndarray
    grids: tuple[ImageGrid, ...]
    segment: np.ndarray
    response_start: int
    crossing: Crossing | None = None

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def key_segment(self) -> np.ndarray:
        """What each key holds: [K], index into SEGMENTS."""
        return self.segment if self.crossing is None else self.crossing.segment

    def rows(self, which: RowKind, max_rows: int | None = None, eos: Collection[int] = ()) -> np.ndarray:
        """Positions [R] of the query rows to read, ascending.

        response: the position t-1 that produces each response token t, tokens in `eos` left out;
                  empty where the response is.
        last:     the last position of the prompt.
        question: positions of the question's tokens.
        text:     positions without a visual token that see one, response included.
        Above `max_rows`, that many are kept, evenly spaced, the first and the last always among them.
        """
        everything = np.arange(len(self))
        if which == "response":
            tokens = everything[self.response_start :]
            rows = tokens[~np.isin(self.input_ids[tokens], list(eos))] - 1
        elif which == "last":
            rows = everything[self.response_start - 1 : self.response_start]
        elif which == "question":
            rows = everything[self.segment == SEGMENTS.index("question")]
        elif which == "text":
            seeing = everything[everything >= self._first_seeing]
            rows = seeing[self.segment[seeing] != SEGMENTS.index("visual")]
        else:
            raise UsageError(f"rows {which!r}", expected="response, last, question or text")
        if max_rows is not None and len(rows) > max_rows:
            rows = rows[np.linspace(0, len(rows) - 1, max_rows).round().astype(int)]
        return rows

    @property
    def text(self) -> np.ndarray:
        """Positions without a visual token, those included that come before the image."""
        return np.flatnonzero(self.segment != SEGMENTS.index("visual"))

    @property
    def _first_seeing(self) -> int:
        if self.crossing is not None:
            return self.crossing.first
        return self.visual[0] if len(self.visual) else len(self)
