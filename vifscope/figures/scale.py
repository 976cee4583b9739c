"""What gives an overlay its scale: the lines between visual tokens, a bar of a round length, the size of one token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def finest(grids: Sequence[dict[str, Any]], image: int = 0) -> dict[str, Any] | None:
    """Of a sample's grids on one of its images that with the most cells: the tiles, not the thumbnail. None without."""
    own = [grid for grid in grids if grid["image"] == image]
    return max(own, key=lambda grid: grid["rows"] * grid["cols"], default=None)


def grid_lines(grid: dict[str, Any], size_px: tuple[int, int]) -> np.ndarray:
    """Edges of a grid's cells as lines on an image of (width, height): [lines, 2 ends, 2], x and y in its pixels.

    Columns' edges first: cols + 1 + rows + 1 lines, less those off the image where its processor padded it.

    >>> grid_lines({"rows": 1, "cols": 2, "rect_px": (-10, 0, 30, 20)}, (30, 20))[:, :, 0].tolist()  # x of the ends
    [[10.0, 10.0], [30.0, 30.0], [0.0, 30.0], [0.0, 30.0]]
    """
    (wide, high), (x0, y0, x1, y1) = size_px, grid["rect_px"]
    slack = 1e-6 * max(size_px)
    left, right = np.clip((x0, x1), 0, wide)
    top, bottom = np.clip((y0, y1), 0, high)
    columns, rows = np.linspace(x0, x1, grid["cols"] + 1), np.linspace(y0, y1, grid["rows"] + 1)
    upright = [((x, top), (x, bottom)) for x in columns if -slack <= x <= wide + slack]
    level = [((left, y), (right, y)) for y in rows if -slack <= y <= high + slack]
    return np.array([*upright, *level], dtype=float)


def bar_px(wide_px: float) -> int:
    """Length of a scale bar on an image of this width: the largest of 1, 2, 5, 10, 20, ... that fills a third at most.

    >>> [bar_px(width) for width in (96, 336, 1024, 2)]
    [20, 100, 200, 1]
    """
    power = 10 ** int(np.log10(max(wide_px / 3, 1)))
    return max(step * power for step in (1, 2, 5) if step * power <= max(wide_px / 3, 1))


def token_words(grid: dict[str, Any]) -> str:
    """How large one visual token of a grid is.

    >>> token_words({"rows": 24, "cols": 24, "rect_px": (0, 0, 640, 480)})
    'visual token 26.7 × 20 px'
    """
    x0, y0, x1, y1 = grid["rect_px"]
    return f"visual token {(x1 - x0) / grid['cols']:.3g} × {(y1 - y0) / grid['rows']:.3g} px"
