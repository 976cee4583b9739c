"""Processors for reading pictures, which do not need torchvision."""

from __future__ import annotations

from typing import Any

from transformers import ProcessorMixin


def without_video(processor_class: Any) -> Any:
    """A processor class like `processor_class` that has no video processor, the only part that needs torchvision.

    Its parts may be passed by name alone, since their order differs between families.
    """
    parts = processor_class.get_attributes()

    class PartsByName(ProcessorMixin):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            named = dict(zip(parts, args, strict=False)) | kwargs
            named.pop("video_processor", None)
            super().__init__(**named)

    class WithoutVideo(processor_class, PartsByName):
        @classmethod
        def get_attributes(cls) -> list[Any]:
            return [name for name in parts if name != "video_processor"]

    WithoutVideo.__name__ = processor_class.__name__
    return WithoutVideo
