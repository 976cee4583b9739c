"""What learns in a phase, and how fast: parameters by the part of the model that they belong to."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import nn

from vif_core.errors import UnsupportedModel, UsageError, VifError
from vif_core.train.learner import Learner
from vif_core.train.optimizer import MuonAdamW
from vif_core.train.phases import PARTS, LoRA, Part, Phase
from vif_core.vlm.discover import blocks_of, decoder_of

Groups = dict[Part, list[tuple[str, nn.Parameter]]]

JOINS = ("merger", "projector")
"""Names of modules inside an image encoder that hand its features to the decoder (Qwen's merger)."""


def parts_of(model: Learner) -> dict[str, Part]:
    """The part of each parameter, by its name.

    The image encoder is what the model itself calls so; what is neither in it nor in the decoder joins the two.
    """
    base: Any = model.base
    head = base.get_output_embeddings()
    decoder = {id(p) for module in (decoder_of(base), head) if module is not None for p in module.parameters()}
    encoder = base.get_encoder(modality="image")
    vision = {id(p) for name, p in encoder.named_parameters() if not any(join in name for join in JOINS)}
    if encoder is base or not vision or vision & decoder:
        raise UnsupportedModel(
            f"{type(base).__name__} has no image encoder of its own",
            expected="one that get_encoder finds",
            next_step="Choose another model",
        )
    parts: dict[str, Part] = {}
    for name, parameter in model.named_parameters():
        if not name.startswith("base."):
            parts[name] = "vif"
        elif id(parameter) in decoder:
            parts[name] = "decoder"
        else:
            parts[name] = "vision" if id(parameter) in vision else "projector"
    return parts


def learning(model: Learner, phase: Phase) -> Groups:
    """Let a phase's parts learn, in float32, and freeze the others. Returns what learns, by part.

    Under LoRA the decoder's adapters learn in place of its weights; from a first block on, later blocks alone. A phase
    without bf16 has all of the model in float32.
    """
    if not phase.bf16:
        model.float()
    parts, groups = parts_of(model), Groups()
    if phase.decoder_from is not None:
        blocks = blocks_of(model.base, model.vlm.layers)
        if phase.decoder_from >= len(blocks):
            raise UsageError(f"decoder_from is {phase.decoder_from}", expected=f"a block below {len(blocks)}")
        later = {id(parameter) for block in blocks[phase.decoder_from :] for parameter in block.parameters()}
    for name, parameter in model.named_parameters():
        part = parts[name]
        frozen = phase.lora is not None and part == "decoder" and "lora_" not in name
        if phase.decoder_from is not None and part == "decoder":
            frozen = frozen or id(parameter) not in later
        parameter.requires_grad_(part in phase.train and not frozen)
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    for part in PARTS:
        own = [(name, p) for name, p in model.named_parameters() if p.requires_grad and parts[name] == part]
        if own:
            groups[part] = own
        elif part in phase.train:
            raise UnsupportedModel(
                f"nothing of {type(model.base).__name__} is its {part}", expected="parameters to train"
            )
    model.pictured = [parameter for part in ("projector", "vision") for _, parameter in groups.get(part, ())]
    return groups


def build_optimizer(kind: str, groups: Groups, phase: Phase) -> torch.optim.Optimizer:
    """AdamW, or Muon for matrices with AdamW for the rest; each part at its own rate, vectors without weight decay."""
    if kind == "muon":
        return MuonAdamW([(named, phase.lr[part]) for part, named in groups.items()], 1.0, phase.weight_decay)
    listed = []
    for part, named in groups.items():
        for matrices in (True, False):
            own = [parameter for _, parameter in named if (parameter.ndim > 1) == matrices]
            decay = phase.weight_decay if matrices else 0.0
            if own:
                listed.append({"params": own, "lr": phase.lr[part], "weight_decay": decay})
    return torch.optim.AdamW(listed)


def add_lora(base: Any, lora: LoRA) -> None:
    """LoRA adapters (PEFT) on the decoder's linear layers that the settings name; once a model.

    Raises UnsupportedModel where the decoder has none of them, UsageError where the model has adapters with other
    settings, VifError where PEFT is not installed.
    """
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise VifError(
            "LoRA needs the package peft", expected="it", next_step="Run: pip install 'vifscope[train]'"
        ) from error
    decoder = next(name for name, module in base.named_modules() if module is decoder_of(base))
    names = "|".join(map(re.escape, lora.targets))
    targets = rf"{re.escape(decoder)}\..*\.({names})"
    known = getattr(base, "peft_config", {})
    linear = [name for name, module in base.named_modules() if isinstance(module, nn.Linear)]
    if not known and not any(re.fullmatch(targets, name) for name in linear):
        raise UnsupportedModel(
            f"the decoder of {type(base).__name__} has no linear layer named {' or '.join(lora.targets)}",
            expected="names of its layers in lora.targets",
        )
    config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets)  # type: ignore[arg-type]
    for adapter in known.values():
        for name in ("r", "lora_alpha", "lora_dropout", "target_modules"):
            if (there := getattr(adapter, name, None)) != getattr(config, name):
                raise UsageError(
                    f"the model has an adapter with {name} {there}, and the recipe {getattr(config, name)}",
                    expected="the settings it was made with, to train it further",
                    next_step="Repeat them under lora, or give a model without an adapter",
                )
    if not known:
        base.add_adapter(config)


def merge_lora(base: Any) -> None:
    """Fold the adapters into the weights and take them off, so that what is left is a plain model."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(base.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge()
            parent, _, child = name.rpartition(".")
            setattr(base.get_submodule(parent), child, module.get_base_layer())
    del base.peft_config
    base._hf_peft_config_loaded = False
