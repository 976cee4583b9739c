"""Read the flow of chosen query rows at every decoder layer, in one traced forward pass."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from nnsight import NNsight
from torch import Tensor

from vif_core.errors import UnsupportedModel
from vif_core.flow.call import AttentionCall
from vif_core.flow.op import effective_rows
from vif_core.vlm.batch import Batch
from vif_core.vlm.model import VLM

T = TypeVar("T")

ATTENTION_OP = "attention_interface_1"
"""nnsight's label of the attention op in a module's source: the name's second occurrence, after its binding."""


def capture(
    vlm: VLM,
    batch: Batch,
    rows: Sequence[np.ndarray],
    reduce: Callable[[int, Float[Tensor, "B H R K"]], T],
) -> list[T]:
    """One traced pass over `batch`: `reduce(layer, flow)` of every decoder layer, in execution order.

    rows:   each sample's query rows, as positions in its sequence without padding.
    reduce: gets the layer's index and the flow of those rows (fp32; R = the longest, shorter ones repeat their
            last row; K = padded length), interventions applied. It runs inside the pass, so that a layer's flow is
            gone before the next layer's is made.
    """
    wanted = padded_rows(batch, rows).to(vlm.device)
    ops = attention_ops(vlm)
    results: list[T] = []
    with torch.inference_mode(), vlm.traced.trace(**batch.inputs):
        for layer, op in zip(vlm.layers, ops, strict=True):
            (module, query, key, value, mask), extras = op.inputs
            flow = effective_rows(AttentionCall(module, query, key, value, mask, extras), wanted)
            results.append(reduce(layer.index, flow))
    return results


def attention_ops(vlm: VLM) -> list[Any]:
    """nnsight's handles of the attention op in every layer. Raises UnsupportedModel where a layer has none."""
    if vlm.traced is None:
        with warnings.catch_warnings():  # that a Q-Former has submodules named "output" does not matter here
            warnings.filterwarnings("ignore", "Module .* has a submodule named")
            vlm.traced = NNsight(vlm.model)
    ops = []
    for layer in vlm.layers:
        op = getattr(vlm.traced.get(layer.path).source, ATTENTION_OP, None)
        if op is None:
            raise UnsupportedModel(
                f"no operation {ATTENTION_OP} in the source of {type(layer.attention).__name__}",
                expected="the label that nnsight 0.8 gives to transformers' attention call",
                next_step="Install the versions named in constraints.txt",
            )
        ops.append(op)
    return ops


def padded_rows(batch: Batch, rows: Sequence[np.ndarray]) -> Int[Tensor, "B R"]:
    """Rows as positions in the padded sequence, each sample's filled up by repeating its last.

    A sample without rows gets its last position.
    """
    longest = max([1, *(len(own) for own in rows)])
    filled = [
        np.pad(own, (0, longest - len(own)), mode="edge") if len(own) else np.full(longest, len(layout) - 1)
        for own, layout in zip(rows, batch.layouts, strict=True)
    ]
    return torch.from_numpy(np.stack(filled) + np.array(batch.pad)[:, None])
