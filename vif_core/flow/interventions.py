"""What can be done to a layer's attention at the op."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from vif_core.errors import UsageError, VifError
from vif_core.flow.call import AttentionCall
from vif_core.vlm.batch import Batch

Positions = Sequence[int] | np.ndarray
"""Positions in one sample's sequence, padding left out."""

EDGE_MASKED = ("sdpa", "eager")
"""Implementations of the op that take a mask of edges. Flash kernels take none, flex one of its own kind."""


@runtime_checkable
class Intervention(Protocol):
    """A change of one layer's attention: of what the op is given, or of what it returns.

    Whoever changes the output says with `rows` what became of the probabilities, so that the flow that is measured
    is the flow that was used.
    """

    def before(self, call: AttentionCall) -> AttentionCall:
        """The call that is made in place of `call`."""
        ...

    def after(self, call: AttentionCall, output: Tensor) -> Tensor:
        """What is returned in place of the op's output [B, Q, H, D]."""
        ...

    def rows(self, call: AttentionCall, rows: Tensor, flow: Tensor) -> Tensor:
        """The effective flow [B, H, R, K] of query rows [B, R], from the probabilities that `call` used."""
        ...

    def changes(self, call: AttentionCall) -> Tensor:
        """Query rows [B, R] of this call that are changed; samples with fewer repeat one of theirs."""
        ...


@dataclass(frozen=True)
class Knockout:
    """Edges cut: the query rows `queries` do not see the keys `keys`. Their mass goes to the keys still visible.

    queries, keys: positions among the padded queries and the padded keys, True where cut. Positions beyond N (generated
    later) stay as they are, unless `later` is set: then every later query is cut from `keys` too.
    A row of a cross-attention that has no key left gets nothing; of the sequence's own keys it must keep one.
    """

    queries: Bool[Tensor, "B N"]
    keys: Bool[Tensor, "B K"]
    later: bool = False

    @classmethod
    def of(cls, batch: Batch, queries: Sequence[Positions], keys: Sequence[Positions], later: bool = False) -> Knockout:
        """From each sample's positions, counted without its padding."""
        return cls(_padded(queries, batch.pad, batch.length), _padded(keys, batch.key_pad, batch.num_keys), later)

    def before(self, call: AttentionCall) -> AttentionCall:
        return call.without(self.cut(call))

    def after(self, call: AttentionCall, output: Tensor) -> Tensor:
        return output.masked_fill(self._blind(call)[:, 0, :, :, None], 0) if call.crosses else output

    def rows(self, call: AttentionCall, rows: Tensor, flow: Tensor) -> Tensor:
        at = rows[:, None, :, None] % call.query.shape[2]
        if call.crosses:
            flow = flow.masked_fill(self._blind(call).take_along_dim(at, dim=2), 0)
        cut = self.cut(call).take_along_dim(at, dim=2)
        blocked = flow.masked_select(cut.expand_as(flow))
        if blocked.any():
            raise VifError(
                f"knocked-out edges still carry a mass of up to {blocked.max():.3g}",
                expected="zero",
                next_step="Leave each knocked-out row at least one key to see",
            )
        return flow

    def changes(self, call: AttentionCall) -> Tensor:
        cut = self.cut(call).any(-1)[:, 0]  # [B Q]
        most = max(1, int(cut.sum(-1).max()))
        return cut.byte().topk(most, dim=-1).indices

    def cut(self, call: AttentionCall) -> Bool[Tensor, "B 1 Q K"]:
        """Which edges of this call are cut. Raises UsageError for another batch size or a maskless implementation."""
        if len(self.queries) != len(call.query):
            raise UsageError(
                f"a knockout made for a batch of {len(self.queries)} samples met one of {len(call.query)}",
                expected="equal sizes",
                next_step="Make the knockout from the batch that is run, and pass that batch to intervene",
            )
        config: Any = call.module.config
        implementation = config._attn_implementation
        if implementation not in EDGE_MASKED:
            raise UsageError(
                f"a knockout under attention {implementation!r}, which takes no mask of edges",
                expected="sdpa or eager",
                next_step="Load the model with attn='sdpa'",
            )
        queries = _at(self.queries, call.query_positions, beyond=self.later)
        keys = _at(self.keys, call.key_positions, beyond=False)
        return (queries[:, None, :, None] & keys[:, None, None, :]).to(call.query.device)

    def _blind(self, call: AttentionCall) -> Bool[Tensor, "B 1 Q 1"]:
        """Rows that this knockout, or one before it, left without any key; `call` is what the op was given."""
        cut, mask = self.cut(call), call.mask
        assert mask is not None  # as `before` has put one
        seen = mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2
        return cut.any(-1, keepdim=True) & ~seen[..., : cut.shape[-1]].any(-1, keepdim=True)


def _padded(positions: Sequence[Positions], pad: Sequence[int], length: int) -> Tensor:
    chosen = torch.zeros(len(positions), length, dtype=torch.bool)
    for i, own in enumerate(positions):
        chosen[i, torch.as_tensor(own, dtype=torch.long) + pad[i]] = True
    return chosen


def _at(chosen: Tensor, positions: range, beyond: bool) -> Tensor:
    """`chosen` [B, N] at `positions`, which may reach past N."""
    known = chosen[:, positions.start : positions.stop]
    return torch.nn.functional.pad(known, (0, len(positions) - known.shape[1]), value=beyond)
