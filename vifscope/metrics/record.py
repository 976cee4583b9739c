"""What the layers of one sample come down to: plain arrays, ready to be stored."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass
class MapRecord:
    """One kind of map of one sample ("raw" is the model's own flow). Axes: L layers, H heads, R stored rows, V tokens.

    layers:    metric -> [L], means over the measured rows; NaN where undefined.
    heads:     metric -> [L, H], each head's own, means over the measured rows.
    rows:      metric -> [L, R], of the head-mean row.
    maps:      [L, R, V] float32, head-mean flow on each visual token, not renormalised; NaN in layers without one.
    head_maps: [L, H, V] float32, each head's flow, mean over the measured rows; None where it is not kept.
    """

    layers: dict[str, np.ndarray]
    heads: dict[str, np.ndarray]
    rows: dict[str, np.ndarray]
    maps: np.ndarray
    head_maps: np.ndarray | None = field(default=None)
