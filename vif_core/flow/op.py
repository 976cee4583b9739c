"""The one wrapper around the attention op, through which interventions act.

The implementation that a model uses is registered anew under its own name, wrapped by a function that does nothing
unless the calling module carries an intervention. (A new name would change results: transformers derives masks from
it, and some model files test it.) What a module carries lies on the module, so that models do not meet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from vif_core.errors import UnsupportedModel, UsageError
from vif_core.flow.call import AttentionCall
from vif_core.flow.interventions import Intervention
from vif_core.vlm.batch import Batch
from vif_core.vlm.discover import attention_function, decoder_of
from vif_core.vlm.model import VLM

CARRIED = "_vif_interventions"
"""Name under which an attention module carries its interventions."""


@dataclass
class Session:
    """What one `intervene` block shares between its modules.

    decoder: configuration of the decoder, which names the attention implementation; wrapped: the one that was last.
    total:   positions so far of the pass that runs, cached ones included.
    proving: the proof pass runs; fired: modules whose interventions have acted.
    """

    decoder: Any
    wrapped: str = ""
    total: int | None = None
    proving: bool = True
    fired: set[nn.Module] = field(default_factory=set)

    def begin(self, _model: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        """Forward pre-hook of the model: wraps the implementation that this pass uses, and counts its positions.

        The padding mask spans every position so far; without one, the cache tells.
        """
        if self.decoder._attn_implementation != self.wrapped:  # at first, and where it was changed since
            wrap(self.decoder._attn_implementation)
            self.wrapped = self.decoder._attn_implementation
        mask, cache = kwargs.get("attention_mask"), kwargs.get("past_key_values")
        decoder = kwargs.get("decoder_input_ids")
        if decoder is not None:  # the padding mask is the encoder's
            self.total = decoder.shape[1] + (int(cache.get_seq_length()) if cache is not None else 0)
        elif isinstance(mask, Tensor) and mask.dim() == 2:
            self.total = mask.shape[1]
        elif cache is not None:
            ids = args[0] if args else kwargs.get("input_ids")
            given = kwargs["inputs_embeds"] if ids is None else ids
            self.total = int(cache.get_seq_length()) + given.shape[1]
        else:
            self.total = None


@dataclass(frozen=True)
class Carried:
    """What an attention module carries."""

    interventions: tuple[Intervention, ...]
    session: Session
    crosses: bool

    def change(self, call: AttentionCall) -> AttentionCall:
        call = replace(call, total=self.session.total, crosses=self.crosses)
        for intervention in self.interventions:
            call = intervention.before(call)
        return call


@contextmanager
def intervene(
    vlm: VLM, interventions: Mapping[int, Intervention | Sequence[Intervention]], batch: Batch | None = None
) -> Iterator[None]:
    """Within the block, layer i's attention is changed by `interventions[i]`: one, or several in order.

    On entry one pass over `batch` proves them (by default over a grey picture and a short question; an intervention
    made for a batch's positions needs that batch). Blocks may be nested: the inner ones act after the outer ones.
    Raises UsageError for a layer without attention, UnsupportedModel unless every intervention fired in that pass.
    """
    modules = {layer.index: layer.attention for layer in vlm.layers}
    unknown = sorted(set(interventions) - set(modules))
    if unknown:
        raise UsageError(f"layers {unknown} of {vlm.name}", expected=f"layers with attention: {sorted(modules)}")
    session = Session(decoder_of(vlm.model).config)
    hook = vlm.model.register_forward_pre_hook(session.begin, with_kwargs=True)
    outer = {module: module.__dict__.get(CARRIED) for module in modules.values()}
    try:
        for index, chosen in interventions.items():
            inner = tuple(chosen) if isinstance(chosen, Sequence) else (chosen,)
            before = outer[modules[index]]
            both = inner if before is None else (*before.interventions, *inner)
            setattr(modules[index], CARRIED, Carried(both, session, vlm.crosses))
        with torch.inference_mode():
            vlm.model(**(batch or vlm.probe()).inputs, use_cache=False)
        session.proving = False
        silent = sorted(index for index in interventions if modules[index] not in session.fired)
        if silent:
            raise UnsupportedModel(
                f"interventions at layers {silent} of {vlm.name} did not fire",
                expected="every target to reach the attention op in the proof pass",
                next_step="Leave those layers out",
            )
        yield
    finally:
        hook.remove()
        for module, before in outer.items():
            module.__dict__.pop(CARRIED, None)
            if before is not None:
                setattr(module, CARRIED, before)


def effective_rows(call: AttentionCall, rows: Tensor) -> Tensor:
    """Flow [B, H, R, K] of query rows [B, R] of one call: its probabilities after the module's interventions."""
    carried: Carried | None = call.module.__dict__.get(CARRIED)
    if carried is None:
        return call.rows(rows)
    call = carried.change(call)
    flow = call.rows(rows)
    for intervention in carried.interventions:
        flow = intervention.rows(call, rows, flow)
    return flow


def wrap(name: str) -> None:
    """Register attention implementation `name` anew, wrapped; once a process. Raises UsageError for flex attention."""
    if name == "flex_attention":
        raise UsageError(
            "interventions under flex_attention, whose masks cannot be read",
            expected="sdpa, eager or a flash kernel",
            next_step="Load the model with attn='sdpa'",
        )
    original = attention_function(name)
    if getattr(original, "carries_interventions", False):
        return

    def attention(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **extras: Any
    ) -> tuple[Tensor, Any]:
        carried: Carried | None = module.__dict__.get(CARRIED)
        if carried is None:
            return original(module, query, key, value, attention_mask, **extras)
        given = AttentionCall(module, query, key, value, attention_mask, extras)
        call = carried.change(given)
        output, weights = original(module, call.query, call.key, call.value, call.mask, **call.extras)
        for intervention in carried.interventions:
            output = intervention.after(call, output)
            if carried.session.proving:
                effective_rows(given, intervention.changes(call))
        carried.session.fired.add(module)
        return output, weights

    attention.carries_interventions = True  # type: ignore[attr-defined]
    ALL_ATTENTION_FUNCTIONS.register(name, attention)
