"""One question about images, or about a video as its frames: the type that every source of data gives."""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from PIL import Image, ImageOps

from vif_core.errors import SampleError

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in original pixels of the sample's first image or frame, upright as `as_rgb` turns it."""

BROKEN = (OSError, SyntaxError, TypeError, ValueError, struct.error, Image.DecompressionBombError)
"""What Pillow raises for files that are no pictures, or broken ones, or have broken EXIF."""


@dataclass(frozen=True)
class Sample:
    """A question about images or about a video, with what is known of its answer.

    sample_id: stable and unique in its source; letters, digits, '.', '_' and '-'.
    images:    pictures, or paths that are read late, so that a broken file costs one sample and not the run.
    boxes:     target boxes on the first image or frame; empty where they are unknown.
    kind:      kind of question, "" if unknown.      size: size class of the target object, "" if unknown.
    system:    system line of the prompt, "" for none.
    frames:    a video as its frames, all of one size, sampled already; as `images`, and instead of them.
    fps:       frames a second among `frames`; models that tell time read it.
    """

    sample_id: str
    images: tuple[Image.Image | Path, ...]
    question: str
    answer: str | None = None
    boxes: tuple[Box, ...] = ()
    kind: str = ""
    size: str = ""
    system: str = ""
    frames: tuple[Image.Image | Path, ...] = ()
    fps: float = 2.0

    @property
    def pictures(self) -> tuple[Image.Image | Path, ...]:
        """What a run shows of the sample: its images, or the frames of its video."""
        return (*self.images, *self.frames)

    def open_images(self) -> list[Image.Image]:
        """The images in RGB. Raises SampleError for an empty question and for a missing or broken image."""
        self.check()
        return [open_image(image, self.sample_id) for image in self.images]

    def open_frames(self) -> list[Image.Image]:
        """The frames in RGB. Raises as `open_images` does, and SampleError where they differ in size."""
        self.check()
        frames = [open_image(frame, self.sample_id) for frame in self.frames]
        sizes = sorted({frame.size for frame in frames})
        if len(sizes) > 1:
            raise SampleError(
                f"frames of sample {self.sample_id} have sizes {' and '.join(f'{w}x{h}' for w, h in sizes[:2])}",
                expected="frames of one size",
                next_step="Extract them again from one video, or give them as images",
            )
        return frames

    def opened(self) -> Sample:
        """The same with its images or frames in memory. Raises as they do."""
        return replace(self, images=tuple(self.open_images()), frames=tuple(self.open_frames()))

    def check(self) -> None:
        """Raises SampleError for an empty question, and for images beside frames."""
        if self.images and self.frames:
            raise SampleError(
                f"sample {self.sample_id} has {len(self.images)} images and {len(self.frames)} frames of a video",
                expected="images or frames",
                next_step="Make two samples of it",
            )
        if not self.question.strip():
            raise SampleError(
                f"sample {self.sample_id} has an empty question",
                expected="some text",
                next_step="Fill its question in, or leave the sample out",
            )


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
    """A sample's image as `as_rgb` gives it. Raises SampleError where it is missing or broken, and as that does."""
    name = f"sample {sample_id}: " + ("its image" if isinstance(image, Image.Image) else f"image {image}")
    try:
        if isinstance(image, Image.Image):
            return as_rgb(image, name)
        with Image.open(image) as opened:
            return as_rgb(opened, name)
    except FileNotFoundError:
        seen, cause = f"{name} does not exist", None
    except BROKEN as error:
        seen, cause = f"{name} cannot be read ({error})", error
    raise SampleError(
        seen, expected="a picture that Pillow opens", next_step="Mend the file or its path, then run again"
    ) from cause


def as_rgb(image: Image.Image, name: str) -> Image.Image:
    """A picture in RGB, upright: turned as its EXIF orientation says, as it is stored where its EXIF cannot be read. 16
    bits of grey become 8, so that 65535 is white.

    name: what the error line calls it. Raises SampleError for grey of 32 bits or floats, of which nobody can tell what
    is white, and one of BROKEN where the picture is.
    """
    image.load()  # a broken picture raises here
    try:
        upright = ImageOps.exif_transpose(image)
    except BROKEN:
        upright = image
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        upright = upright.convert("I").point(lambda grey: grey / 257 + 0.5)  # Pillow would cut at 255
    elif image.mode in ("I", "F"):
        low, high = image.getextrema()
        raise SampleError(
            f"{name} has grey values from {low} to {high}, of mode {image.mode}",
            expected="8 or 16 bits",
            next_step="Save it as such",
        )
    return upright.convert("RGB")
