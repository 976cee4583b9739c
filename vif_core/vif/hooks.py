"""What VIF hooks into a model: where a pass begins, where a layer is read, where a map is injected."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any
from zlib import crc32

import torch
from torch import Tensor, nn
from transformers import Cache

from vif_core.errors import UnsupportedModel, UsageError
from vif_core.flow.blend import Blend
from vif_core.flow.op import intervene
from vif_core.vif.generator import canvas, swapped
from vif_core.vif.gmm import Spotlights
from vif_core.vif.guide import guide_loss
from vif_core.vif.injection import Guide, Injection
from vif_core.vif.passes import MADE_BY, Draw, PairReading, Pass, cached_tokens, in_parts, text_seeds
from vif_core.vif.plain import turns_of_inputs
from vif_core.vif.turns import NONE, Turns

if TYPE_CHECKING:
    from vif_core.vif.model import VIFModel


class Hooks:
    """Carries out a VIFModel's passes between its base's decoder blocks; settings are read off the model."""

    def __init__(self, model: VIFModel) -> None:
        self.model = model

    def attach(self, attaching: ExitStack, blocks: nn.ModuleList) -> None:
        """Hooks base and blocks, and proves by one pass that something reaches every injection layer."""
        model, mixes = self.model, self.model.config.variant == "mid-feature"
        pairs = model.config.pairs
        assert pairs is not None
        probe = model.told(model.vlm.probe())
        attaching.callback(model.base.register_forward_pre_hook(self._begin, with_kwargs=True).remove)
        attaching.callback(model.base.register_forward_hook(self._end, with_kwargs=True).remove)
        for mid, deep in pairs:
            attaching.callback(blocks[mid].register_forward_hook(self._extracting(mid, deep)).remove)
            if mixes:
                mixing = blocks[deep].register_forward_pre_hook(self._mixing(mid), with_kwargs=True)
                attaching.callback(mixing.remove)
        if mixes:
            with torch.inference_mode():
                model.base(**probe.inputs, use_cache=False)
            reached = {deep for mid, deep in pairs if model.current and mid in model.current.hidden}
        else:
            interventions: dict[int, list[Any]] = {deep: [Injection(model, deep)] for _, deep in pairs}
            attending = {layer.index for layer in model.vlm.layers}
            for mid, _ in pairs:
                if mid in attending:
                    interventions.setdefault(mid, []).append(Guide(model, mid))
            attaching.enter_context(intervene(model.vlm, interventions, probe))
            readings = model.current.readings if model.current else {}
            reached = {deep for deep, reading in readings.items() if reading.maps.any()}
        missed = sorted({deep for _, deep in pairs} - reached)
        if missed:
            raise UnsupportedModel(
                f"no map reached the injection layers {missed} of {model.vlm.name}",
                expected="visual tokens that lie on a grid, and extraction layers that run before them",
                next_step="Choose other layer pairs, or another model",
            )
        model.current = None

    def _begin(self, _base: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        model, turns = self.model, kwargs.pop("turns", None)
        cache, cached = kwargs.get("past_key_values"), cached_tokens(kwargs)
        ids = args[0] if args else kwargs.get("input_ids")
        given = kwargs.get("inputs_embeds") if ids is None else ids
        if not model.enabled:
            model.current = None
            if cache is not None and not cached:  # used anew
                vars(cache).pop(MADE_BY, None)
        elif cached and turns is not None:
            raise in_parts(f"turns of a prompt of which {cached} tokens are cached already")
        elif cached:  # a step of generation
            model.current = self._made(cache, cached, given)
        else:
            turns = turns if turns is not None else model.given
            if turns is None and ids is None:
                raise UsageError(
                    f"a prompt of {model.vlm.name} without input_ids and without turns",
                    expected="one of them, to tell the question and where the image lies",
                    next_step="Pass the turns that VLM.encode tells, or run within disable_vif()",
                )
            if turns is None and ids is not None:
                turns = turns_of_inputs(model.vlm, {"input_ids": ids, **kwargs})
            if turns is not None and given is not None and given.shape[1] < turns.of.shape[1]:
                raise in_parts(f"{given.shape[1]} tokens of a prompt of {turns.of.shape[1]}")
            model.current = None if turns is None or not len(turns) else self._pass_over(turns, ids, given)
        return args, kwargs

    def _made(self, cache: Any, cached: int, given: Tensor | None) -> Pass | None:
        """The pass that filled a cache, whose maps a step from there goes on with. None where it had no image.

        Raises UsageError for a cache of which VIF saw no prefill, one that was cut within its prompt or has other rows.
        """
        if not hasattr(cache, MADE_BY):
            raise in_parts(f"{cached} tokens that were cached without VIF")
        made: Pass | None = getattr(cache, MADE_BY)
        if made is None:
            return None
        rows, length = made.turns.of.shape
        if cached < length:
            raise in_parts(f"{cached} cached tokens of a prompt of {length}")
        if given is not None and rows not in (1, len(given)):
            raise UsageError(
                f"{len(given)} sequences that go on from a prefill of {rows}", expected="the prefill's, in their order"
            )
        made.over = True
        return made

    def _end(self, _base: nn.Module, _args: Any, kwargs: dict[str, Any], output: Any) -> None:
        """Ties the cache to the pass that filled it: whatever runs in between, steps from there find its maps."""
        cache = kwargs.get("past_key_values")
        if cache is None:
            values = output.values() if isinstance(output, dict) else output
            cache = next((each for each in values if isinstance(each, Cache)), None)
        if self.model.enabled and cache is not None:
            setattr(cache, MADE_BY, self.model.current)

    def _pass_over(self, turns: Turns, ids: Tensor | None, given: Tensor | None) -> Pass:
        if given is not None and len(given) > len(turns.of):
            turns = turns.repeated(len(given) // len(turns.of))
        draw = self._draw_of(turns)
        made = Pass(turns.to(self.model.vlm.device), draw, self._pairs_of_pass())
        if ids is not None and draw.endswith("draw") and not self.model.generator.training:
            made.seeds = text_seeds(ids, turns)
        return made

    def _pairs_of_pass(self) -> frozenset[tuple[int, int]]:
        pairs, at_once = self.model.config.pairs, self.model.pairs_a_pass
        assert pairs is not None
        if not self.model.generator.training or at_once is None:
            return frozenset(pairs)
        return frozenset(pairs[i] for i in torch.randperm(len(pairs))[:at_once])

    def _draw_of(self, turns: Turns) -> Draw:
        if not self.model.generator.training:
            return self.model.draw
        known = turns.posterior is not None and self.model.generator.posterior is not None
        return "posterior-draw" if known else "prior-draw"

    def _extracting(self, mid: int, deep: int):
        config = self.model.config

        def hook(_block: nn.Module, _args: Any, output: Any) -> None:
            current = self.model.current
            hidden = output[0] if isinstance(output, tuple) else output
            if hidden.dim() != 3 or hidden.shape[-1] != self.model.hidden_size:
                raise UnsupportedModel(
                    f"decoder blocks of {self.model.vlm.name} hand on {tuple(hidden.shape[2:])} features a position",
                    expected=f"one stream of {self.model.hidden_size}",
                    next_step="Choose another model: VIF reads one vector of each position",
                )
            if current is None or current.over or (mid, deep) not in current.pairs:
                return
            if config.variant == "mid-feature":
                current.hidden[mid] = hidden
                return
            near = hidden.to(current.turns.of.device)  # where the generator is, of a model that lies on several
            reading = self._read(current, mid, near, self.model.held.get(deep))
            current.readings[deep] = reading
            turns = current.turns
            current.blends[deep] = Blend(
                self.model.alpha,
                reading.canvas.keys,
                reading.maps,
                turns.of,
                later=config.later == "turn",
                first=turns.first,
                ahead=turns.ahead and config.variant != "full-sequence",
            )

        return hook

    def _read(self, current: Pass, mid: int, hidden: Tensor, held: Spotlights | None = None) -> PairReading:
        model, turns, draw = self.model, current.turns, current.draw
        where = canvas(turns, model.config)
        branches = model.generator(hidden, turns, where, posterior=draw.startswith("posterior"))
        prior, posterior = branches.prior, branches.posterior
        latent = prior if posterior is None or draw.startswith("prior") else posterior
        if draw.endswith("draw"):
            if mid not in current.noise:  # drawn once a pass, so that recomputation under checkpointing repeats it
                current.noise[mid] = self._noise(current, mid, latent.mean)
            z = latent.at(current.noise[mid])
            if posterior is not None and model.generator.training and model.posterior_share < 1:
                if current.chance is None:
                    current.chance = torch.rand(len(z), device=z.device)
                knowing = current.chance < model.posterior_share
                z = torch.where(knowing[:, None, None], z, prior.at(current.noise[mid]))
        else:
            z = latent.mean
        own = [self._lights(z)] if posterior is None else [self._lights(z), self._lights(prior.mean)]
        used = [swapped(lights, turns.sample) for lights in own] if model.maps_from == "swapped" else own
        if held is not None:
            used = [_fitting(held, turns), *used[1:]]
        maps = [where.draw(lights, model.config) for lights in used]
        target, guide = current.targets.get(mid), None
        if target is not None:  # teaches a turn's own maps, where another sample's are injected too
            taught = maps if used is own else [where.draw(lights, model.config) for lights in own]
            guide = torch.stack([guide_loss(each, target.to(each.device), model.seeking) for each in taught]).mean()
        prior_maps = maps[1] if len(maps) > 1 else None
        return PairReading(used[0], maps[0], prior, posterior, where, prior_maps, target, guide)

    def _noise(self, current: Pass, mid: int, like: Tensor) -> Tensor:
        if current.seeds is None:
            return torch.randn_like(like)
        seeds = [crc32(f"{mid} {self.model.draw_seed}".encode(), seed) for seed in current.seeds]
        drawn = [torch.randn(like.shape[1:], generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return torch.stack(drawn).to(like.device)

    def _lights(self, z: Tensor) -> Spotlights:
        """A turn's own spotlights; under maps_from "constant" the same for all."""
        return self.model.generator.slots(torch.zeros_like(z) if self.model.maps_from == "constant" else z)

    def _mixing(self, mid: int):
        def hook(_block: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
            current = self.model.current
            hidden = args[0] if args else kwargs["hidden_states"]
            if current is None or current.over or mid not in current.hidden:
                return None
            there = current.turns.visual.to(hidden.device)  # filled up with NONE, which counts nothing at position 0
            counts = torch.zeros(hidden.shape[:2], dtype=torch.long, device=hidden.device)
            counts = counts.scatter_add(1, there.clamp(min=0), (there != NONE).long())
            mixed = (1 - self.model.alpha) * hidden + self.model.alpha * current.hidden[mid].to(hidden.device)
            mixed = torch.where(counts[..., None] > 0, mixed, hidden)
            return ((mixed, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": mixed})

        return hook


def _fitting(held: Spotlights, turns: Turns) -> Spotlights:
    if len(held.weights) != len(turns):
        raise UsageError(
            f"spotlights of {len(held.weights)} turns held over a batch with {len(turns)}", expected="one for each turn"
        )
    return held
