"""Maps on disk, fp16 values over each row's maximum, the maxima in fp32, a safetensors file a shard; and on their grid.

fp16 alone underflows where thousands of tokens share a row; over the maximum the error stays within 2^-11 of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from safetensors.numpy import save

from vif_core.vlm.layout import grid_index
from vifscope.runs.records import SampleRecord


def key(sample_id: str, kind: str, *, per_head: bool = False) -> str:
    """Name of a sample's map in its shard: [L, R, V], or per head [L, H, V]; its maxima are under key + "/scale"."""
    return f"s/{sample_id}/{kind}" + ("/heads" if per_head else "")


def scaled(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[..., V] as fp16 [..., V] over the maximum of each row, and the maxima, fp32 [...]. Rows of zeros, NaN stay so.

    >>> stored, scale = scaled(np.array([[1e-9, 2e-9, 0.0]], dtype=np.float32))
    >>> stored.tolist(), scale.tolist() == [np.float32(2e-9)]
    ([[0.5, 1.0, 0.0]], True)
    """
    values = values.astype(np.float32, copy=False)
    scale = values.max(axis=-1, initial=0.0)
    return (values / np.where(scale == 0, 1, scale)[..., None]).astype(np.float16), scale


def unscaled(stored: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The inverse of `scaled`: fp32 [..., V], off by at most 2^-11 of each row's maximum."""
    return stored.astype(np.float32) * scale[..., None]


def maps_file(records: Iterable[SampleRecord]) -> bytes:
    """The safetensors file with every map of `records`."""
    tensors: dict[str, np.ndarray] = {}
    for record in records:
        for kind, flow in record.flows.items():
            for per_head, values in ((False, flow.maps), (True, flow.head_maps)):
                if values is not None:
                    name = key(record.sample_id, kind, per_head=per_head)
                    tensors[name], tensors[f"{name}/scale"] = scaled(values)
    return save(tensors)


def on_grid(flow: np.ndarray, grid: dict[str, Any]) -> np.ndarray:
    """Values of visual tokens [..., V] laid out on one of a sample's grids: [..., rows, cols].

    >>> on_grid(np.arange(7), {"offset": 1, "stride": 3, "rows": 2, "cols": 2}).tolist()
    [[1, 2], [4, 5]]
    """
    return flow[..., grid_index(*(grid[name] for name in ("rows", "cols", "offset", "stride")))]
