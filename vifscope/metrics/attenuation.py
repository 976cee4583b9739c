"""How far visual attention falls off with depth."""

from __future__ import annotations

import numpy as np


def deep_layers(num_layers: int) -> range:
    """The last quarter of the layers, rounded down, at least one.

    >>> deep_layers(32)
    range(24, 32)
    """
    return range(num_layers - max(1, num_layers // 4), num_layers)


def nothing_else_seen(visual_ratio: np.ndarray) -> bool:
    """Whether every ratio that is not NaN is 1: rows of a cross-attention over image features see nothing else."""
    known = visual_ratio[~np.isnan(visual_ratio)]
    return known.size > 0 and bool((known > 1 - 1e-4).all())


def attenuation_index(visual_ratio_by_layer: np.ndarray) -> np.ndarray:
    """The mean visual ratio of the deep layers over that of the peak layer: 1 is no attenuation, 0 is blindness.

    visual_ratio_by_layer: [..., L], in [0, 1]; NaN for layers without attention, which are left out.
    Returns [...], in [0, 1]; NaN where no deep layer has a ratio, and where every ratio is 0.

    >>> attenuation_index(np.array([0.2, 0.8, 0.4, 0.2])).item()
    0.25
    """
    ratio = np.asarray(visual_ratio_by_layer, dtype=np.float64)
    deep = ratio[..., deep_layers(ratio.shape[-1])]
    known = ~np.isnan(deep)
    peak = np.nan_to_num(ratio).max(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.nan_to_num(deep).sum(-1) / known.sum(-1)
        return np.where(peak > 0, mean / peak, np.nan)
