"""Processors for reading pictures, which do not need torchvision."""

from __future__ import annotations

from typing import Any


def without_video(processor_class: Any) -> Any:
    """A processor class like `processor_class` that has no video processor, the only part that needs torchvision."""

    class WithoutVideo(processor_class):
        @classmethod
        def get_attributes(cls) -> list[Any]:
            return [name for name in super().get_attributes() if name != "video_processor"]

    WithoutVideo.__name__ = processor_class.__name__
    return WithoutVideo
