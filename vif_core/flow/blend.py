"""Equations 6 and 7: the flow of chosen rows mixed with a map, without ever building the attention matrix.

With A a row's probabilities over its visible keys and B a map, the row becomes (1 - alpha) A + alpha B, restricted to
visible keys and normalised. The op's output is linear in the row, so mixing outputs is mixing flows:
((1 - alpha) out + alpha B V) / ((1 - alpha) |A| + alpha |B visible|).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vif_core.flow.call import AttentionCall

_SINK_ROWS = 64
"""Rows whose mass is recomputed at a time where there are attention sinks."""


@dataclass(frozen=True)
class Blend:
    """Query rows mixed with maps over some keys.

    alpha: strength in [0, 1]; a scalar tensor where it is warmed up. At 0 nothing changes, sinks' share included.
    keys:  positions [B, P] in the padded sequence that the maps weigh; -1 fills up.
    maps:  weights [M, P], not negative; each map sums to 1 over its sample's keys.
    turn:  [B, N] the map of each position of the padded sequence, -1 for none. Later turns have higher numbers.
    later: positions from N on (generated later) take their sample's last map; without it they take none.
    first: no position before it has a map: where that is known, only rows from there on are worked on.
    ahead: every key that a map weighs lies before the rows that take it. Where nothing but order hides keys, these rows
           see all of their map; rows that are generated later always do, and what it gives is worked out once for them.
    A row that sees none of its map's keys stays as it is.
    """

    alpha: float | Tensor
    keys: Int[Tensor, "B P"]
    maps: Float[Tensor, "M P"]
    turn: Int[Tensor, "B N"]
    later: bool = True
    first: int = 0
    ahead: bool = False
    _later: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)

    def to(self, device: torch.device) -> Blend:
        alpha = self.alpha.to(device) if isinstance(self.alpha, Tensor) else self.alpha
        keys, maps, turn = self.keys.to(device), self.maps.to(device), self.turn.to(device)
        return replace(self, alpha=alpha, keys=keys, maps=maps, turn=turn)

    def before(self, call: AttentionCall) -> AttentionCall:
        return call

    def after(self, call: AttentionCall, output: Float[Tensor, "B Q H D"]) -> Float[Tensor, "B Q H D"]:
        if isinstance(self.alpha, float) and self.alpha == 0:
            return output
        if self._whole(call):
            return self._after_whole(call, output)
        start = max(0, self.first - call.query_positions.start)
        rows = torch.arange(start, output.shape[1], device=output.device)  # [R]
        weights, column = self._weights(call, self._turns(call)[:, start:], rows[None])  # [B R P]
        share = weights.sum(-1)[..., None, None]  # [B R 1 1]
        mass = 1.0 if call.sinks is None else self._mass(call, rows)
        own = output[:, start:]
        mixed = (1 - self.alpha) * own + self.alpha * _read(weights, call, column, own.shape[2])
        mixed = mixed / ((1 - self.alpha) * mass + self.alpha * share).clamp(min=torch.finfo(weights.dtype).tiny)
        changed = torch.where((share > 0) & (self.alpha > 0), mixed.to(output.dtype), own)
        return torch.cat([output[:, :start], changed], dim=1)

    def _whole(self, call: AttentionCall) -> bool:
        """Whether rows are known to see all of their map, and to sum to 1 without it."""
        hidden = (call.mask, call.sinks, call.extras.get("sliding_window"))
        kept = call.key_positions.start == 0  # a sliding layer's cache has dropped nothing
        ahead = self.ahead or self._generated(call)
        return ahead and kept and isinstance(self.alpha, float) and all(each is None for each in hidden)

    def _generated(self, call: AttentionCall) -> bool:
        return call.query_positions.start >= self.turn.shape[1]

    def _after_whole(self, call: AttentionCall, output: Float[Tensor, "B Q H D"]) -> Float[Tensor, "B Q H D"]:
        """What `after` does, where s = 1: (1 - alpha) out + alpha B V."""
        assert isinstance(self.alpha, float)
        start = max(0, self.first - call.query_positions.start)
        own = output[:, start:]
        generated = self._generated(call)
        if generated and self._later:
            read, mapped = self._later["read"], self._later["mapped"]
        else:
            turn = self._turns(call)[:, start:]
            weights = self.maps[turn]  # [B R P]; -1 takes the last map, which is not used
            read = _read(weights, call, self.keys.clamp(min=0), own.shape[2]).to(output.dtype)
            mapped = ((turn >= 0) & (weights.sum(-1) > 0))[..., None, None]
            if generated and not torch.is_grad_enabled():
                self._later.update(read=read[:, :1], mapped=mapped[:, :1])
        changed = torch.where(mapped, torch.lerp(own, read, self.alpha), own)
        return torch.cat([output[:, :start], changed], dim=1) if start else changed

    def rows(self, call: AttentionCall, rows: Int[Tensor, "B R"], flow: Float[Tensor, "B H R K"]) -> Tensor:
        rows = rows.to(flow.device) % call.query.shape[2]
        weights, column = self._weights(call, self._turns(call).gather(1, rows), rows)  # [B R P]
        laid = torch.zeros_like(flow[:, 0]).scatter_add(2, column[:, None].expand_as(weights), weights.to(flow.dtype))
        mixed = (1 - self.alpha) * flow + self.alpha * laid[:, None]
        mixed = mixed / mixed.sum(-1, keepdim=True).clamp(min=torch.finfo(flow.dtype).tiny)
        return torch.where((laid.sum(-1)[:, None, :, None] > 0) & (self.alpha > 0), mixed, flow)

    def changes(self, call: AttentionCall) -> Int[Tensor, "B R"]:
        changed = self._turns(call) >= 0
        return changed.byte().topk(max(1, int(changed.sum(-1).max())), dim=-1).indices

    def _turns(self, call: AttentionCall) -> Int[Tensor, "B Q"]:
        """The map of each of this call's queries, -1 for none."""
        positions = call.query_positions
        known = self.turn[:, positions.start : positions.stop]
        if known.shape[1] == len(positions):
            return known
        last = self.turn.amax(1, keepdim=True)
        beyond = last if self.later else torch.full_like(last, -1)
        return torch.cat([known, beyond.expand(-1, len(positions) - known.shape[1])], dim=1)

    def _weights(
        self, call: AttentionCall, turn: Int[Tensor, "B R"], rows: Int[Tensor, "B R"] | Int[Tensor, "1 R"]
    ) -> tuple[Float[Tensor, "B R P"], Int[Tensor, "B P"]]:
        """Each row's map, zero where the row sees no key; and the key column that each entry weighs."""
        column = self.keys - call.key_positions.start  # a sliding layer's cache has dropped the first keys
        there = (self.keys >= 0) & (column >= 0)
        column = torch.where(there, column, 0)
        weights = self.maps[turn.clamp(min=0)] * (turn >= 0)[..., None]  # [B R P]
        return weights * (there[:, None] & call.visible(rows, column)), column

    def _mass(self, call: AttentionCall, rows: Int[Tensor, " R"]) -> Float[Tensor, "B R H 1"]:
        """What attention sinks leave to the keys of each row."""
        parts = [call.rows(part).sum(-1) for part in rows.split(_SINK_ROWS)]  # [B H part]
        return torch.cat(parts, dim=-1).transpose(1, 2)[..., None]


def _read(weights: Float[Tensor, "B R P"], call: AttentionCall, column: Int[Tensor, "B P"], heads: int) -> Tensor:
    """B V: what each row reads of the values in these columns, by weight, for each of so many query heads [B R H D]."""
    index = column[:, None, :, None].expand(-1, call.value.shape[1], -1, call.value.shape[-1])
    values = call.value.gather(2, index)  # [B G P D]
    read = torch.einsum("brp,bgpd->brgd", weights.to(values.dtype), values)
    return read.repeat_interleave(heads // read.shape[2], 2) if heads > read.shape[2] else read
