"""See where a vision-language model looks, layer by layer. Light to import: torch loads on first use.

>>> run = vifscope.analyze(n=20)                 # doctest: +SKIP
>>> run.figure("attenuation").savefig("a.pdf")   # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vifscope.api import Run, ablate, analyze, compare, evaluate, load, open_run

__all__ = ["Run", "ablate", "analyze", "compare", "evaluate", "load", "open_run"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from vifscope import api

        return getattr(api, name)
    raise AttributeError(f"module 'vifscope' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
