"""What can be chosen about VIF, in one checked value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from math import floor
from operator import index
from typing import Any, Literal, get_args

from vif_core.checks import check_number, check_whole
from vif_core.errors import UsageError

Pair = tuple[int, int]
"""(extraction layer, injection layer), from 0. Features are the extraction layer's output."""

LayerMapping = Literal["default", "early", "late", "five-pairs"]
Preset = Literal["paper", "release"]
Variant = Literal["none", "no-posterior", "no-sparsity", "full-sequence", "deep-only", "mid-feature"]

_STARTS = {"default": 11, "early": 9, "five-pairs": 9, "late": 13}
"""First extraction layer of each mapping in a decoder of 32 layers (paper, Table 4)."""

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {
        "depth": 2,
        "feed_forward": 4,
        "normalise": "sum",
        "volume_of": "amplitude",
        "entropy_of": "weights",
        "losses_of": "all-pairs",
        "inference": "mean",
        "later": "turn",
        "points": "centres",
        "shared_queries": False,
    },
    "release": {
        "width": -1,
        "depth": 3,
        "normalise": "softmax",
        "volume_of": "variance",
        "entropy_of": "map",
        "losses_of": "first-pair",
        "inference": "draw",
        "later": "none",
        "points": "linspace",
        "shared_queries": True,
    },
}
"""What the paper says, and what its authors' release does otherwise."""


@dataclass(frozen=True)
class VIFConfig:
    """Everything about VIF that its weights do not say. `preset` fills what is left None.

    mapping:   which layer pairs, by the paper's rule for any depth: "default", "early", "late", "five-pairs".
    pairs:     the pairs themselves, in place of `mapping`.
    slots:     K, mixture components.        min_spread: s_min in [1e-4, 1], in units of the image's longer side.
    alpha:     injection strength in [0, 1] (equation 6).
    width:     of encoder and latent slots; None: an eighth of the decoder's, in [128, 512]; -1: the decoder's.
    depth, heads, feed_forward: blocks of bidirectional cross-attention, their heads, and the feed-forward's multiple.
    logvar_bound: log-variances are clamped to [-bound, bound]; at most 20.
    normalise: "sum" (equation 4) or "softmax" over raw values in [0, 1], which is nearly uniform.
    volume_of: "amplitude" x variance (equation 9), or mean "variance" alone.
    entropy_of: "weights", H(pi), or "map", H(B).
    kl_reduction: "mean" over batch, slots and dimensions, or "sum" over the latter two.
    losses_of: "all-pairs" or "first-pair".         inference: "mean" of the prior, or a "draw" from it.
    later:     generated positions take their "turn"'s map, or "none".
    points:    where the cells lie: patch "centres", or "linspace" from 0 to 1.
    shared_queries: prior and posterior share latent queries and condensing attention.
    lambda_kl, lambda_sp, entropy_weight, volume_weight: weights of the losses (equation 10).
    variant:   an ablation of Table 3, or "none".
    Where a pair extracts from a layer that another has injected into (several pairs of "deep-only"), its prior reads
    rows that the other's map has changed: in training, a map that knows the answer.
    """

    preset: Preset = "paper"
    mapping: LayerMapping = "default"
    pairs: tuple[Pair, ...] | None = None
    slots: int = 16
    min_spread: float = 0.035
    alpha: float = 0.5
    width: int | None = None
    depth: int | None = None
    heads: int = 4
    feed_forward: int | None = None
    logvar_bound: float = 5.0
    normalise: Literal["sum", "softmax"] | None = None
    volume_of: Literal["amplitude", "variance"] | None = None
    entropy_of: Literal["weights", "map"] | None = None
    kl_reduction: Literal["mean", "sum"] = "mean"
    losses_of: Literal["all-pairs", "first-pair"] | None = None
    inference: Literal["mean", "draw"] | None = None
    later: Literal["turn", "none"] | None = None
    points: Literal["centres", "linspace"] | None = None
    shared_queries: bool | None = None
    lambda_kl: float = 0.1
    lambda_sp: float = 0.1
    entropy_weight: float = 1.0
    volume_weight: float = 1.0
    variant: Variant = "none"

    def __post_init__(self) -> None:
        for name, kind in (("preset", Preset), ("mapping", LayerMapping), ("variant", Variant)):
            _one_of(name, getattr(self, name), get_args(kind))
        for name, value in (PRESETS["paper"] | PRESETS[self.preset]).items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        for name, allowed in _CHOICES.items():
            _one_of(name, getattr(self, name), allowed)
        check_number("VIFConfig.alpha", self.alpha, 0, 1)
        object.__setattr__(self, "alpha", float(self.alpha))
        if self.width is not None and self.width != -1:
            check_whole("VIFConfig.width (-1: the decoder's)", self.width, 1)
        for name in ("slots", "depth", "heads", "feed_forward"):
            check_whole(f"VIFConfig.{name}", getattr(self, name), 1)
        check_number("VIFConfig.min_spread", self.min_spread, 1e-4, 1)
        check_number("VIFConfig.logvar_bound", self.logvar_bound, 0, 20, above=True)
        for name in ("lambda_kl", "lambda_sp", "entropy_weight", "volume_weight"):
            check_number(f"VIFConfig.{name}", getattr(self, name), 0)
        if self.pairs is not None:
            object.__setattr__(self, "pairs", _checked_pairs(self.pairs))

    def resolved(self, num_layers: int, hidden_size: int) -> VIFConfig:
        """This configuration with pairs and width filled in for a decoder. Raises UsageError for pairs beyond it."""
        pairs = self.pairs or layer_pairs(self.mapping, num_layers)
        if self.variant == "deep-only":
            pairs = tuple((deep - 1, deep) for _, deep in pairs)
        for pair in pairs:
            if pair[1] >= num_layers:
                raise UsageError(
                    f"pair {pair} of a decoder with {num_layers} layers", expected=f"layers below {num_layers}"
                )
        width = default_width(hidden_size) if self.width is None else self.width
        width = hidden_size if width == -1 else width
        if width % self.heads:
            raise UsageError(f"VIFConfig.width is {width}", expected=f"a multiple of its {self.heads} heads")
        return replace(self, pairs=pairs, width=width)

    @property
    def injected(self) -> list[int]:
        """Injection layers of a resolved configuration."""
        assert self.pairs is not None
        return [deep for _, deep in self.pairs]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> VIFConfig:
        """From JSON or YAML values. Raises UsageError that names a field which is unknown or wrong."""
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise UsageError(f"VIFConfig has no field {unknown[0]!r}", expected=", ".join(f.name for f in fields(cls)))
        return cls(**values)


def layer_pairs(mapping: LayerMapping, num_layers: int) -> tuple[Pair, ...]:
    """The pairs of a named mapping in a decoder of any depth; at 32 layers those of the paper's Table 4.

    Spacing d = max(1, floor(2 n / 32 + 0.5)); injection layers end at the last layer, extraction starts at
    floor(s n / 32 + 0.5). Raises UsageError where an extraction layer would not lie before its injection layer.

    >>> layer_pairs("default", 32)
    ((11, 25), (13, 27), (15, 29), (17, 31))
    >>> layer_pairs("default", 16)
    ((6, 12), (7, 13), (8, 14), (9, 15))
    """
    count = 5 if mapping == "five-pairs" else 4
    spacing = max(1, floor(2 * num_layers / 32 + 0.5))
    start = floor(_STARTS[mapping] * num_layers / 32 + 0.5)
    pairs = tuple((start + i * spacing, num_layers - 1 - (count - 1 - i) * spacing) for i in range(count))
    return _checked_pairs(pairs)


def default_width(hidden_size: int) -> int:
    """min(512, max(128, hidden_size / 8 rounded up to a multiple of 64)).

    >>> default_width(4096), default_width(128)
    (512, 128)
    """
    return min(512, max(128, -(-hidden_size // 8 // 64) * 64))


_CHOICES: dict[str, tuple[Any, ...]] = {
    "normalise": ("sum", "softmax"),
    "volume_of": ("amplitude", "variance"),
    "entropy_of": ("weights", "map"),
    "kl_reduction": ("mean", "sum"),
    "losses_of": ("all-pairs", "first-pair"),
    "inference": ("mean", "draw"),
    "later": ("turn", "none"),
    "points": ("centres", "linspace"),
    "shared_queries": (True, False),
}


def _one_of(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"VIFConfig.{name} is {value!r}", expected=f"one of {', '.join(map(str, allowed))}")


def _checked_pairs(pairs: Any) -> tuple[Pair, ...]:
    try:
        checked = tuple((index(mid), index(deep)) for mid, deep in pairs)
    except (TypeError, ValueError) as error:
        raise UsageError(f"VIFConfig.pairs is {pairs!r}", expected="[[extraction, injection], ...]") from error
    deep = [pair[1] for pair in checked]
    if not checked or any(not 0 <= a < b for a, b in checked) or len(set(deep)) < len(deep):
        raise UsageError(
            f"layer pairs {list(checked)}",
            expected="each extraction layer before its injection layer, and each injection layer once",
            next_step="Give `pairs` for a decoder this shallow",
        )
    return checked
