"""Intersection over union of boxes."""

from __future__ import annotations

from vif_core.data.sample import Box


def iou(first: Box, second: Box) -> float:
    """Area that two boxes share over the area that they cover together, in [0, 1]; 0 where both are empty.

    >>> iou((0, 0, 2, 1), (1, 0, 3, 1))
    0.3333333333333333
    """
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(width, 0.0) * max(height, 0.0)
    union = _area(first) + _area(second) - shared
    return shared / union if union > 0 else 0.0


def _area(box: Box) -> float:
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)
