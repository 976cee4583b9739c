"""The tables of a shard: samples (a row a sample) and its metrics by layer, head and query row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from vifscope.runs.records import MapRecord, SampleRecord

_GRID = {
    "frame": pa.string(),
    "image": pa.int32(),
    "rows": pa.int32(),
    "cols": pa.int32(),
    "offset": pa.int32(),
    "stride": pa.int32(),
    "rect_px": pa.list_(pa.float64()),
}
_SPOTLIGHT = {
    "mid": pa.int32(),
    "deep": pa.int32(),
    "branch": pa.string(),
    "row": pa.float32(),
    "col": pa.float32(),
    "spread": pa.float32(),
    "weight": pa.float32(),
}
SAMPLES = pa.schema(
    {
        "sample_id": pa.string(),
        "image": pa.list_(pa.string()),  # paths in the run
        "question": pa.string(),
        "answer": pa.string(),
        "response": pa.string(),
        "correct": pa.bool_(),
        "score": pa.float64(),
        "answer_logprob": pa.float64(),
        "kind": pa.string(),
        "size": pa.string(),
        "boxes": pa.list_(pa.list_(pa.float64())),
        "input_ids": pa.list_(pa.int32()),
        "tokens": pa.list_(pa.string()),
        "segment": pa.list_(pa.int8()),
        "visual": pa.list_(pa.int32()),
        "query_rows": pa.list_(pa.int32()),
        "measured": pa.list_(pa.bool_()),
        "images": pa.list_(pa.struct(_GRID)),
        "spotlights": pa.list_(pa.struct(_SPOTLIGHT)),  # of a model with VIF
        "seconds": pa.float64(),
        "error": pa.string(),
    }
)


def samples_table(records: Sequence[SampleRecord], images: Sequence[Sequence[str]]) -> pa.Table:
    """samples/: a row a record; `images` are the paths of its pictures in the run. Raises ValueError (unknown key)."""
    rows = []
    for record, paths in zip(records, images, strict=True):
        if unknown := record.sample.keys() - set(SAMPLES.names):
            raise ValueError(f"samples/ has no column {sorted(unknown)}; its columns are {SAMPLES.names}")
        sample = {
            name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in record.sample.items()
        }
        rows.append(sample | {"image": list(paths), "error": sample.get("error") or None})
    return pa.Table.from_pylist(rows, schema=SAMPLES)


def layers_table(records: Sequence[SampleRecord]) -> pa.Table:
    """layers/: a row a sample, map kind and layer."""
    return _table(records, lambda flow: flow.layers, ["layer"])


def heads_table(records: Sequence[SampleRecord]) -> pa.Table:
    """heads/: a row a sample, map kind, layer and head."""
    return _table(records, lambda flow: flow.heads, ["layer", "head"])


def rows_table(records: Sequence[SampleRecord]) -> pa.Table:
    """rows/: a row a sample, map kind, layer and stored query row (`row` counts them, `position` is its place)."""
    return _table(records, lambda flow: flow.rows, ["layer", "row"])


def _table(
    records: Sequence[SampleRecord], metrics_of: Callable[[MapRecord], dict[str, np.ndarray]], axes: list[str]
) -> pa.Table:
    tables = [pa.table({"sample_id": pa.array([], pa.string())})]
    for record in records:
        for kind, flow in record.flows.items():
            metrics = metrics_of(flow)
            shape = next(iter(metrics.values())).shape
            indices = np.indices(shape, dtype=np.int32).reshape(len(axes), -1)
            columns: dict[str, Any] = {"sample_id": pa.repeat(record.sample_id, indices.shape[1])}
            columns |= {"map": pa.repeat(kind, indices.shape[1])} | dict(zip(axes, indices, strict=True))
            if axes[-1] == "row":
                columns["position"] = np.tile(np.asarray(record.sample["query_rows"], np.int32), shape[0])
                columns["measured"] = np.tile(np.asarray(record.sample["measured"], np.bool_), shape[0])
            columns |= {name: np.asarray(values, np.float32).ravel() for name, values in metrics.items()}
            tables.append(pa.table(columns))
    return pa.concat_tables(tables, promote_options="default").combine_chunks()
