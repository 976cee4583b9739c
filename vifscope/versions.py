"""Versions of what the numbers depend on."""

from __future__ import annotations

import platform
from importlib import metadata

PACKAGES = ("vifscope", "torch", "transformers", "nnsight", "datasets", "numpy", "pandas", "pyarrow", "safetensors")


def versions() -> dict[str, str]:
    """Version of Python and of each package, "" where one is not installed."""
    return {"python": platform.python_version()} | {package: _version(package) for package in PACKAGES}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
