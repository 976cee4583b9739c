"""One question about one or more images: the type that every source of data gives."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from PIL import Image, UnidentifiedImageError

from vif_core.errors import SampleError

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in original pixels of the sample's first image."""


@dataclass(frozen=True)
class Sample:
    """A question about images, with what is known of its answer.

    sample_id: stable and unique in its source; letters, digits, '.', '_' and '-'.
    images:    pictures, or paths that are read late, so that a broken file costs one sample and not the run.
    boxes:     target boxes on the first image; empty where they are unknown.
    kind:      kind of question, "" if unknown.      size: size class of the target object, "" if unknown.
    system:    system line of the prompt, "" for none.
    """

    sample_id: str
    images: tuple[Image.Image | Path, ...]
    question: str
    answer: str | None = None
    boxes: tuple[Box, ...] = ()
    kind: str = ""
    size: str = ""
    system: str = ""

    def open_images(self) -> list[Image.Image]:
        """The images in RGB. Raises SampleError for an empty question and for a missing or broken image."""
        if not self.question.strip():
            raise SampleError(
                f"sample {self.sample_id} has an empty question",
                expected="some text",
                next_step="Fill its question in, or leave the sample out",
            )
        return [open_image(image, self.sample_id) for image in self.images]


class Source(Protocol):
    """Samples by index. `fingerprint` identifies the data and enters a run's configuration hash."""

    name: str
    fingerprint: str

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


def sample_order(source: Source, seed: int) -> list[int]:
    """Indices of `source` in one seeded permutation: the first n of it are the n samples of an analysis."""
    order = list(range(len(source)))
    random.Random(seed).shuffle(order)
    return order


def open_image(image: Image.Image | Path, sample_id: str) -> Image.Image:
    """A sample's image in RGB. Raises SampleError where it is missing or broken."""
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    try:
        with Image.open(image) as opened:
            return opened.convert("RGB")
    except FileNotFoundError:
        seen, cause = f"sample {sample_id}: image {image} does not exist", None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        seen, cause = f"sample {sample_id}: image {image} cannot be read ({error})", error
    raise SampleError(
        seen, expected="a picture that Pillow opens", next_step="Mend the file or its path, then run again"
    ) from cause
