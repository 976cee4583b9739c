"""One batch of samples through the model: response, flow, metrics, records."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from PIL import Image

from vif_core.data.sample import Sample
from vif_core.errors import SampleError, UsageError
from vif_core.vlm.batch import Batch
from vif_core.vlm.layout import Layout, RowKind
from vif_core.vlm.model import VLM
from vifscope.failures import reason
from vifscope.metrics.reduce import LayerReducer
from vifscope.runs import SampleRecord
from vifscope.scoring.answers import score_response
from vifscope.trace.capture import capture

ROW_KINDS = get_args(RowKind)
RESPONSES = ("generated", "given")
WITHOUT_LIGHTS = ("mid-feature", "full-sequence")
"""Variants of VIF without spotlights on the image."""


@dataclass(frozen=True)
class Reading:
    """What is read of each sample.

    rows:       query rows that enter the metrics.      store_rows: query rows whose maps are stored as well.
    max_rows:   at most so many of each, evenly spaced; None for all.
    response:   "generated" (greedily, at most max_new_tokens) or "given" (the sample's answer).
    """

    rows: RowKind = "response"
    store_rows: RowKind = "response"
    max_rows: int | None = None
    response: Literal["generated", "given"] = "generated"
    max_new_tokens: int = 96

    def __post_init__(self) -> None:
        choices = (("rows", ROW_KINDS), ("store_rows", ROW_KINDS), ("response", RESPONSES))
        for name, allowed in choices:
            if (value := getattr(self, name)) not in allowed:
                raise UsageError(f"{name} is {value!r}", expected=f"one of {', '.join(allowed)}")
        for name in ("max_rows", "max_new_tokens"):
            if (number := getattr(self, name)) is not None and number < 1:
                raise UsageError(f"{name} is {number}", expected="at least 1")


def measure(vlm: VLM, samples: Sequence[Sample], reading: Reading) -> list[SampleRecord]:
    """Records of a batch of samples, measured together: responses first, then one traced pass over all of them.

    The layer metrics are means over the rows of kind `reading.rows`; a sample without such rows (an empty response)
    keeps its last prompt row's maps and has no layer metrics. Raises whatever the model raises for the batch.
    """
    start = time.perf_counter()
    responses = _responses(vlm, samples, reading)
    batch = vlm.encode(samples, responses)
    measured = [layout.rows(reading.rows, reading.max_rows, vlm.eos_ids) for layout in batch.layouts]
    stored = [_stored(*pair, reading, vlm) for pair in zip(batch.layouts, measured, strict=True)]
    enters = [np.isin(positions, wanted) for positions, wanted in zip(stored, measured, strict=True)]
    boxes = [sample.boxes for sample in samples]
    reducer = LayerReducer(
        batch.layouts, batch.key_pad, stored, enters, boxes, num_layers=vlm.num_layers, device=vlm.device
    )
    with _response_logprobs(vlm, batch) as logprobs:
        layers = capture(vlm, batch, stored, reducer)
    flows = reducer.records(layers)
    lights = _spotlights(vlm, samples)
    seconds = (time.perf_counter() - start) / len(samples)
    return [
        SampleRecord(
            _columns(sample)
            | _response_columns(vlm, sample, ids)
            | _layout_columns(vlm, layout)
            | {"query_rows": rows, "measured": enter, "answer_logprob": logprob, "spotlights": light}
            | {"seconds": seconds},
            [_png(picture) for picture in sample.opened().pictures],
            {"raw": flow},
        )
        for sample, ids, layout, rows, enter, logprob, light, flow in zip(
            samples, responses, batch.layouts, stored, enters, logprobs, lights, flows, strict=True
        )
    ]


def failed(sample: Sample, error: Exception) -> SampleRecord:
    """The record of a sample that could not be measured: what it is, and the first line of why."""
    return SampleRecord(_columns(sample) | {"error": reason(error)})


def _responses(vlm: VLM, samples: Sequence[Sample], reading: Reading) -> list[list[int]]:
    if reading.response == "generated":
        return vlm.generate(samples, reading.max_new_tokens)
    for sample in samples:
        if not sample.answer:
            raise SampleError(
                f"sample {sample.sample_id} has no answer to be given as its response",
                expected="an answer in the data",
                next_step="Add it, or read generated responses",
            )
    return [vlm.response_ids(sample.answer or "") for sample in samples]


def _stored(layout: Layout, measured: np.ndarray, reading: Reading, vlm: VLM) -> np.ndarray:
    rows = np.union1d(measured, layout.rows(reading.store_rows, reading.max_rows, vlm.eos_ids))
    return rows.astype(np.int64) if len(rows) else layout.rows("last")


@contextmanager
def _response_logprobs(vlm: VLM, batch: Batch) -> Iterator[list[float]]:
    """Filled during the pass: the log-probability (natural) of each sample's response, summed over its tokens.

    From the logits that the model returns, which some scale or cap after their head. NaN for an empty response, and for
    a model without logits.
    """
    logprobs: list[float] = []

    def read(_module: Any, _inputs: Any, output: Any) -> None:
        for row, layout, left in zip(output.logits, batch.layouts, batch.pad, strict=True):
            tokens = torch.from_numpy(layout.input_ids[layout.response_start :]).to(row.device)
            start = left + layout.response_start - 1
            before = row[start : start + len(tokens)].float().log_softmax(-1)  # [T vocabulary]
            logprobs.append(before.gather(1, tokens[:, None]).sum().item() if len(tokens) else math.nan)

    if vlm.model.get_output_embeddings() is None:
        yield [math.nan] * len(batch)
        return
    handle = vlm.model.register_forward_hook(read)
    try:
        yield logprobs
    finally:
        handle.remove()


def _columns(sample: Sample) -> dict[str, Any]:
    return {
        "sample_id": sample.sample_id,
        "question": sample.question,
        "answer": sample.answer,
        "kind": sample.kind,
        "size": sample.size,
        "boxes": [list(box) for box in sample.boxes],
    }


def _response_columns(vlm: VLM, sample: Sample, ids: Sequence[int]) -> dict[str, Any]:
    response = vlm.decode(ids)
    correct, score = score_response(sample, response)
    return {"response": response, "correct": correct, "score": score}


def _layout_columns(vlm: VLM, layout: Layout) -> dict[str, Any]:
    return {
        "input_ids": layout.input_ids,
        "tokens": vlm.tokenizer.convert_ids_to_tokens(layout.input_ids.tolist()),
        "segment": layout.segment,
        "visual": layout.visual,
        "images": [vars(grid) | {"rect_px": list(grid.rect_px)} for grid in layout.grids],
    }


def _spotlights(vlm: VLM, samples: Sequence[Sample]) -> list[list[dict[str, Any]] | None]:
    """Each sample's spotlights, prior and where it has an answer posterior; None for a model without any."""
    if vlm.vif is None or not vlm.vif.enabled or vlm.vif.config.variant in WITHOUT_LIGHTS:
        return [None] * len(samples)
    return [
        [
            {"mid": mid, "deep": deep, "branch": branch, "row": row, "col": col, "spread": spread, "weight": weight}
            for (mid, deep), branches in found.items()
            for branch, lights in branches.items()
            for (row, col), spread, weight in zip(
                lights.centres.tolist(), lights.spreads.tolist(), lights.weights.tolist(), strict=True
            )
        ]
        for found in vlm.vif.spotlights_of(samples)
    ]


def _png(image: Image.Image) -> bytes:
    encoded = io.BytesIO()
    image.save(encoded, "PNG", compress_level=1)
    return encoded.getvalue()
