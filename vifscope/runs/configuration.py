"""The configuration of a run: what decides its numbers, as plain JSON values, and its identity."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import PurePath
from typing import Any


def plain(config: dict[str, Any]) -> dict[str, Any]:
    """`config` as JSON keeps it (tuples become lists). Raises TypeError for a value that JSON cannot hold."""
    return json.loads(json.dumps(config, sort_keys=True, allow_nan=False))


def configuration_hash(config: dict[str, Any]) -> str:
    """SHA-256 in hex of the configuration; the order of its fields does not matter.

    >>> configuration_hash({"model": "m", "seed": 0}) == configuration_hash({"seed": 0, "model": "m"})
    True
    """
    return hashlib.sha256(json.dumps(plain(config), sort_keys=True).encode()).hexdigest()


def default_run_name(model: str, data: str, config: dict[str, Any]) -> str:
    """Folder name of a run: model, data, and the first 8 digits of the configuration's hash.

    >>> default_run_name("llava-hf/llava-1.5-7b-hf", "specks test", {"seed": 0})
    'llava-1.5-7b-hf-specks-test-de7d7744'
    """
    words = [re.sub(r"[^A-Za-z0-9._]+", "-", PurePath(name).name).strip("-.") for name in (model, data)]
    return "-".join([*filter(None, words), configuration_hash(config)[:8]])


def differences(stored: dict[str, Any], asked: dict[str, Any]) -> list[str]:
    """One phrase for each field that differs.

    >>> differences({"seed": 0, "rows": "last"}, {"seed": 1, "rows": "last"})
    ['seed is 0, not 1']
    >>> differences({"vif": {"alpha": 0.5, "slots": 4}}, {"vif": {"alpha": 1.0, "slots": 4}})
    ['vif.alpha is 0.5, not 1.0']
    """
    phrases: list[str] = []
    for field in sorted(stored.keys() | asked.keys()):
        was, now = stored.get(field, _UNSET), asked.get(field, _UNSET)
        if isinstance(was, dict) and isinstance(now, dict):
            phrases += [f"{field}.{phrase}" for phrase in differences(was, now)]
        elif was != now:
            phrases.append(f"{field} is {_said(was)}, not {_said(now)}")
    return phrases


_UNSET = "unset"


def _said(value: Any) -> str:
    return value if value is _UNSET else json.dumps(value)
