"""The arms of an experiment: one recipe, and what each of them does otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from itertools import pairwise
from typing import Any, Literal

from vif_core.errors import UsageError
from vif_core.train.phases import Phase, PhaseRecipe
from vif_core.vif.config import layer_pairs


@dataclass(frozen=True)
class Arm:
    """vif: fields of VIFConfig that it changes; None for no VIF at all.      maps_from: in training, and when asked.
    reference: the arm that it is a variant of; empty for none."""

    about: str
    vif: Mapping[str, Any] | None = field(default_factory=dict)
    maps_from: Literal["own", "swapped", "constant"] = "own"
    reference: str = "vif"


VIF, CONTROL, DEFAULT = "vif", "control", "default"

ARMS = {
    VIF: Arm("VIF as the recipe has it", reference=""),
    CONTROL: Arm("the same data, steps, rates and trained weights, without VIF", None, reference=""),
    "swapped": Arm("trained and asked with another sample's maps", maps_from="swapped"),
    "constant": Arm("one learned map for every question", maps_from="constant"),
    "no-posterior": Arm("the prior gives the maps in training too, no KL", {"variant": "no-posterior"}),
    "no-sparsity": Arm("no sparsity loss", {"variant": "no-sparsity"}),
    "full-sequence": Arm("maps over the whole sequence", {"variant": "full-sequence"}),
    "deep-only": Arm("maps from the injection layer's own input", {"variant": "deep-only"}),
    "mid-feature": Arm("middle features in place of attention flow", {"variant": "mid-feature"}),
    DEFAULT: Arm("the paper's layer mapping", {"mapping": "default", "pairs": None}),
    "early": Arm("earlier extraction layers", {"mapping": "early", "pairs": None}, reference=DEFAULT),
    "late": Arm("later extraction layers", {"mapping": "late", "pairs": None}, reference=DEFAULT),
    "five-pairs": Arm("five layer pairs", {"mapping": "five-pairs", "pairs": None}, reference=DEFAULT),
}
"""Controls, then the variants of the paper's Table 3 and the layer mappings of its Table 4."""


def arm_recipe(recipe: PhaseRecipe, name: str) -> PhaseRecipe:
    """The recipe of one arm. Raises UsageError for a name that is none, and for a recipe that leaves nothing to change.

    The control, and the variant without maps (mid-feature), leave out the phases in which VIF alone learns.
    """
    if name not in ARMS:
        raise UsageError(f"there is no arm {name!r}", expected=f"some of {', '.join(ARMS)}")
    if recipe.vif is None:
        raise UsageError(f"recipe {recipe.name} has no VIF", expected="one that trains VIF, such as mini-llava-vif")
    arm = ARMS[name]
    named = recipe.name if name == VIF else f"{recipe.name}-{name}"
    if arm.vif is None:
        return replace(recipe, name=named, vif=None, phases=_without_vif(recipe))
    phases = recipe.phases
    if arm.vif.get("variant") == "mid-feature":  # it reads nothing of VIF's weights
        phases = _without_vif(recipe)
    return replace(recipe, name=named, vif=replace(recipe.vif, **arm.vif), maps_from=arm.maps_from, phases=phases)


def injected_layers(recipe: PhaseRecipe, num_layers: int) -> list[int]:
    """Layers that the maps of a recipe with VIF are injected into, in a decoder of so many layers."""
    assert recipe.vif is not None
    return [deep for _, deep in recipe.vif.pairs or layer_pairs(recipe.vif.mapping, num_layers)]


def scaled(recipe: PhaseRecipe, steps: int) -> PhaseRecipe:
    """The recipe in so many steps over all of its phases, which keep their shares of them; so do the losses' warm-ups.

    Raises UsageError for fewer steps than phases and for phases that count epochs.
    """
    if steps < len(recipe.phases):
        raise UsageError(
            f"{steps} steps for the {len(recipe.phases)} phases of {recipe.name}", expected="one for each at least"
        )
    known = [phase.steps for phase in recipe.phases if phase.steps is not None and phase.epochs is None]
    if len(known) < len(recipe.phases):
        raise UsageError(
            f"recipe {recipe.name} counts epochs",
            expected="steps in every phase, which can be scaled",
            next_step="Leave --steps and --budget out, or give its phases steps",
        )
    ends = [0]
    for i in range(len(known)):
        end = round(steps * sum(known[: i + 1]) / sum(known))
        ends.append(min(max(end, ends[-1] + 1), steps - (len(known) - 1 - i)))
    phases = (_shortened(phase, end - start) for phase, (start, end) in zip(recipe.phases, pairwise(ends), strict=True))
    return replace(recipe, phases=tuple(phases))


def _shortened(phase: Phase, steps: int) -> Phase:
    assert phase.steps is not None
    factor = steps / phase.steps
    ramps = {f.name: getattr(phase.losses, f.name) for f in fields(phase.losses)}
    shorter = {name: replace(ramp, warmup=round(ramp.warmup * factor)) for name, ramp in ramps.items()}
    return replace(phase, steps=steps, losses=replace(phase.losses, **shorter))


def _without_vif(recipe: PhaseRecipe) -> tuple[Phase, ...]:
    phases = tuple(
        replace(phase, train=tuple(part for part in phase.train if part != "vif"), order=number)
        for number, phase in enumerate(recipe.phases)
        if phase.train != ("vif",)
    )
    if not phases:
        raise UsageError(
            f"recipe {recipe.name} trains VIF alone, so that nothing learns without it",
            expected="a phase in which the decoder or the projector learns",
        )
    return phases
