"""What a trained model does on chosen samples: its answers, its flow, and the maps of its VIF; a record a sample."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from vif_core.data.open import open_source
from vif_core.data.sample import Sample
from vif_core.load import load
from vif_core.vif.gmm import Spotlights
from vif_core.vif.losses import kl_divergence
from vif_core.vif.model import VIFModel
from vif_core.vif.passes import MapsFrom, PairReading
from vif_core.vlm.batch import Batch
from vif_core.vlm.layout import box_weights, patch_boxes
from vif_core.vlm.model import VLM
from vifscope.ablation.samples import Asked
from vifscope.evidence.answers import answer
from vifscope.failures import reason, spared
from vifscope.measure import Reading, measure
from vifscope.metrics.boxes import box_lift
from vifscope.metrics.entropy import visual_entropy
from vifscope.scoring.answers import score_response
from vifscope.summary import plain_numbers

Maps = Literal["trained", "draw", "posterior", "swapped"]
"""How maps are made: as the model is used (from the prior's mean); from one draw of the prior; from the posterior's
mean, which is told the right answer; or from another sample of the batch."""

FLOW = ("visual_ratio", "ratio_lift", "visual_entropy", "relative_entropy", "box_mass", "box_lift")
"""Metrics that are kept of every layer."""

SPARE_TOKENS = 16
"""A response may be twice as long as the right answer, and this many tokens more (what the answer follows from)."""


@dataclass(frozen=True)
class Part:
    """One thing that is measured. name: of its file."""

    name: str
    what: Literal["answers", "flow", "maps"]
    maps: Maps = "trained"


class Measurer:
    """Measures parts of one trained model, batch by batch.

    maps_from: what its maps were made from in training.      data: what the samples are drawn from.
    """

    def __init__(self, model: Path, maps_from: MapsFrom, data: str, threads: int | None = None) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self.vlm = load(model)
        self.source = open_source(data)
        self.maps_from = maps_from
        if self.vlm.vif is not None:
            self.vlm.vif.maps_from = maps_from

    def __call__(self, part: Part, asked: Sequence[Asked]) -> list[dict[str, Any]]:
        """Records of one batch: sample_id, image, kind, size, error, and what was measured where that is None."""
        least = 2 if "swapped" in (part.maps, self.maps_from) else 1  # a sample alone has nobody to swap maps with
        return spared(asked, lambda some: self._measured(part, some), _failed, least)

    def _measured(self, part: Part, asked: Sequence[Asked]) -> list[dict[str, Any]]:
        samples = [self.source[each.index] for each in asked]
        if part.what == "maps":
            rows = map_rows(self.vlm, samples)
        else:
            with made(self.vlm, samples, part.maps):
                rows = answer_rows(self.vlm, samples) if part.what == "answers" else flow_rows(self.vlm, samples)
        return [_known(each) | {"error": None} | row for each, row in zip(asked, rows, strict=True)]


def answer_rows(vlm: VLM, samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """Greedy responses of a batch: response, correct, score."""
    responses = answer(vlm, samples, _longest(vlm, samples))
    rows = []
    for sample, response in zip(samples, responses, strict=True):
        correct, score = score_response(sample, response)
        rows.append({"response": response, "correct": correct, "score": score})
    return rows


def flow_rows(vlm: VLM, samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """Metrics of a batch's response rows in every layer, a list of L values each: FLOW; None where undefined."""
    records = measure(vlm, samples, Reading(max_new_tokens=_longest(vlm, samples)))
    return [
        plain_numbers({name: record.flows["raw"].layers[name].astype(float).tolist() for name in FLOW})
        for record in records
    ]


def map_rows(vlm: VLM, samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """The maps themselves, of a batch with its right answers: a list with a value for each layer pair.

    map_entropy:  over visual tokens, in nats.      map_box_lift: mass on the target over an even map's.
    centre:       (row, col) in [0, 1] of the centre of mass.
    posterior_box_lift, kl_nats: lift of the posterior's map, and KL(q || p) of the turn; absent without a posterior.
    The first three are of the map that the prior's mean gives, which is the one in use.
    """
    vif: VIFModel = vlm.vif
    batch = _told(vlm, samples)
    readings = _readings(vif, batch)
    visual, weights, points = _places(batch, samples, vlm.device)
    columns: dict[str, list[Tensor]] = {}
    for reading in readings.values():
        used = _over_visual(vif, reading.maps if reading.prior_maps is None else reading.prior_maps)
        part = {
            "map_entropy": visual_entropy(used, visual),
            "map_box_lift": box_lift(used, weights),
            "centre": (used[..., None] * points).sum(1) / used.sum(1, keepdim=True).clamp(min=1e-12),
        }
        if reading.posterior is not None:
            part["posterior_box_lift"] = box_lift(_over_visual(vif, reading.maps), weights)
            part["kl_nats"] = kl_divergence(reading.posterior, reading.prior).sum((-1, -2))
        for name, values in part.items():
            columns.setdefault(name, []).append(values)
    stacked = {name: torch.stack(values, 1).tolist() for name, values in columns.items()}
    return [plain_numbers({name: values[i] for name, values in stacked.items()}) for i in range(len(samples))]


@contextmanager
def made(vlm: VLM, samples: Sequence[Sample], maps: Maps) -> Iterator[None]:
    """Within the block the maps of a batch of these samples are made so."""
    vif: VIFModel = vlm.vif
    if maps == "draw":
        with vif.drawing("prior-draw"):
            yield
    elif maps == "posterior":
        with vif.holding(posterior_lights(vlm, samples)):
            yield
    elif maps == "swapped":
        before, vif.maps_from = vif.maps_from, "swapped"
        try:
            yield
        finally:
            vif.maps_from = before
    else:
        yield


def posterior_lights(vlm: VLM, samples: Sequence[Sample]) -> dict[int, Spotlights]:
    """Spotlights that the posterior's mean gives a batch, from questions and right answers, by injection layer."""
    return {deep: reading.lights for deep, reading in _readings(vlm.vif, _told(vlm, samples)).items()}


def _readings(vif: VIFModel, batch: Batch) -> Mapping[int, PairReading]:
    with torch.inference_mode(), vif.drawing("posterior-mean"):
        vif.base(**batch.inputs)
    assert vif.current is not None
    return vif.current.readings


def _told(vlm: VLM, samples: Sequence[Sample]) -> Batch:
    """The batch with its right answers and what ends them, as in training."""
    ending = [] if vlm.tokenizer.eos_token_id is None else [vlm.tokenizer.eos_token_id]
    return vlm.encode(samples, [[*vlm.response_ids(sample.answer or ""), *ending] for sample in samples])


def _over_visual(vif: VIFModel, maps: Tensor) -> Tensor:
    """Maps over the visual tokens alone, [M, V]; those of variant full-sequence lie over every position."""
    assert vif.current is not None
    turns = vif.current.turns
    if vif.config.variant != "full-sequence":
        return maps.float()
    at = turns.visual[turns.sample]
    return maps.float().gather(1, at.clamp(min=0)) * (at >= 0)


def _places(batch: Batch, samples: Sequence[Sample], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Visual tokens [B, V], their cover by the target boxes [B, V] (NaN where unknown), their centres [B, V, 2]."""
    longest = max(len(layout.visual) for layout in batch.layouts)
    visual = torch.zeros(len(batch), longest, dtype=torch.bool)
    weights = torch.full((len(batch), longest), math.nan)
    for b, (layout, sample) in enumerate(zip(batch.layouts, samples, strict=True)):
        count = len(layout.visual)
        visual[b, :count] = True
        if sample.boxes:
            placed = torch.from_numpy(patch_boxes(layout.grids, count)).isfinite().all(-1)
            covered = torch.from_numpy(box_weights(layout.grids, count, sample.boxes)).float()
            weights[b, :count] = covered.where(placed, math.nan)
    turns: Any = batch.inputs["turns"]
    return visual.to(device), weights.to(device), turns.points.nan_to_num(0.5).to(device)


def _failed(asked: Asked, error: Exception) -> dict[str, Any]:
    return _known(asked) | {"error": reason(error)}


def _known(asked: Asked) -> dict[str, Any]:
    return {name: getattr(asked, name) for name in ("sample_id", "image", "kind", "size")}


def _longest(vlm: VLM, samples: Sequence[Sample]) -> int:
    return SPARE_TOKENS + 2 * max(len(vlm.response_ids(sample.answer or "")) for sample in samples)
