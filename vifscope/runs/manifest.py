"""The manifest: what a run is, in JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vif_core.errors import UsageError

MANIFEST = "manifest.json"
SCHEMA_VERSION = 1


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
