"""Processors for reading pictures and the frames of videos, which do not need torchvision."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from transformers import ProcessorMixin
from transformers.utils import VIDEO_PROCESSOR_NAME

from vif_core.vlm.video import frame_reader


def without_video(processor_class: Any, also: Sequence[str] = ()) -> Any:
    """A processor class like `processor_class` without its own video processor, the only part that needs torchvision.

    What reads frames stands in for it where that is known of the family; `video_settings` may hold what the checkpoint
    says of its video processor, and is saved with the rest.
    also: parts that are left out too. Parts may be passed by name alone, since their order differs between families.
    """
    parts = processor_class.get_attributes()
    left_out = {"video_processor", *also} & {*parts}
    kept = [name for name in parts if name not in left_out]

    class PartsByName(ProcessorMixin):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            named = dict(zip(parts, args, strict=False)) | kwargs
            super().__init__(**{name: part for name, part in named.items() if name not in left_out})

    class WithoutVideo(processor_class, PartsByName):
        video_settings: Mapping[str, Any] = MappingProxyType({})

        @property
        def video_processor(self) -> Any:
            reader = frame_reader(self, self.video_settings)
            if reader is None:
                raise AttributeError(f"{type(self).__name__} reads no videos here")
            return reader

        def save_pretrained(self, save_directory: Any, push_to_hub: bool = False, **kwargs: Any) -> Any:
            saved = super().save_pretrained(save_directory, push_to_hub, **kwargs)
            if self.video_settings:
                (Path(save_directory) / VIDEO_PROCESSOR_NAME).write_text(json.dumps(dict(self.video_settings)))
            return saved

        @classmethod
        def from_args_and_dict(cls, args: Any, processor_dict: dict[str, Any], **kwargs: Any) -> Any:
            loaded = dict(zip(kept, args, strict=True))
            return super().from_args_and_dict([loaded.get(name) for name in parts], processor_dict, **kwargs)

        @classmethod
        def get_attributes(cls) -> list[Any]:
            return kept

    WithoutVideo.__name__ = processor_class.__name__
    return WithoutVideo
