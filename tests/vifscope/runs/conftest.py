"""Synthetic records: sample i has the same arrays in every process."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from vifscope.runs.records import MapRecord, SampleRecord

LAYERS, HEADS, ROWS, COLS = 3, 2, 4, 3


def synthetic_record(index: int, *, error: str | None = None) -> SampleRecord:
    """Sample `index`: 2x3 patches of a 6x4 image that pairs of samples share; four query rows, two of them measured."""
    rng = np.random.default_rng(index)
    picture = io.BytesIO()
    Image.new("RGB", (6, 4), (index // 2 % 256, 0, 0)).save(picture, "PNG")
    visual = 2 * COLS
    sample = {
        "sample_id": f"synthetic-{index:05d}",
        "question": "Which?",
        "answer": "red",
        "response": "red" if index % 2 else "blue",
        "correct": bool(index % 2),
        "score": float(index % 2),
        "kind": "attribute",
        "size": "tiny",
        "boxes": ((1.0, 1.0, 3.0, 3.0),),
        "input_ids": np.arange(12),
        "tokens": [f"t{i}" for i in range(12)],
        "segment": np.array([0, 1] + [2] * visual + [3] * 4),
        "visual": np.arange(2, 2 + visual),
        "query_rows": np.arange(8, 12),
        "measured": np.array([False, False, True, True]),
        "images": [
            {
                "frame": "image",
                "image": 0,
                "rows": 2,
                "cols": COLS,
                "offset": 0,
                "stride": COLS,
                "rect_px": (0, 0, 6, 4),
            }
        ],
        "seconds": 0.0,
        "error": error,
    }
    if error:
        return SampleRecord({"sample_id": sample["sample_id"], "error": error})
    flow = MapRecord(
        layers={name: rng.random(LAYERS, np.float32) for name in ("visual_ratio", "visual_entropy")},
        heads={"visual_ratio": rng.random((LAYERS, HEADS), np.float32)},
        rows={"visual_ratio": rng.random((LAYERS, ROWS), np.float32)},
        maps=rng.random((LAYERS, ROWS, visual), np.float32) * 1e-3,
        head_maps=rng.random((LAYERS, HEADS, visual), np.float32),
    )
    return SampleRecord(sample, [picture.getvalue()], {"raw": flow})


@pytest.fixture
def record():
    return synthetic_record
