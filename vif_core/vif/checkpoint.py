"""VIF on disk: vif_config.json and vif.safetensors, beside what else was trained.

A folder holds the whole model where the base was trained as well, an adapter (PEFT) where LoRA was, or VIF alone; the
latter two say where the base came from.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from vif_core.errors import UsageError, VifError
from vif_core.vif.config import VIFConfig
from vif_core.vif.passes import MapsFrom

if TYPE_CHECKING:
    from vif_core.vif.model import VIFModel

CONFIG = "vif_config.json"
WEIGHTS = "vif.safetensors"
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


Kind = Literal["vif", "adapter", "whole"]
"""What was saved into a folder beside VIF: nothing, an adapter, or the whole model."""


@dataclass(frozen=True)
class Origin:
    """What vif_config.json says beside the configuration.

    base: what VIF was trained on.    base_revision: that of what lay there, "" where it is not known.
    kind: None in a folder of before it was written.    maps_from: what maps were made from in training.
    """

    base: str
    base_revision: str = ""
    kind: Kind | None = None
    maps_from: MapsFrom = "own"

    def __post_init__(self) -> None:
        for name, allowed in (("kind", (None, *get_args(Kind))), ("maps_from", get_args(MapsFrom))):
            if getattr(self, name) not in allowed:
                raise TypeError(f"{name} is {getattr(self, name)!r}")


def write_vif(model: VIFModel, folder: Path, kind: Kind) -> None:
    """VIF's configuration, what base it belongs to, and its weights. An adapter that lay in a whole model's place goes.

    Of a whole model no path is written: its base is what it is called.
    """
    folder.mkdir(parents=True, exist_ok=True)
    vlm = model.vlm
    base, revision = (vlm.name, "") if kind == "whole" else (vlm.origin, vlm.origin_revision)
    values = asdict(Origin(base, revision, kind, model.maps_from)) | {"config": asdict(model.config)}
    (folder / CONFIG).write_text(json.dumps(values, indent=2) + "\n")
    kept = _unshared(model.generator.state_dict())
    save_file({name: value.contiguous() for name, value in kept.items()}, folder / WEIGHTS, metadata={"format": "pt"})
    if kind == "whole":  # transformers would lay it over the model on its own
        for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
            (folder / name).unlink(missing_ok=True)


def read_config(folder: Path) -> tuple[Origin, VIFConfig]:
    """Where the base is from, and the configuration. Raises UsageError for a file that is not one of VIF's."""
    path = folder / CONFIG
    try:
        values = json.loads(path.read_text())
        said = {each.name: values[each.name] for each in fields(Origin) if each.name in values}
        return Origin(**said), VIFConfig.from_dict(values["config"])
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path} is not a VIF configuration ({error})", expected="what save_pretrained wrote"
        ) from error


def read_weights(model: VIFModel, folder: Path) -> None:
    """VIF's weights from a folder. Raises VifError unless every tensor arrives, whole and in its shape."""
    path = folder / WEIGHTS
    try:
        found = load_file(path)
    except (OSError, SafetensorError) as error:
        raise VifError(f"VIF weights {path} cannot be read ({error})", expected="readable safetensors") from error
    wanted = model.generator.state_dict()
    kept = _unshared(wanted)
    wrong = sorted(set(kept) ^ set(found)) or [n for n, value in kept.items() if found[n].shape != value.shape]
    if wrong:
        raise VifError(
            f"VIF weights {path}: {len(wrong)} tensors missing, unknown or of another shape, such as {wrong[0]}",
            expected=f"{len(kept)} tensors of its configuration",
            next_step="Save it again with save_pretrained, or mend vif_config.json",
        )
    with torch.no_grad():
        for name, value in kept.items():
            value.copy_(found[name])


def _unshared(weights: dict[str, Any]) -> dict[str, Any]:
    """Each tensor once: branches may share their condenser."""
    seen: set[int] = set()
    kept = {}
    for name, value in weights.items():
        if value.data_ptr() not in seen:
            kept[name] = value
            seen.add(value.data_ptr())
    return kept
