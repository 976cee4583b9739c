"""VIF: a variational module that re-focuses deep-layer attention with Gaussian spotlights (arXiv 2604.12508).

`add_vif` gives a loaded model the module; `vif_core.load.load_vif` loads a saved one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vif_core.vif.config import VIFConfig
    from vif_core.vif.model import VIFModel, add_vif

__all__ = ["VIFConfig", "VIFModel", "add_vif"]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    rooms = {"VIFConfig": "config", "VIFModel": "model", "add_vif": "model"}
    if name in rooms:
        return getattr(import_module(f"vif_core.vif.{rooms[name]}"), name)
    raise AttributeError(name)
