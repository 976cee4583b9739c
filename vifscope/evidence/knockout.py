"""Does the model answer because it looks there? Cut the text's view of the target, then of an equal patch of nothing.

Attention knockout as in Geva et al. 2023 (Dissecting Recall of Factual Associations), on boxes of the image.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from vif_core.data.sample import Box, Sample
from vif_core.flow.interventions import Knockout
from vif_core.flow.op import intervene
from vif_core.vlm.layout import Layout, box_weights
from vif_core.vlm.model import VLM
from vifscope.scoring.answers import score_response


def box_knockout(
    vlm: VLM,
    samples: Sequence[Sample],
    layers: Sequence[int] | None = None,
    *,
    batch_size: int = 16,
    max_new_tokens: int = 16,
    seed: int = 0,
) -> pd.DataFrame:
    """Answers with the edges from all text rows to the target's patches cut, against an equal box elsewhere.

    samples: with an answer and target boxes; those whose boxes cannot be moved anywhere else are left out.
    layers:  where the edges are cut; all by default.
    Returns a row a sample: sample_id, kind, size, and whether it was right `clean`, with the `target` cut and with
    the `distractor` cut. The distractor is the target's boxes moved together, off the target, by a seeded draw.
    """
    chosen = [layer.index for layer in vlm.layers] if layers is None else list(layers)
    moved = [(sample, _moved(sample, np.random.default_rng([seed, i]))) for i, sample in enumerate(samples)]
    usable = [(sample, boxes) for sample, boxes in moved if boxes]
    rows = []
    for start in range(0, len(usable), batch_size):
        part = usable[start : start + batch_size]
        batch = vlm.encode([sample for sample, _ in part])
        right = {"clean": _right(vlm, part, max_new_tokens)}
        for name, boxes in (
            ("target", [sample.boxes for sample, _ in part]),
            ("distractor", [other for _, other in part]),
        ):
            keys = [_covered(layout, own) for layout, own in zip(batch.layouts, boxes, strict=True)]
            queries = [layout.text for layout in batch.layouts]
            cut = Knockout.of(batch, queries, keys, later=True)
            with intervene(vlm, dict.fromkeys(chosen, cut), batch):
                right[name] = _right(vlm, part, max_new_tokens)
        for i, (sample, _) in enumerate(part):
            known = {"sample_id": sample.sample_id, "kind": sample.kind, "size": sample.size}
            rows.append(known | {name: values[i] for name, values in right.items()})
    return pd.DataFrame(rows, columns=["sample_id", "kind", "size", "clean", "target", "distractor"])


def _right(vlm: VLM, part: Sequence[tuple[Sample, tuple[Box, ...]]], max_new_tokens: int) -> list[bool]:
    samples = [sample for sample, _ in part]
    responses = vlm.generate(samples, max_new_tokens)
    scored = (score_response(s, vlm.decode(ids)) for s, ids in zip(samples, responses, strict=True))
    return [bool(right) for right, _ in scored]


def _covered(layout: Layout, boxes: Sequence[Box]) -> np.ndarray:
    """Positions of the visual tokens that the boxes touch."""
    return layout.visual[box_weights(layout.grids, len(layout.visual), boxes) > 0]


def _moved(sample: Sample, rng: np.random.Generator) -> tuple[Box, ...]:
    """The target's boxes, moved together by whole pixels to where they touch none of them; () where nothing fits."""
    if not sample.boxes or sample.answer is None:
        return ()
    width, height = (*sample.open_images(), *sample.open_frames())[0].size
    low = np.min(sample.boxes, axis=0)[:2]
    high = np.max(sample.boxes, axis=0)[2:]
    if high[0] - low[0] > width or high[1] - low[1] > height:
        return ()
    for _ in range(200):
        dx = int(rng.integers(-low[0], width - high[0] + 1))
        dy = int(rng.integers(-low[1], height - high[1] + 1))
        moved = [(x0 + dx, y0 + dy, x1 + dx, y1 + dy) for x0, y0, x1, y1 in sample.boxes]
        if not any(_touch(a, b) for a in moved for b in sample.boxes):
            return tuple(moved)
    return ()


def _touch(a: Box, b: Box, margin_px: float = 8.0) -> bool:
    """Whether two boxes overlap or come closer than `margin_px`, so that a patch could see both."""
    apart = a[2] + margin_px <= b[0] or b[2] + margin_px <= a[0] or a[3] + margin_px <= b[1] or b[3] + margin_px <= a[1]
    return not apart
