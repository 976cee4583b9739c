"""VIF on disk: vif_config.json and vif.safetensors, beside what else was trained.

A folder holds the whole model where the base was trained as well, an adapter (PEFT) where LoRA was, or VIF alone; the
latter two say where the base came from.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from vif_core.errors import UsageError, VifError
from vif_core.vif.config import VIFConfig

if TYPE_CHECKING:
    from vif_core.vif.model import VIFModel

CONFIG = "vif_config.json"
WEIGHTS = "vif.safetensors"


def write_vif(model: VIFModel, folder: Path, base: str) -> None:
    """VIF's configuration, what base it belongs to, and its weights."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {"base": base, "revision": model.vlm.revision, "config": asdict(model.config)}
    (folder / CONFIG).write_text(json.dumps(values, indent=2) + "\n")
    kept = _unshared(model.generator.state_dict())
    save_file({name: value.contiguous() for name, value in kept.items()}, folder / WEIGHTS, metadata={"format": "pt"})


def read_config(folder: Path) -> tuple[str, VIFConfig]:
    """The base's name and the configuration. Raises UsageError for a file that is not one of VIF's."""
    path = folder / CONFIG
    try:
        values = json.loads(path.read_text())
        return values["base"], VIFConfig.from_dict(values["config"])
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
