"""The manifest: what a run is, in JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vif_core.errors import UsageError

MANIFEST = "manifest.json"
SCHEMA_VERSION = 1

BY_CONSTRUCTION = ("visual_ratio", "ratio_lift")
"""Metrics that an injected map holds up whatever the model does: the ratio of its layer is at least alpha."""


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of the run at `path`. Raises UsageError where it is no run, or one of another schema."""
    if not path.is_dir():
        raise UsageError(f"{path} does not exist", expected="the folder of a run", next_step="Check its path")
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        version = manifest["schema_version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path} is no run: its {MANIFEST} is missing or unreadable",
            expected="a folder that vifscope wrote",
            next_step="Name another folder",
        ) from error
    if version != SCHEMA_VERSION:
        raise UsageError(
            f"run {path} has schema version {version}",
            expected=f"version {SCHEMA_VERSION}",
            next_step="Open it with the vifscope that wrote it, or measure it again",
        )
    return manifest


def vif_facts(manifest: dict[str, Any]) -> dict[str, Any]:
    """What a manifest says of the model's VIF (`VIFModel.facts`; of older runs pairs, alpha, preset and variant alone); empty without one."""
    model = manifest.get("model")
    return (model.get("vif") or {}) if isinstance(model, dict) else {}


def held_up_layers(vif: dict[str, Any]) -> list[int]:
    """Layers whose metrics BY_CONSTRUCTION are no finding: the injected map lies on visual tokens alone.

    In variant full-sequence it lies on every token, and in mid-feature there is none. vif: `vif_facts`.
    """
    if vif.get("variant") in ("full-sequence", "mid-feature"):
        return []
    return sorted({int(injection) for _, injection in vif.get("pairs", ())})
