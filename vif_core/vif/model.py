"""A vision-language model with VIF attached, in the manner of PEFT."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from vif_core.data.sample import Sample
from vif_core.errors import UsageError
from vif_core.vif.checkpoint import write_vif
from vif_core.vif.config import VIFConfig
from vif_core.vif.generator import Generator
from vif_core.vif.gmm import Spotlights
from vif_core.vif.hooks import Hooks
from vif_core.vif.losses import Latent
from vif_core.vif.objective import VIFOutput, answer_loss, pair_losses
from vif_core.vif.passes import Draw, MapsFrom, Pass, cached_tokens, in_parts
from vif_core.vif.plain import turns_of_inputs
from vif_core.vif.turns import Turns, turns_of_layouts
from vif_core.vlm.batch import Batch
from vif_core.vlm.discover import blocks_of
from vif_core.vlm.model import VLM
from vif_core.vlm.prompt import placeholder_of

SampleSpotlights = dict[tuple[int, int], dict[str, Spotlights]]
"""Of one sample: by layer pair and branch."""


class VIFModel(nn.Module):
    """A model whose deep layers' text rows look where VIF's spotlights fall.

    base: the model itself, changed in place by hooks.    generator: VIF's own parameters.    vlm: what wraps the base.
    hidden_size: of the features that it reads, the decoder's.
    draw: whose latent gives the map in evaluation; training draws from the posterior where an answer is known.
    draw_seed: evaluation draws the same for the same question in every pass, so that the pass that is measured repeats
        the one that generated; another seed draws anew.
    posterior_share: share of turns in training whose map comes from the posterior, the others' from the prior.
    maps_from: "own", or a control.      alpha: strength in use, the configuration's unless it is warmed up.
    guiding: whether extraction layers' flow is read as the guide's target.    seeking: how it guides (`guide_loss`).
    pairs_a_pass: in training, so many pairs drawn at random have a map in a pass; None for all. VIF alone learns about
        as much from one, at a quarter of the time. Each process draws its own: a pass reaches every parameter anyway.
    Under gradient checkpointing one pass at a time may await its backward.
    """

    def __init__(self, vlm: VLM, config: VIFConfig | None = None) -> None:
        super().__init__()
        if vlm.vif is not None:
            raise UsageError(f"{vlm.name} has VIF already", next_step="Load the base model for another one")
        if not isinstance(vlm.model, PreTrainedModel):
            raise UsageError(
                f"{vlm.name} is wrapped in a {type(vlm.model).__name__}",
                expected="the model of transformers itself",
                next_step="Use model.add_adapter in place of get_peft_model",
            )
        blocks = blocks_of(vlm.model, vlm.layers)
        self.vlm = vlm
        self.base: Any = vlm.model
        self.hidden_size: int = vlm.model.get_decoder().config.hidden_size
        self.config = (config or VIFConfig()).resolved(len(blocks), self.hidden_size)
        self.generator = Generator(self.config, self.hidden_size).to(vlm.device)
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
            Hooks(self).attach(attaching, blocks)
            self._attached = attaching.pop_all()
        vlm.vif = self

    def forward(
        self,
        *,
        turns: Turns | None = None,
        labels: Int[Tensor, "B T"] | None = None,
        label_weights: Float[Tensor, "B T"] | None = None,
        **inputs: Any,
    ) -> VIFOutput:
        """One pass and its losses. labels: -100 where there is none, not shifted. label_weights: of each label.

        Raises UsageError where an image comes with labels but no turns: nothing tells the answer from the question.
        """
        out = self.base(**inputs, turns=turns)
        if labels is not None and self.current is not None and turns is None and self.given is None:
            raise UsageError(
                f"labels for {self.vlm.name} without turns, whose answer the prior would read as a question",
                expected="turns",
                next_step="Pass all that VLM.encode or the collator of vifscope train tells",
            )
        made = self.current.readings if self.current else {}
        readings = tuple(made[deep] for deep in self.config.injected if deep in made)
        # DDP must see every parameter in every pass, in one of text alone too
        zero = torch.stack([parameter.sum() for parameter in self.generator.parameters()]).sum() * 0.0
        cross_entropy = zero + (answer_loss(out.logits, labels, label_weights) if labels is not None else 0.0)
        kl, spread, mixture, guide = (zero + value for value in pair_losses(readings, self.config))
        config = self.config
        sparse = config.entropy_weight * mixture + config.volume_weight * spread
        weight_sp = 0.0 if config.variant == "no-sparsity" else config.lambda_sp
        loss = cross_entropy + config.lambda_kl * kl + weight_sp * sparse
        return VIFOutput(loss, cross_entropy, kl, spread, mixture, guide, out.logits, readings)

    def generate(self, **inputs: Any) -> Any:
        """As the base model's; the map comes from the prompt, and generated tokens keep it (`later`).

        turns: what `VLM.encode` tells. Without them all text of the prompt is one question: of a conversation, the
            answers that were given before are read as such, and one map lies on the rows of all turns. In training
            each has its own; `vif_core.vif.turns.turns_of` makes such turns of a prompt whose parts are known.
        disable_compile: True unless it is given: a step compiled for a static cache would be so anew at each token.
        Raises UsageError where a part of the prompt is cached already, or is to be read in chunks.
        """
        turns = inputs.pop("turns", None)
        if self.enabled and (cached := cached_tokens(inputs)):
            raise in_parts(f"a prompt of which {cached} tokens are cached already")
        if turns is None and self.enabled and inputs.get("input_ids") is not None:
            turns = turns_of_inputs(self.vlm, inputs)
        with self.giving(turns):
            return self.base.generate(**{"disable_compile": True, **inputs})

    def save_pretrained(self, folder: str | Path) -> None:
        """VIF's configuration and weights, and what else was trained: a LoRA adapter, or the base where it may train.

        A base whose parameters are all frozen is not written: where it was loaded from is, and loading takes it there.
        Raises UsageError where other weights of the base may train beside an adapter, and for one in its base's folder.
        """
        folder = Path(folder)
        adapted = getattr(self.base, "_hf_peft_config_loaded", False)
        learning = {name: each.data_ptr() for name, each in self.base.named_parameters() if each.requires_grad}
        kept = {each.data_ptr() for each in self.base.get_adapter_state_dict().values()} if adapted else set()
        beside = [name for name, pointer in learning.items() if pointer not in kept]
        if adapted and beside:
            raise UsageError(
                f"{beside[0]} of {self.vlm.name} may train beside its adapter, which would be saved without it",
                expected="an adapter or trained weights",
                next_step="Freeze the others, or fold the adapter in first (vif_core.train.groups.merge_lora)",
            )
        if adapted and folder.resolve() == Path(self.vlm.origin):
            raise UsageError(
                f"an adapter that would be saved to {folder}, where its base lies",
                expected="another folder: whatever loads the base from there would take the adapter too",
            )
        whole = bool(learning) and not adapted
        write_vif(self, folder, "whole" if whole else "adapter" if adapted else "vif")
        if adapted or whole:
            self.base.save_pretrained(folder)
        if whole:
            self.vlm.processor.save_pretrained(folder)

    def facts(self) -> dict[str, Any]:
        """What a run records of it: its resolved configuration, the alpha in use, and how it makes its maps."""
        return asdict(self.config) | {
            "pairs": [list(pair) for pair in self.config.pairs or ()],
            "alpha": float(self.alpha),
            "draw": self.draw,
            "draw_seed": self.draw_seed,
            "maps_from": self.maps_from,
        }

    def fingerprint(self) -> str:
        """Identity of its weights as they are in memory, wherever they came from."""
        digest = hashlib.sha256()
        for name, value in self.generator.state_dict().items():
            digest.update(name.encode())
            digest.update(value.cpu().contiguous().flatten().view(torch.uint8).numpy())
        return digest.hexdigest()[:12]

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


def add_vif(vlm: VLM, config: VIFConfig | None = None) -> VIFModel:
    """VIF on a loaded model, with fresh weights; the model is changed in place and `vlm.vif` is what is returned.

    One pass proves that every injection layer's map arrives, under whichever attention the model uses. Raises
    UsageError for layers the decoder lacks, UnsupportedModel where no map can be made or injected.
    """
    vlm.refuse_crossing()
    return VIFModel(vlm, config)
