"""How far visual attention falls off with depth."""

from __future__ import annotations

import numpy as np


def deep_layers(num_layers: int) -> range:
    """The last quarter of the layers, rounded down, at least one.

    >>> deep_layers(32)
    range(24, 32)
    """
    return range(num_layers - max(1, num_layers // 4), num_layers)


def attenuation_index(visual_ratio_by_layer: np.ndarray) -> float:
    """The mean visual ratio of the deep layers over that of the peak layer: 1 is no attenuation, 0 is blindness.

    visual_ratio_by_layer: [L], in [0, 1]; NaN for layers without attention, which are left out.
    Returns a value in [0, 1]; NaN where no deep layer has a ratio, and where every ratio is 0.

    >>> attenuation_index(np.array([0.2, 0.8, 0.4, 0.2]))
    0.25
    """
    ratio = np.asarray(visual_ratio_by_layer, dtype=np.float64)
    deep = ratio[deep_layers(len(ratio))]
    deep = deep[~np.isnan(deep)]
    if not deep.size or not np.nanmax(ratio) > 0:
        return float("nan")
    return float(deep.mean() / np.nanmax(ratio))
