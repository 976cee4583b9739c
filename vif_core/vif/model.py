"""A vision-language model with VIF attached, in the manner of PEFT."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, get_args
from zlib import crc32

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vif_core.data.sample import Sample
from vif_core.errors import UnsupportedModel, UsageError
from vif_core.flow.blend import Blend
from vif_core.flow.op import intervene
from vif_core.vif.checkpoint import write_vif
from vif_core.vif.config import VIFConfig
from vif_core.vif.generator import Generator, canvas, swapped
from vif_core.vif.gmm import Spotlights
from vif_core.vif.guide import guide_loss
from vif_core.vif.injection import Guide, Injection
from vif_core.vif.losses import Latent, entropy, kl_divergence, volume
from vif_core.vif.objective import VIFOutput, answer_loss
from vif_core.vif.passes import Draw, MapsFrom, PairReading, Pass, text_seeds
from vif_core.vif.turns import NONE, Turns, grid_places, turns_of, turns_of_layouts
from vif_core.vlm.batch import Batch
from vif_core.vlm.discover import blocks_of
from vif_core.vlm.grids import image_grids
from vif_core.vlm.model import VLM
from vif_core.vlm.prompt import placeholder_of
from vif_core.vlm.tiling import cuts_tiles

SampleSpotlights = dict[tuple[int, int], dict[str, Spotlights]]
"""Of one sample: by layer pair and branch."""


class VIFModel(nn.Module):
    """A model whose deep layers' text rows look where VIF's spotlights fall.

    base: the model itself, changed in place by hooks.    generator: VIF's own parameters.    vlm: what wraps the base.
    draw: whose latent gives the map in evaluation; training draws from the posterior where an answer is known.
    draw_seed: evaluation draws the same for the same question in every pass, so that the pass that is measured repeats
        the one that generated; another seed draws anew.
    posterior_share: share of turns in training whose map comes from the posterior, the others' from the prior.
    maps_from: "own", or a control.      alpha: strength in use, the configuration's unless it is warmed up.
    guiding: whether extraction layers' flow is read as the guide's target.    seeking: how it guides (`guide_loss`).
    pairs_a_pass: in training, so many pairs drawn at random have a map in a pass; None for all. VIF alone learns about
        as much from one, at a quarter of the time.
    Under gradient checkpointing one pass at a time may await its backward.
    """

    def __init__(self, vlm: VLM, config: VIFConfig | None = None) -> None:
        super().__init__()
        if vlm.vif is not None:
            raise UsageError(f"{vlm.name} has VIF already", next_step="Load the base model for another one")
        blocks = blocks_of(vlm.model, vlm.layers)
        self.vlm = vlm
        self.base = vlm.model
        self.config = (config or VIFConfig()).resolved(len(blocks), _width(vlm))
        self.generator = Generator(self.config, _width(vlm)).to(vlm.device)
        self.draw: Draw = "prior-mean" if self.config.inference == "mean" else "prior-draw"
        self.draw_seed = 0
        self.posterior_share = 1.0
        self.maps_from: MapsFrom = "own"
        self.alpha: float | Tensor = self.config.alpha
        self.guiding = self.seeking = False
        self.pairs_a_pass: int | None = None
        self.enabled = True
        self.current: Pass | None = None
        self.given: Turns | None = None
        self.held: Mapping[int, Spotlights] = {}
        self.generator.eval()
        with ExitStack() as attaching:  # what was hooked is let go where the proof fails
            self._attach(attaching, blocks)
            self._attached = attaching.pop_all()
        vlm.vif = self

    # -- passes

    def forward(
        self,
        *,
        turns: Turns | None = None,
        labels: Int[Tensor, "B T"] | None = None,
        label_weights: Float[Tensor, "B T"] | None = None,
        **inputs: Any,
    ) -> VIFOutput:
        """One pass and its losses. labels: -100 where there is none, not shifted. label_weights: of each label."""
        out = self.base(**inputs, turns=turns)
        readings = tuple(self.current.readings.values()) if self.current else ()
        # DDP must see every parameter in every pass, in one of text alone too
        zero = torch.stack([parameter.sum() for parameter in self.generator.parameters()]).sum() * 0.0
        cross_entropy = zero + (answer_loss(out.logits, labels, label_weights) if labels is not None else 0.0)
        kl, spread, mixture, guide = (zero + value for value in self._losses(readings))
        config = self.config
        sparse = config.entropy_weight * mixture + config.volume_weight * spread
        weight_sp = 0.0 if config.variant == "no-sparsity" else config.lambda_sp
        loss = cross_entropy + config.lambda_kl * kl + weight_sp * sparse
        return VIFOutput(loss, cross_entropy, kl, spread, mixture, guide, out.logits, readings)

    def generate(self, **inputs: Any) -> Any:
        """As the base model's; the map comes from the prompt, and generated tokens keep it (`later`).

        turns: what `VLM.encode` tells. Without them all text of the prompt is one question.
        Raises UsageError where a part of the prompt is cached already, or is to be read in chunks.
        """
        turns = inputs.pop("turns", None)
        if self.enabled and (cached := _cached(inputs)):
            raise _in_parts(f"a prompt of which {cached} tokens are cached already")
        if turns is None and self.enabled and inputs.get("input_ids") is not None:
            turns = self._turns_of(inputs)
        with self.giving(turns):
            return self.base.generate(**inputs)

    def save_pretrained(self, folder: str | Path) -> None:
        """VIF's configuration and weights, and what else was trained: a LoRA adapter, or the base where it may train.

        A base whose parameters are all frozen is not written: where it was loaded from is, and loading takes it there.
        """
        folder = Path(folder)
        adapted = getattr(self.base, "_hf_peft_config_loaded", False)
        whole = not adapted and any(parameter.requires_grad for parameter in self.base.parameters())
        write_vif(self, folder, base=self.vlm.name if whole else self.vlm.origin)
        if adapted or whole:
            self.base.save_pretrained(folder)
        if whole:
            self.vlm.processor.save_pretrained(folder)

    def facts(self) -> dict[str, Any]:
        """What a run records of it."""
        config = self.config
        return {"pairs": [list(pair) for pair in config.pairs or ()], "alpha": config.alpha, "preset": config.preset,
                "variant": config.variant}  # fmt: skip

    def spotlights(self, sample: Sample, draws: int = 0) -> SampleSpotlights:
        """Centres, spreads and weights of one sample's spotlights, by layer pair and branch.

        "prior", and where the sample has an answer "posterior". The latent's mean, [K]; with `draws` N, N draws [N, K].
        Raises UsageError where no spotlight is made: a sample without a picture, variant mid-feature.
        """
        (found,) = self.spotlights_of([sample], draws)
        if not found:
            raise UsageError(
                f"sample {sample.sample_id} has no spotlights",
                expected="a picture, and VIF that is enabled and not of variant mid-feature",
            )
        return found

    def spotlights_of(self, samples: Sequence[Sample], draws: int = 0) -> list[SampleSpotlights]:
        """The same of several samples, in one pass over those with an answer and one over those without.

        An answer that holds the image placeholder, which no sequence can hold, is none. Nothing of samples that have no
        spotlights.
        """
        found: list[SampleSpotlights] = [{} for _ in samples]
        placeholder = placeholder_of(self.vlm.processor)
        known = [placeholder not in sample.answer if sample.answer else False for sample in samples]
        for answered in (True, False):
            own = [number for number, told in enumerate(known) if told is answered]
            if own:
                for number, lights in zip(own, self._lit([samples[i] for i in own], answered, draws), strict=True):
                    found[number] = lights
        return found

    def _lit(self, samples: Sequence[Sample], answered: bool, draws: int) -> list[SampleSpotlights]:
        answers = [self.vlm.response_ids(sample.answer or "") for sample in samples] if answered else None
        batch = self.vlm.encode(samples, answers)
        training = self.generator.training
        self.generator.eval()
        try:
            with torch.inference_mode(), self.drawing("posterior-mean"):
                self.base(**batch.inputs, use_cache=False)
        finally:
            self.generator.train(training)
        found: list[SampleSpotlights] = [{} for _ in samples]
        if self.current is None or not self.current.readings:
            return found
        for turn, number in enumerate(self.current.turns.sample.tolist()):
            for pair in self.config.pairs or ():
                reading = self.current.readings[pair[1]]
                found[number][pair] = {"prior": self._drawn(reading.prior, turn, draws)}
                if reading.posterior is not None:
                    found[number][pair]["posterior"] = self._drawn(reading.posterior, turn, draws)
        return found

    def _drawn(self, latent: Latent, turn: int, draws: int) -> Spotlights:
        own = Latent(latent.mean[turn], latent.logvar[turn])
        with torch.inference_mode():
            if not draws:
                return self.generator.slots(own.mean)
            return self.generator.slots(own.at(torch.randn(draws, *own.mean.shape, device=own.mean.device)))

    @contextmanager
    def disable_vif(self) -> Iterator[None]:
        """Within the block the base model runs as it is."""
        before, self.enabled, self.current = self.enabled, False, None
        try:
            yield
        finally:
            self.enabled = before

    @contextmanager
    def giving(self, turns: Turns | None) -> Iterator[None]:
        """Within the block a prefill that is not told its turns has these."""
        before, self.given = self.given, turns
        try:
            yield
        finally:
            self.given = before

    @contextmanager
    def holding(self, lights: Mapping[int, Spotlights]) -> Iterator[None]:
        """Within the block these spotlights, by injection layer, stand in for every prefill's own.

        One for each of its turns, in their order: those that a pass over the same samples with their answers made, say.
        """
        before, self.held = self.held, lights
        try:
            yield
        finally:
            self.held = before

    @contextmanager
    def drawing(self, draw: Draw) -> Iterator[None]:
        """Within the block maps come from this latent."""
        if draw not in get_args(Draw):
            raise UsageError(f"draw {draw!r}", expected=", ".join(get_args(Draw)))
        before, self.draw = self.draw, draw
        try:
            yield
        finally:
            self.draw = before

    def told(self, batch: Batch) -> Batch:
        """The batch with its turns among its inputs: the prompt's question, and a response where it has one.

        Where generated tokens take no map, a response's rows take none either, outside training.
        """
        responses = self.config.later == "turn" or self.generator.training
        batch.inputs["turns"] = turns_of_layouts(batch.layouts, batch.length, responses=responses)  # type: ignore[assignment]
        return batch

    def _turns_of(self, inputs: dict[str, Any]) -> Turns:
        """Turns of plain processor outputs: all text is question, and sequences with images hold as many each.

        Raises UsageError where the images are not among the inputs or may be cut into tiles, GridMismatch where they do
        not fit their tokens.
        """
        vlm, ids = self.vlm, inputs["input_ids"].cpu()
        if inputs.get("pixel_values_videos") is not None:
            raise UsageError(
                f"videos of {vlm.name} without turns",
                expected="all that VLM.encode returns: turns tell where each frame lies",
                next_step="Call vlm.encode(samples) in place of the processor, and pass all of its inputs",
            )
        mask = inputs.get("attention_mask")
        kept = mask.bool().cpu() if mask is not None and mask.dim() == 2 else torch.ones_like(ids, dtype=torch.bool)
        visual = (ids == vlm.image_token_id) & kept
        outputs = {name: value for name, value in inputs.items() if isinstance(value, Tensor)}
        sizes = inputs["image_sizes"].tolist() if "image_sizes" in inputs else None
        listed: Any = next(
            (outputs[key] for key in ("image_grid_thw", "image_sizes", "pixel_values") if key in outputs), []
        )
        each, odd = divmod(len(listed), max(1, int(visual.any(1).sum())))  # images of a sequence that has any
        if visual.any() and (not each or odd):
            raise UsageError(
                f"{len(listed)} images for the visual tokens of {int(visual.any(1).sum())} prompts",
                expected="as many images in each prompt that has any, and their pixel_values",
                next_step="Call the VIFModel's generate, and pass the turns that VLM.encode tells",
            )
        if visual.any() and cuts_tiles(vlm.processor):
            raise UsageError(
                f"inputs of {vlm.name} without turns, whose pictures may be cut into tiles",
                expected="all that VLM.encode returns: turns tell where each tile lies",
                next_step="Call vlm.encode(samples) in place of the processor, and pass all of its inputs",
            )
        places, first = [], 0
        for row in visual.numpy():
            count = each if row.any() else 0
            own = [tuple(size) for size in sizes[first : first + count]] if sizes else [(1, 1)] * count
            grids = image_grids(vlm.model.config, vlm.processor, own, outputs, first, int(row.sum()))
            places.append(grid_places(grids, int(row.sum())))
            first += count
        turn = np.where(kept.numpy(), 1, NONE)
        return turns_of(turn, np.zeros_like(turn, dtype=bool), visual.numpy(), places)

    def _begin(self, _base: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        turns, cached = kwargs.pop("turns", None), _cached(kwargs)
        if not self.enabled:
            self.current = None
        elif cached and turns is not None:
            raise _in_parts(f"turns of a prompt of which {cached} tokens are cached already")
        elif not cached:  # a prefill; later steps go on with its maps
            turns = turns if turns is not None else self.given
            ids = args[0] if args else kwargs.get("input_ids")
            if turns is None and ids is not None:
                turns = self._turns_of({"input_ids": ids, **kwargs})
            if turns is not None and ids is not None and ids.shape[1] < turns.of.shape[1]:
                raise _in_parts(f"{ids.shape[1]} tokens of a prompt of {turns.of.shape[1]}")
            self.current = None if turns is None or not len(turns) else self._pass_over(turns, ids)
        return args, kwargs

    def _pass_over(self, turns: Turns, ids: Tensor | None) -> Pass:
        if ids is not None and len(ids) > len(turns.of):
            turns = turns.repeated(len(ids) // len(turns.of))
        draw = self._draw_of(turns)
        made = Pass(turns.to(self.vlm.device), draw, self._pairs_of_pass())
        if ids is not None and draw.endswith("draw") and not self.generator.training:
            made.seeds = text_seeds(ids, turns)
        return made

    def _pairs_of_pass(self) -> frozenset[tuple[int, int]]:
        assert self.config.pairs is not None
        if not self.generator.training or self.pairs_a_pass is None:
            return frozenset(self.config.pairs)
        return frozenset(self.config.pairs[i] for i in torch.randperm(len(self.config.pairs))[: self.pairs_a_pass])

    def _draw_of(self, turns: Turns) -> Draw:
        if not self.generator.training:
            return self.draw
        known = turns.posterior is not None and self.generator.posterior is not None
        return "posterior-draw" if known else "prior-draw"

    def _extracting(self, mid: int, deep: int):
        def hook(_block: nn.Module, _args: Any, output: Any) -> None:
            current = self.current
            hidden = output[0] if isinstance(output, tuple) else output
            if hidden.dim() != 3 or hidden.shape[-1] != _width(self.vlm):
                raise UnsupportedModel(
                    f"decoder blocks of {self.vlm.name} hand on {tuple(hidden.shape[2:])} features a position",
                    expected=f"one stream of {_width(self.vlm)}",
                    next_step="Choose another model: VIF reads one vector of each position",
                )
            if current is None or (mid, deep) not in current.pairs or hidden.shape[1] < current.turns.of.shape[1]:
                return  # a step of generation: the prefill's maps hold (without a cache, steps are longer than it)
            if self.config.variant == "mid-feature":
                current.hidden[mid] = hidden
                return
            reading = self._read(current, mid, hidden, self.held.get(deep))
            current.readings[deep] = reading
            turns = current.turns
            current.blends[deep] = Blend(
                self.alpha,
                reading.canvas.keys,
                reading.maps,
                turns.of,
                later=self.config.later == "turn",
                first=turns.first,
                ahead=self.config.variant != "full-sequence",  # visual tokens that a turn sees lie before its rows
            )

        return hook

    def _read(self, current: Pass, mid: int, hidden: Tensor, held: Spotlights | None = None) -> PairReading:
        turns, draw = current.turns, current.draw
        where = canvas(turns, self.config)
        branches = self.generator(hidden, turns, where, posterior=draw.startswith("posterior"))
        prior, posterior = branches.prior, branches.posterior
        latent = prior if posterior is None or draw.startswith("prior") else posterior
        if draw.endswith("draw"):
            if mid not in current.noise:  # drawn once a pass, so that recomputation under checkpointing repeats it
                current.noise[mid] = self._noise(current, mid, latent.mean)
            z = latent.at(current.noise[mid])
            if posterior is not None and self.generator.training and self.posterior_share < 1:
                if current.chance is None:
                    current.chance = torch.rand(len(z), device=z.device)
                knowing = current.chance < self.posterior_share
                z = torch.where(knowing[:, None, None], z, prior.at(current.noise[mid]))
        else:
            z = latent.mean
        own = [self._lights(z)] if posterior is None else [self._lights(z), self._lights(prior.mean)]
        used = [swapped(lights, turns.sample) for lights in own] if self.maps_from == "swapped" else own
        if held is not None:
            used = [_fitting(held, turns), *used[1:]]
        maps = [where.draw(lights, self.config) for lights in used]
        target, guide = current.targets.get(mid), None
        if target is not None:  # teaches a turn's own maps, where another sample's are injected too
            taught = maps if used is own else [where.draw(lights, self.config) for lights in own]
            guide = torch.stack([guide_loss(each, target, self.seeking) for each in taught]).mean()
        prior_maps = maps[1] if len(maps) > 1 else None
        return PairReading(used[0], maps[0], prior, posterior, where, prior_maps, target, guide)

    def _noise(self, current: Pass, mid: int, like: Tensor) -> Tensor:
        if current.seeds is None:
            return torch.randn_like(like)
        seeds = [crc32(f"{mid} {self.draw_seed}".encode(), seed) for seed in current.seeds]
        drawn = [torch.randn(like.shape[1:], generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return torch.stack(drawn).to(like.device)

    def _lights(self, z: Tensor) -> Spotlights:
        """A turn's own spotlights; under maps_from "constant" the same for all."""
        return self.generator.slots(torch.zeros_like(z) if self.maps_from == "constant" else z)

    def _mixing(self, mid: int):
        def hook(_block: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
            current = self.current
            hidden = args[0] if args else kwargs["hidden_states"]
            if current is None or mid not in current.hidden or hidden.shape[1] < current.turns.of.shape[1]:
                return None
            there = current.turns.visual  # filled up with NONE, which counts nothing at position 0
            counts = torch.zeros(hidden.shape[:2], dtype=torch.long, device=hidden.device)
            counts = counts.scatter_add(1, there.clamp(min=0), (there != NONE).long())
            mixed = (1 - self.alpha) * hidden + self.alpha * current.hidden[mid]
            mixed = torch.where(counts[..., None] > 0, mixed, hidden)
            return ((mixed, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": mixed})

        return hook

    def _losses(self, readings: Sequence[PairReading]) -> tuple[Tensor | float, ...]:
        """KL, volume, entropy and guide over a pass's pairs."""
        if not readings:
            return 0.0, 0.0, 0.0, 0.0
        config = self.config
        kls = [kl_divergence(r.posterior, r.prior) for r in readings if r.posterior is not None]
        if config.kl_reduction == "sum":
            kls = [kl.sum((-1, -2)) for kl in kls]
        assert config.volume_of is not None
        volumes = [volume(r.lights, config.volume_of).mean() for r in readings]
        entropies = [entropy(r.maps if config.entropy_of == "map" else r.lights.weights).mean() for r in readings]
        guides = [r.guide for r in readings if r.guide is not None]
        of = slice(0, 1) if config.losses_of == "first-pair" else slice(None)
        sums = [torch.stack([loss.mean() for loss in losses[of]]).mean() if losses else 0.0
                for losses in (kls, volumes, entropies)]  # fmt: skip
        return (*sums, torch.stack(guides).mean() if guides else 0.0)

    # -- attaching

    def _attach(self, attaching: ExitStack, blocks: nn.ModuleList) -> None:
        """Hooks base and blocks, and proves by one pass that something reaches every injection layer."""
        pairs = self.config.pairs
        assert pairs is not None
        probe = self.told(self.vlm.probe())
        attaching.callback(self.base.register_forward_pre_hook(self._begin, with_kwargs=True).remove)
        for mid, deep in pairs:
            attaching.callback(blocks[mid].register_forward_hook(self._extracting(mid, deep)).remove)
            if self.config.variant == "mid-feature":
                mixing = blocks[deep].register_forward_pre_hook(self._mixing(mid), with_kwargs=True)
                attaching.callback(mixing.remove)
        if self.config.variant == "mid-feature":
            with torch.inference_mode():
                self.base(**probe.inputs, use_cache=False)
            reached = {deep for mid, deep in pairs if self.current and mid in self.current.hidden}
        else:
            interventions: dict[int, list[Any]] = {deep: [Injection(self, deep)] for _, deep in pairs}
            attending = {layer.index for layer in self.vlm.layers}
            for mid, _ in pairs:
                if mid in attending:
                    interventions.setdefault(mid, []).append(Guide(self, mid))
            attaching.enter_context(intervene(self.vlm, interventions, probe))
            readings = self.current.readings if self.current else {}
            reached = {deep for deep, reading in readings.items() if reading.maps.any()}
        missed = sorted({deep for _, deep in pairs} - reached)
        if missed:
            raise UnsupportedModel(
                f"no map reached the injection layers {missed} of {self.vlm.name}",
                expected="visual tokens that lie on a grid, and extraction layers that run before them",
                next_step="Choose other layer pairs, or another model",
            )
        self.current = None


def add_vif(vlm: VLM, config: VIFConfig | None = None) -> VIFModel:
    """VIF on a loaded model, with fresh weights; the model is changed in place and `vlm.vif` is what is returned.

    One pass proves that every injection layer's map arrives, under whichever attention the model uses. Raises
    UsageError for layers the decoder lacks, UnsupportedModel where no map can be made or injected.
    """
    vlm.refuse_crossing()
    return VIFModel(vlm, config)


def _fitting(held: Spotlights, turns: Turns) -> Spotlights:
    if len(held.weights) != len(turns):
        raise UsageError(
            f"spotlights of {len(held.weights)} turns held over a batch with {len(turns)}", expected="one for each turn"
        )
    return held


def _cached(inputs: Mapping[str, Any]) -> int:
    """Positions in the cache that a pass is given."""
    cache = inputs.get("past_key_values")
    return 0 if cache is None else int(cache.get_seq_length())


def _in_parts(seen: str) -> UsageError:
    return UsageError(
        seen,
        expected="the whole prompt in one pass: maps are made from all of it",
        next_step="Give no past_key_values of a part of the prompt, and no prefill_chunk_size",
    )


def _width(vlm: VLM) -> int:
    return vlm.model.get_decoder().config.hidden_size
