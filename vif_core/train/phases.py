"""A recipe of phases: how a model that can be loaded is fine-tuned, with VIF or without it.

A phase says which parts learn, how fast, from which data and for how long. Phases run one after another, and each
goes on from the weights of the one before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from typing import Any, Literal, get_args

from vif_core.checks import check_number, check_whole
from vif_core.errors import UsageError
from vif_core.train.packing import PackOptions
from vif_core.vif.config import VIFConfig

Part = Literal["vif", "decoder", "projector", "vision"]
PARTS: tuple[Part, ...] = get_args(Part)
"""What can learn: VIF's generator; the language model; what joins images to it; the image encoder."""

PACKED = "specks"
"""The data source of packed rows: many questions behind one picture, for models with the vocabulary of mini-llava."""


@dataclass(frozen=True)
class Ramp:
    """A number that changes in a straight line from `start` to `value` over the first `warmup` steps of its phase.

    value: None stands for what the VIF configuration says.
    """

    value: float | None = None
    warmup: int = 0
    start: float = 0.0

    def __post_init__(self) -> None:
        check_whole("warmup", self.warmup, 0)
        for name in ("value", "start"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), 0)

    def at(self, step: int, default: float = 0.0) -> float:
        """The number at a step, from 0.

        >>> [Ramp(1.0, warmup=4).at(step) for step in (0, 2, 4, 9)]
        [0.0, 0.5, 1.0, 1.0]
        """
        value = default if self.value is None else self.value
        return value if step >= self.warmup else self.start + (value - self.start) * step / self.warmup


@dataclass(frozen=True)
class Losses:
    """Weights of VIF's losses (equation 10), and what else shapes its learning.

    kl, sparsity: lambda_KL and lambda_SP.       guide: of the guide loss (see VIFModel).
    free_bits_nats: KL a turn that is not penalised.       posterior_share: turns whose map the posterior draws.
    alpha: injection strength.
    """

    kl: Ramp = Ramp()
    sparsity: Ramp = Ramp()
    guide: Ramp = Ramp(0.0)
    free_bits_nats: Ramp = Ramp(0.0)
    posterior_share: Ramp = Ramp(1.0)
    alpha: Ramp = Ramp()

    def __post_init__(self) -> None:
        for name in ("posterior_share", "alpha"):
            ramp = getattr(self, name)
            for value in (ramp.value, ramp.start):
                if value is not None and value > 1:
                    raise UsageError(f"{name} is {value}", expected="a number from 0 to 1")

    @property
    def settled(self) -> int:
        """The step from which on nothing changes."""
        return max(getattr(self, f.name).warmup for f in fields(self))


@dataclass(frozen=True)
class LoRA:
    """Low-rank adapters on the decoder's linear layers of these names (the decoder's own weights stay as they are)."""

    rank: int
    alpha: float
    dropout: float = 0.0
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

    def __post_init__(self) -> None:
        check_whole("rank", self.rank, 1)
        check_number("alpha", self.alpha, 0, above=True)
        check_number("dropout", self.dropout, 0, 1)
        if not self.targets:
            raise UsageError("targets is empty", expected="names of linear layers, such as q_proj")


@dataclass(frozen=True)
class Data:
    """One source of rows.

    source: "specks" for packed rows, or what `--data` takes: a LLaVA JSON, a folder, hub:OWNER/NAME, specks:train.
            None where the user has to say it.
    share:  of the rows drawn; None: by the number of rows, as if sources were put together.
    pack:   what packed rows hold (PackOptions).
    """

    source: str | None = None
    share: float | None = None
    pack: PackOptions = field(default_factory=PackOptions)

    def __post_init__(self) -> None:
        if self.source is not None and not isinstance(self.source, str):
            raise UsageError(f"source is {self.source!r}", expected="the name of a source")
        if self.share is not None:
            check_number("share", self.share, 0, above=True)


def _check_shares(data: Sequence[Data]) -> None:
    if len({each.share is None for each in data}) > 1:
        raise UsageError("some sources have a share and others none", expected="a share for each of them, or for none")


@dataclass(frozen=True)
class Phase:
    """One phase.

    train: parts that learn; the others are frozen.        lr: learning rate of each of them.
    steps, epochs: the phase ends with whichever is first; one of them at least.
    rows:  rows a step, over all processes; each process takes at most `per_device` of its share at a time and
           accumulates gradients over the rest.
    data:  sources in place of the recipe's.
    warmup, decay: shares of the steps. "cosine" falls to 0 from the warm-up on, "constant-decay" stays, then falls to a
           hundredth over the last `decay`.
    seek:  the guide lets maps settle on the best place of each row, in place of covering all (vif.guide.guide_loss).
    order: number that rows and draws of the phase go by; None: its place in the recipe. A control that leaves out the
           phases before keeps the rows of the model that it is held against.
    pairs_a_pass: layer pairs, drawn at random, whose maps are made in a pass; None for all (see VIFModel).
    decoder_from: of the decoder its blocks from this one on learn, embeddings and head excluded; None for all of it.
    bf16: compute in bfloat16 (on a CPU that only emulates it in float32); what learns is kept in float32.
    max_length: tokens a row, packed rows aside.
    """

    name: str
    train: tuple[Part, ...]
    lr: dict[str, float]
    rows: int
    steps: int | None = None
    epochs: float | None = None
    per_device: int = 8
    data: tuple[Data, ...] = ()
    lora: LoRA | None = None
    losses: Losses = Losses()
    seek: bool = False
    order: int | None = None
    pairs_a_pass: int | None = None
    decoder_from: int | None = None
    warmup: float = 0.03
    schedule: Literal["cosine", "constant-decay"] = "cosine"
    decay: float = 0.5
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    gradient_checkpointing: bool = False
    bf16: bool = True
    max_length: int = 2048

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.replace("-", "").replace("_", "").isalnum():
            raise UsageError(f"name is {self.name!r}", expected="letters, digits, - and _")
        if not self.train:
            raise UsageError("train is empty", expected=f"some of {', '.join(PARTS)}")
        for listed, names in (("train", self.train), ("lr", self.lr)):
            for part in names:
                if part not in PARTS:
                    raise UsageError(f"{listed} names {part!r}", expected=f"some of {', '.join(PARTS)}")
        if missing := [part for part in self.train if part not in self.lr]:
            raise UsageError(f"lr has no {missing[0]}, which learns", expected="a learning rate for each part in train")
        for part, lr in self.lr.items():
            check_number(f"lr.{part}", lr, 0, above=True)
        if self.steps is None and self.epochs is None:
            raise UsageError("neither steps nor epochs is given", expected="one of them")
        for name in ("steps", "rows", "per_device", "max_length", "pairs_a_pass"):
            if getattr(self, name) is not None:
                check_whole(name, getattr(self, name), 1)
        if self.order is not None:
            check_whole("order", self.order, 0)
        if self.decoder_from is not None:
            check_whole("decoder_from", self.decoder_from, 0)
        if self.epochs is not None:
            check_number("epochs", self.epochs, 0, above=True)
        for name, most in (("warmup", 1), ("decay", 1), ("weight_decay", None), ("max_grad_norm", None)):
            check_number(name, getattr(self, name), 0, most)
        if self.schedule not in ("cosine", "constant-decay"):
            raise UsageError(f"schedule is {self.schedule!r}", expected="cosine or constant-decay")
        for name in ("gradient_checkpointing", "bf16", "seek"):
            if not isinstance(getattr(self, name), bool):
                raise UsageError(f"{name} is {getattr(self, name)!r}", expected="true or false")
        if self.lora and "decoder" not in self.train:
            raise UsageError("lora is given but decoder does not learn", expected="decoder in train")
        _check_shares(self.data)

    def shared(self, processes: int) -> tuple[int, int]:
        """Rows that a process takes at a time, and how often before a step. Raises UsageError where rows do not divide.

        >>> Phase("a", ("vif",), {"vif": 1.0}, rows=512, steps=1).shared(4)
        (8, 16)
        """
        each, left = divmod(self.rows, processes)
        if left or not each:
            raise UsageError(
                f"phase {self.name} has {self.rows} rows a step for {processes} processes",
                expected="a number of rows that the processes share evenly",
            )
        at_once = next(n for n in range(min(self.per_device, each), 0, -1) if each % n == 0)
        return at_once, each // at_once


@dataclass(frozen=True)
class PhaseRecipe:
    """A fine-tuning.

    model: what is loaded; name: of the folder that the trained model is written to.
    vif:   configuration of VIF; None for the control, which trains the same model without it.
    maps_from: "own", or a control of VIF whose maps are "swapped" between samples, or "constant".
    processes: None takes one a GPU, or one.      workers: processes that prepare rows for each of them.
    save_dtype: of the weights that are written; None: as they are.
    """

    model: str
    name: str
    phases: tuple[Phase, ...]
    vif: VIFConfig | None
    data: tuple[Data, ...] = ()
    maps_from: Literal["own", "swapped", "constant"] = "own"
    optimizer: Literal["adamw", "muon"] = "adamw"
    seed: int = 0
    processes: int | None = None
    workers: int = 0
    log_steps: int = 20
    save_steps: int = 200
    compile: bool = False
    save_dtype: Literal["float32", "bfloat16"] | None = None

    def __post_init__(self) -> None:
        for name in ("model", "name"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name):
                raise UsageError(f"{name} is {getattr(self, name)!r}", expected="a name")
        if not self.phases:
            raise UsageError("phases is empty", expected="one phase at least")
        names = [phase.name for phase in self.phases]
        if len(set(names)) < len(names):
            raise UsageError(f"phases are named {', '.join(names)}", expected="each name once")
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise UsageError(
                    f"{name} is {getattr(self, name)!r}", expected=f"one of {', '.join(str(each) for each in allowed)}"
                )
        for name, least in (("seed", 0), ("processes", 1), ("workers", 0), ("log_steps", 1), ("save_steps", 1)):
            if getattr(self, name) is not None:
                check_whole(name, getattr(self, name), least)
        _check_shares(self.data)
        adapters = {phase.lora for phase in self.phases if "decoder" in phase.train}
        if len(adapters) > 1:
            raise UsageError(
                "the decoder learns with different lora settings in different phases",
                expected="the same lora, or none, wherever the decoder learns",
            )
        for phase in self.phases:
            if "vif" in phase.train and self.vif is None:
                raise UsageError(f"phase {phase.name} trains vif, which is null", expected="a configuration of vif")

    def changed(
        self,
        *,
        data: str | None = None,
        model: str | None = None,
        steps: int | None = None,
        seed: int | None = None,
        processes: int | None = None,
    ) -> PhaseRecipe:
        """This recipe with another source for all of its data, another model, at most so many steps a phase, ..."""
        given: dict[str, Any] = {"model": model, "seed": seed, "processes": processes}
        recipe = replace(self, **{name: value for name, value in given.items() if value is not None})
        if data is not None:
            phases = tuple(replace(phase, data=()) for phase in recipe.phases)
            pack = next((each.pack for each in self.data if each.source == PACKED), PackOptions())
            recipe = replace(recipe, phases=phases, data=(Data(data, pack=pack),))
        if steps is not None:
            phases = tuple(replace(phase, steps=min(steps, phase.steps or steps)) for phase in recipe.phases)
            recipe = replace(recipe, phases=phases)
        return recipe

    def data_of(self, phase: Phase) -> tuple[Data, ...]:
        """Sources of a phase. Raises UsageError where the recipe leaves them to the user."""
        data = phase.data or self.data
        if not data or any(each.source is None for each in data):
            raise UsageError(
                f"recipe {self.name} does not name its data",
                expected="a source",
                next_step="Give one, as in --data llava_v1_5_mix665k.json",
            )
        return data

    def to_values(self) -> dict[str, Any]:
        """As plain values, which `phase_recipe` reads back to the same recipe."""
        return _plain(asdict(self))


_CHOICES: dict[str, tuple[Any, ...]] = {
    "maps_from": ("own", "swapped", "constant"),
    "optimizer": ("adamw", "muon"),
    "compile": (False, True),
    "save_dtype": (None, "float32", "bfloat16"),
}


def phase_recipe(values: Mapping[str, Any]) -> PhaseRecipe:
    """A recipe from YAML values. Raises UsageError that names the field which is unknown, missing or wrong."""
    values = dict(values)
    phases = _listed("phases", values.pop("phases", ()))
    if values.get("vif") is not None:
        values["vif"] = VIFConfig.from_dict(_mapping("vif", values["vif"]))
    values["data"] = _data("data", values.get("data") or ())
    values["phases"] = tuple(_phase(number, phase) for number, phase in enumerate(phases))
    return _made(PhaseRecipe, "the recipe", values)


def _phase(number: int, values: Any) -> Phase:
    values = dict(_mapping(f"phases[{number}]", values))
    where = f"phase {values.get('name', number)}"
    values["train"] = tuple(_listed(f"{where}: train", values.get("train") or ()))
    values["lr"] = dict(_mapping(f"{where}: lr", values.get("lr") or {}))
    values["data"] = _data(f"{where}: data", values.get("data") or ())
    if values.get("lora") is not None:
        lora = dict(_mapping(f"{where}: lora", values["lora"]))
        if "targets" in lora:
            lora["targets"] = tuple(_listed(f"{where}: lora.targets", lora["targets"]))
        values["lora"] = _made(LoRA, f"{where}: lora", lora)
    losses = dict(_mapping(f"{where}: losses", values.get("losses") or {}))
    ramps = {name: _ramp(f"{where}: losses.{name}", value) for name, value in losses.items()}
    values["losses"] = _made(Losses, f"{where}: losses", ramps)
    return _made(Phase, where, values)


def _ramp(where: str, value: Any) -> Ramp:
    return _made(Ramp, where, value if isinstance(value, Mapping) else {"value": value})


def _data(where: str, values: Any) -> tuple[Data, ...]:
    if isinstance(values, str):
        values = [{"source": values}]
    made = []
    for number, entry in enumerate(_listed(where, values)):
        entry = dict(_mapping(f"{where}[{number}]", entry))
        if "pack" in entry:
            entry["pack"] = _made(PackOptions, f"{where}[{number}].pack", _mapping(where, entry["pack"]))
        made.append(_made(Data, f"{where}[{number}]", entry))
    return tuple(made)


def _made(kind: type, where: str, values: Mapping[str, Any]) -> Any:
    known = {f.name: f for f in fields(kind)}
    if unknown := [name for name in values if name not in known]:
        raise UsageError(f"{where} has no field {unknown[0]!r}", expected=f"some of {', '.join(known)}")
    needed = [n for n, f in known.items() if f.default is MISSING and f.default_factory is MISSING]
    if missing := [name for name in needed if name not in values]:
        raise UsageError(f"{where} lacks the field {missing[0]!r}", expected=f"{', '.join(needed)} at least")
    try:
        return kind(**values)
    except (UsageError, ValueError) as error:
        raise UsageError(f"{where}: {str(error).rstrip('.')}") from error


def _mapping(where: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise UsageError(f"{where} is {value!r}", expected="fields with values")
    return value


def _listed(where: str, value: Any) -> Sequence[Any]:
    if not isinstance(value, list | tuple):
        raise UsageError(f"{where} is {value!r}", expected="a list")
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value
