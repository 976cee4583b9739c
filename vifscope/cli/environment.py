"""What vifscope runs on."""

from __future__ import annotations

import os
import platform

from vifscope.versions import versions


def environment() -> dict[str, str]:
    """Versions ("" where a package is not installed) and the device that `--device auto` takes."""
    import torch

    device = f"cuda ({torch.cuda.get_device_name()})" if torch.cuda.is_available() else f"cpu ({os.cpu_count()} cores)"
    return {"platform": platform.platform(), "device": device} | versions()
