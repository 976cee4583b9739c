"""One call of the attention op, as the calling module makes it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from vif_core.flow.rows import causal_mask, row_probabilities


@dataclass(frozen=True)
class AttentionCall:
    """What an attention module gives to the op.

    query: [B, H, Q, D], rotary embedding applied.      key, value: [B, G, K, D], the cache's included.
    mask:  boolean (True = visible) or additive [B, 1, Q, K]; padding [B, K] for flash kernels; or None.
    extras: the op's keyword arguments.
    total: positions so far, cached ones included; None stands for K.
    crosses: the keys are not the queries' own sequence, but all those of a cross-attention.
    """

    module: nn.Module
    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    extras: dict[str, Any]
    total: int | None = None
    crosses: bool = False

    @property
    def query_positions(self) -> range:
        """Position in the padded sequence of each of the Q queries. They are the last ones: some layers trim."""
        own = self.query if self.crosses else self.key
        total = own.shape[2] if self.total is None else self.total
        return range(total - self.query.shape[2], total)

    @property
    def key_positions(self) -> range:
        """Position in the padded sequence of each of the K keys. A sliding layer's cache drops the first ones."""
        n_keys = self.key.shape[2]
        first = 0 if self.total is None or self.crosses else max(0, self.total - n_keys)
        return range(first, first + n_keys)

    @property
    def causal(self) -> bool:
        """Without a mask of edges, the last query sees all keys, and each one before it a key less."""
        flag = self.extras.get("is_causal")
        return getattr(self.module, "is_causal", True) if flag is None else flag

    @property
    def sinks(self) -> Tensor | None:
        """Logits of attention sinks, [H] or [B, H, Q, 1]."""
        found = (self.extras.get("s_aux"), self.extras.get("sinks"), getattr(self.module, "sinks", None))
        return next((sinks for sinks in found if sinks is not None), None)

    def rows(self, rows: Tensor) -> Tensor:
        """Probabilities [B, H, R, K] of query rows [B, R] (indices among the Q queries), as this call uses them."""
        return row_probabilities(
            self.query,
            self.key,
            self.mask,
            rows,
            scaling=self.extras.get("scaling"),
            softcap=self.extras.get("softcap"),
            position_bias=self.extras.get("position_bias"),
            sinks=self.sinks,
            causal=self.causal,
            window=self.extras.get("sliding_window"),
        )

    def visible(self, rows: Tensor, keys: Tensor) -> Tensor:
        """Whether query rows [B, R] (indices among the Q queries) see keys [B, P] (indices among the K): [B, R, P].

        A row [1, R] stands for every sample. Of a mask that differs between heads, the first head's is read.
        """
        n_queries = self.query.shape[2]
        seen = torch.ones(len(keys), rows.shape[1], keys.shape[1], dtype=torch.bool, device=keys.device)
        if self.mask is not None and self.mask.dim() == 4:
            mask = self.mask[:, 0].expand(len(keys), -1, -1)
            if mask.shape[1] > 1:
                mask = mask.gather(1, rows[:, :, None].expand(len(keys), -1, mask.shape[2]))  # [B R K]
            mask = mask.gather(2, keys[:, None].expand(-1, mask.shape[1], -1))  # [B R P]
            return seen & (mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2)
        if self.mask is not None:
            seen = seen & self.mask.bool().gather(1, keys)[:, None]
        window = self.extras.get("sliding_window")
        if self.causal and n_queries > 1:
            distance = rows[:, :, None] - keys[:, None]
            nearest = n_queries - self.key.shape[2]  # the last query and the last key lie at the same place
            seen = seen & (distance >= nearest)
            if window is not None:
                seen = seen & (distance < nearest + window)
        return seen

    def without(self, blocked: Tensor) -> AttentionCall:
        """This call with the edges `blocked` (boolean, broadcast to [B, H, Q, K]) masked out."""
        mask = self.mask
        if mask is None:
            n_queries, n_keys = self.query.shape[2], self.key.shape[2]
            hidden = self.causal and n_queries > 1
            seen = causal_mask(n_queries, n_keys, blocked.device) if hidden else torch.ones_like(blocked)
            added = torch.zeros((), dtype=self.query.dtype, device=blocked.device)  # eager attention adds its mask
            return replace(self, mask=added.masked_fill(~seen | blocked, torch.finfo(added.dtype).min))
        mask = mask[..., : self.key.shape[2]]
        if mask.dtype == torch.bool:
            return replace(self, mask=mask & ~blocked)
        return replace(self, mask=mask.masked_fill(blocked, torch.finfo(mask.dtype).min))
