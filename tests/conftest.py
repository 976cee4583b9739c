"""Every test: offline, one thread, no display, and shapes checked against their annotations."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "Agg"
os.environ.setdefault("OMP_NUM_THREADS", "1")

from jaxtyping import install_import_hook

VIF = [
    f"vif_core.vif.{room}"
    for room in ("encoder", "generator", "gmm", "guide", "losses", "model", "objective", "passes", "turns")
]
install_import_hook(["vifscope.metrics", "vif_core.flow", *VIF], "beartype.beartype")
