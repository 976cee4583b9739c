"""From one layer's flow to its metrics, while the flow is still where it was computed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from vif_core.data.sample import Box
from vif_core.vlm.layout import SEGMENTS, Layout, box_weights, patch_boxes
from vifscope.metrics.boxes import box_mass, pointing_hit, uniform_box_mass
from vifscope.metrics.entropy import largest_entropy, visual_entropy
from vifscope.metrics.ratio import ratio_lift, visual_ratio
from vifscope.metrics.record import MapRecord
from vifscope.metrics.tail import top_share

HEAD_MAPS_BYTES = 256_000
"""Head maps are kept where a sample's take less than this in fp16, or on request."""

SHARES = ("bos", "template", "question", "response")
HEAD_METRICS = (
    "visual_ratio",
    "visual_entropy",
    "relative_entropy",
    "top_share",
    "box_mass",
    "box_lift",
    "pointing_hit",
)
ROW_METRICS = (*HEAD_METRICS, "ratio_lift", *(f"share_{name}" for name in SHARES))
LAYER_METRICS = (*ROW_METRICS, "visual_entropy_mean_of_heads")


@dataclass
class LayerMetrics:
    """One layer of B samples: P layer, M head and N row metrics; rows and visual tokens padded to the longest sample's.

    layers: the row metrics' means over the measured rows, and last of all visual_entropy_mean_of_heads.
    """

    layer: int
    layers: Float[Tensor, "P B"]
    heads: Float[Tensor, "M B H"]
    rows: Float[Tensor, "N B R"]
    maps: Float[Tensor, "B R V"]
    head_maps: Float[Tensor, "B H V"] | None


class LayerReducer:
    """Computes a layer's metrics for a whole padded batch; `records` then gives each sample its own, padding cut off.

    layouts, pad:  where everything is in each sample, and the padding before its keys (a Batch's `key_pad`).
    rows:          positions [R] in each sample (padding not counted) of the rows in the flow.
    measured:      [R] bool for each sample: the rows that enter the means over rows.
    boxes:         target boxes of each sample, xyxy in original pixels of its first image; empty where unknown.
    num_layers:    decoder layers of the model; those never reduced become NaN.
    head_maps:     keep each head's map; by default where they are small.
    """

    def __init__(
        self,
        layouts: Sequence[Layout],
        pad: Sequence[int],
        rows: Sequence[np.ndarray],
        measured: Sequence[np.ndarray],
        boxes: Sequence[Sequence[Box]],
        num_layers: int,
        *,
        head_maps: bool | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self._num_rows = [len(positions) for positions in rows]
        self._num_visual = [len(layout.visual) for layout in layouts]
        self._num_layers = num_layers
        self._head_maps = head_maps
        B, V = len(layouts), max(1, *self._num_visual)
        M = max(1, *(int(mask.sum()) for mask in measured))
        K = max(left + len(layout.key_segment) for left, layout in zip(pad, layouts, strict=True))
        R = max(1, *self._num_rows)
        segment = np.zeros((B, K, len(SEGMENTS)), np.float32)
        visual_at, visual = np.zeros((B, V), np.int64), np.zeros((B, V), np.bool_)
        visual_keys = np.zeros((B, K), np.bool_)
        weights = np.full((B, V), np.nan, np.float32)
        measured_at, measured_rows = np.zeros((B, M), np.int64), np.zeros((B, M), np.bool_)
        enters = np.zeros((B, R), np.bool_)
        for b, (layout, left) in enumerate(zip(layouts, pad, strict=True)):
            v = len(layout.visual)
            segment[b, left + np.arange(len(layout.key_segment)), layout.key_segment] = 1
            visual_at[b, :v], visual[b, :v] = left + layout.visual, True
            visual_keys[b, left + layout.visual] = True
            if boxes[b]:
                placed = ~np.isnan(patch_boxes(layout.grids, v)[:, 0])
                weights[b, :v][placed] = box_weights(layout.grids, v, boxes[b])[placed]
            (which,) = np.nonzero(measured[b])
            measured_at[b, : len(which)], measured_rows[b, : len(which)] = which, True
            enters[b, which] = True
        self._segment, self._visual_at, self._visual, self._visual_keys, self._weights = (
            torch.from_numpy(array).to(device) for array in (segment, visual_at, visual, visual_keys, weights)
        )
        self._measured_at, self._measured, self._enters = (
            torch.from_numpy(array).to(device) for array in (measured_at, measured_rows, enters)
        )

    @torch.no_grad()
    def __call__(self, layer: int, flow: Float[Tensor, "B H R K"]) -> LayerMetrics:
        """The metrics of one layer. `flow` holds, of each sample, its rows and repeats after them, over padded keys."""
        head_mean = flow.mean(1)  # [B R K]
        maps = _take(head_mean, self._visual_at[:, None]) * self._visual[:, None]  # [B R V]
        shares = (head_mean @ self._segment).unbind(-1)
        rows = torch.stack(
            [
                *_row_metrics(maps, self._visual[:, None], self._weights[:, None]),
                ratio_lift(head_mean, self._visual_keys[:, None]),
                *(shares[SEGMENTS.index(name)] for name in SHARES),
            ]
        )  # [N B R]

        own = _take(flow.mT, self._measured_at[:, None, None]).mT  # [B H M K]
        own = _take(own, self._visual_at[:, None, None]) * self._visual[:, None, None]  # [B H M V]
        heads = torch.stack(_row_metrics(own, self._visual[:, None, None], self._weights[:, None, None]))  # [N B H M]
        mean_of_heads = _mean(heads[HEAD_METRICS.index("visual_entropy")].nanmean(1), self._measured)
        head_maps = (own * self._measured[:, None, :, None]).sum(2) / self._measured.sum(-1)[:, None, None]
        return LayerMetrics(
            layer,
            layers=torch.cat([_mean(rows, self._enters), mean_of_heads[None]]),
            heads=_mean(heads, self._measured[:, None]),
            rows=rows,
            maps=maps,
            head_maps=head_maps if self._keeps_head_maps(own.shape[1], min(self._num_visual)) else None,
        )

    def records(self, reduced: Sequence[LayerMetrics]) -> list[MapRecord]:
        """Each sample's arrays over all layers, padding cut off; NaN in the layers that `reduced` lacks."""
        at = [metrics.layer for metrics in reduced]

        def over_layers(values: Iterable[Tensor], axis: int = 0) -> np.ndarray:
            stacked = torch.stack(list(values), axis).float().cpu().numpy()
            whole = np.full((*stacked.shape[:axis], self._num_layers, *stacked.shape[axis + 1 :]), np.nan, np.float32)
            whole[(slice(None),) * axis + (at,)] = stacked
            return whole

        layers = over_layers((metrics.layers for metrics in reduced), 1)  # [P L B]
        heads = over_layers((metrics.heads for metrics in reduced), 1)  # [M L B H]
        rows = over_layers((metrics.rows for metrics in reduced), 1)  # [N L B R]
        maps = over_layers(metrics.maps for metrics in reduced)  # [L B R V]
        kept = [metrics.head_maps for metrics in reduced if metrics.head_maps is not None]
        head_maps = over_layers(kept) if kept else None  # [L B H V]
        return [
            MapRecord(
                layers=dict(zip(LAYER_METRICS, layers[:, :, b], strict=True)),
                heads=dict(zip(HEAD_METRICS, heads[:, :, b], strict=True)),
                rows=dict(zip(ROW_METRICS, rows[:, :, b, :r], strict=True)),
                maps=maps[:, b, :r, :v],
                head_maps=head_maps[:, b, :, :v]
                if head_maps is not None and self._keeps_head_maps(head_maps.shape[2], v)
                else None,
            )
            for b, (r, v) in enumerate(zip(self._num_rows, self._num_visual, strict=True))
        ]

    def _keeps_head_maps(self, num_heads: int, num_visual: int) -> bool:
        if self._head_maps is not None:
            return self._head_maps
        return self._num_layers * num_heads * num_visual * 2 < HEAD_MAPS_BYTES


def _row_metrics(
    flow: Float[Tensor, "*axes V"], visual: Bool[Tensor, "*#axes V"], weights: Float[Tensor, "*#axes V"]
) -> list[Float[Tensor, "*axes"]]:
    """HEAD_METRICS of rows of flow over visual tokens alone."""
    entropy, mass = visual_entropy(flow, visual), box_mass(flow, weights)
    return [
        visual_ratio(flow, visual),
        entropy,
        entropy / largest_entropy(visual),
        top_share(flow, visual),
        mass,
        mass / uniform_box_mass(weights),
        pointing_hit(flow, weights),
    ]


def _take(values: Float[Tensor, "*axes K"], at: Int64[Tensor, "*#axes V"]) -> Float[Tensor, "*axes V"]:
    """`values` at the indices `at` of the last axis."""
    return values.gather(-1, at.expand(*values.shape[:-1], -1))


def _mean(values: Float[Tensor, "*axes R"], enters: Bool[Tensor, "*#axes R"]) -> Float[Tensor, "*axes"]:
    """Mean over the rows that enter it; undefined rows are left out, NaN where none is left."""
    return values.where(enters, torch.nan).nanmean(-1)
