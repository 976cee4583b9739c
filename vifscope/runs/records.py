"""What a run stores of one sample."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from vifscope.metrics.record import MapRecord

__all__ = ["MapRecord", "SampleRecord"]


@dataclass
class SampleRecord:
    """One sample, measured or failed.

    sample:   a row of samples/: sample_id, question, answer, response, correct, score, answer_logprob, kind, size,
              boxes (xyxy in original pixels), input_ids [K], tokens [K], segment [K], visual [V] (positions),
              query_rows [R] (positions), measured [R] (does the row enter the layer metrics), images (a dict a grid:
              frame, image, rows, cols, offset, stride, rect_px), spotlights (of a model with VIF, a dict a component:
              mid, deep, branch, row and col of its centre in [0, 1] of the image, spread in its longer side, weight),
              seconds, error. Missing keys are stored as null, unknown ones refused.
    pictures: the sample's images as PNG bytes.
    flows:    map kind -> its arrays, "raw" first; empty where the sample failed, and then `error` says why.
    """

    sample: dict[str, Any]
    pictures: list[bytes] = field(default_factory=list)
    flows: dict[str, MapRecord] = field(default_factory=dict)

    @property
    def sample_id(self) -> str:
        return self.sample["sample_id"]
