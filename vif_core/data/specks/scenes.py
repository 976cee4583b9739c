"""Scenes: textured, noisy pictures with objects of several shapes, colours and sizes, letters on some."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from hashlib import sha256

import numpy as np

from vif_core.data.sample import Box
from vif_core.data.specks.words import COLOUR_RGB, COLOURS, GLYPHS, HELD_OUT_PAIRS, LETTERS, SHAPES, SIZE_PX

IMAGE_PX = 96
PATCH_PX = 8
GRID = IMAGE_PX // PATCH_PX

_SOLID = ("circle", "square", "diamond", "heart")
_POINTED = ("diamond", "heart")  # these need more room for a letter
_GAP_PX = 2
_GLYPH = {letter: np.array([[int(dot) for dot in row] for row in dots.split()]) for letter, dots in GLYPHS.items()}
_PAIRS = [(s, c) for s in range(len(SHAPES)) for c in range(len(COLOURS))]
_TRAINED = [p for p in _PAIRS if (SHAPES[p[0]], COLOURS[p[1]]) not in HELD_OUT_PAIRS]
_HELD_OUT = [p for p in _PAIRS if (SHAPES[p[0]], COLOURS[p[1]]) in HELD_OUT_PAIRS]


@dataclass(frozen=True)
class Thing:
    """One object, `side_px` wide and high, its upper left corner at (x, y) pixels; `letter` is "" for none."""

    shape: str
    colour: str
    size: str
    x: int
    y: int
    side_px: int
    letter: str = ""
    letter_box: Box | None = None

    @property
    def box(self) -> Box:
        return (float(self.x), float(self.y), float(self.x + self.side_px), float(self.y + self.side_px))

    @property
    def centre(self) -> tuple[float, float]:
        """(x, y) in pixels."""
        return self.x + self.side_px / 2, self.y + self.side_px / 2

    @property
    def held_out(self) -> bool:
        return (self.shape, self.colour) in HELD_OUT_PAIRS

    @property
    def cells(self) -> tuple[int, int, int, int]:
        """First row, last row, first column, last column (from 1) of the patches it reaches into by more than 2 px."""
        x0, y0, x1, y1 = self.box
        span = [int((low + 2) // PATCH_PX) + 1 for low in (y0, x0)]
        end = [max(first, int((high - 2 - 1e-9) // PATCH_PX) + 1) for first, high in zip(span, (y1, x1), strict=True)]
        return span[0], end[0], span[1], end[1]


@dataclass(frozen=True)
class Scene:
    pixels: np.ndarray  # [IMAGE_PX, IMAGE_PX, 3] uint8
    things: tuple[Thing, ...]

    @property
    def sha(self) -> str:
        return sha256(self.pixels.tobytes()).hexdigest()


def make_scene(rng: np.random.Generator, *, held_out: bool = False, things: tuple[int, int] = (5, 10)) -> Scene:
    """A scene with no two objects of one (size, colour, shape).

    held_out: about half of the objects have a shape-colour pair that no other split shows; else none has.
    things:   fewest and most objects; fewer than the least can fit when space runs out.
    """
    canvas = _background(rng)
    placed: list[Thing] = []
    taken: set[tuple[str, str, str]] = set()
    pairs = _palette(rng)
    for size in _sizes(rng, things):
        spot = _free_spot(rng, size, placed)
        pair = _free_pair(rng, size, _HELD_OUT if held_out and rng.random() < 0.5 else pairs, taken)
        if spot is None or pair is None:
            continue
        shape, colour = pair
        taken.add((size, colour, shape))
        placed.append(_draw(rng, canvas, shape, colour, size, *spot))
    canvas += rng.standard_normal(canvas.shape, dtype=np.float32) * rng.uniform(5, 13)
    return Scene(np.clip(canvas, 0, 255).astype(np.uint8), tuple(placed))


def coverage(thing: Thing) -> np.ndarray:
    """Share of each of its pixels that the object covers, [side_px, side_px] in [0, 1]."""
    return _mask(thing.shape, thing.side_px)


def _sizes(rng: np.random.Generator, things: tuple[int, int]) -> list[str]:
    """Sizes to place, the large ones first, while there is room for them."""
    count = int(rng.integers(things[0], things[1] + 1))
    large = min(count, int(rng.integers(1, 4)))
    small = min(count - large, int(rng.integers(1, 4)))
    return ["large"] * large + ["small"] * small + ["tiny"] * (count - large - small)


def _palette(rng: np.random.Generator) -> list[tuple[int, int]]:
    """Half of the scenes use four colours, half four shapes, so that distractors share attributes with the target."""
    colours = set(rng.permutation(len(COLOURS))[:4]) if rng.random() < 0.5 else range(len(COLOURS))
    shapes = set(rng.permutation(len(SHAPES))[:4]) if rng.random() < 0.5 else range(len(SHAPES))
    return [(s, c) for s, c in _TRAINED if s in shapes and c in colours]


def _free_pair(rng, size, pairs, taken) -> tuple[str, str] | None:
    for _ in range(20):
        s, c = pairs[rng.integers(len(pairs))]
        if (size, COLOURS[c], SHAPES[s]) not in taken:
            return SHAPES[s], COLOURS[c]
    return None


def _free_spot(rng, size, placed) -> tuple[int, int, int] | None:
    low, high = SIZE_PX[size]
    for _ in range(30):
        side = int(rng.integers(low, high + 1))
        x, y = (int(v) for v in rng.integers(1, IMAGE_PX - side, size=2))
        apart = (
            x + side + _GAP_PX <= p.x
            or p.x + p.side_px + _GAP_PX <= x
            or y + side + _GAP_PX <= p.y
            or p.y + p.side_px + _GAP_PX <= y
            for p in placed
        )
        if all(apart):
            return x, y, side
    return None


def _draw(rng, canvas, shape, colour, size, x, y, side) -> Thing:
    mask = _mask(shape, side)[:, :, None]
    ink = np.array(COLOUR_RGB[colour], np.float32) + rng.normal(0, 10, 3).astype(np.float32)
    area = canvas[y : y + side, x : x + side]
    area[:] = area * (1 - mask) + ink * mask
    letter, letter_box = "", None
    pointed = shape in _POINTED
    if shape in _SOLID and side >= (15 if pointed else 12) and rng.random() < 0.85:
        letter = LETTERS[rng.integers(len(LETTERS))]
        glyph = _GLYPH[letter]
        if side >= (26 if pointed else 21) and rng.random() < 0.5:
            glyph = glyph.repeat(2, 0).repeat(2, 1)
        height, width = glyph.shape
        gx, gy = x + (side - width) // 2, y + (side - height) // 2
        bright = float(np.dot(COLOUR_RGB[colour], (0.3, 0.59, 0.11))) > 110
        area = canvas[gy : gy + height, gx : gx + width]
        area[:] = np.where(glyph[:, :, None] > 0, 20.0 if bright else 245.0, area)
        letter_box = (float(gx), float(gy), float(gx + width), float(gy + height))
    return Thing(shape, colour, size, x, y, side, letter, letter_box)


def _background(rng: np.random.Generator) -> np.ndarray:
    """Smooth random texture: coarse noise on a small lattice, interpolated, over a grey level."""
    cells = int(rng.integers(4, 10))
    noise = rng.normal(0, 1, (cells, cells, 3)).astype(np.float32) * rng.uniform(8, 24)
    noise = 0.4 * noise + 0.9 * noise.mean(2, keepdims=True)
    at = np.linspace(0, cells - 1.001, IMAGE_PX)
    low = at.astype(int)
    part = (at - low).astype(np.float32)
    rows = noise[low] * (1 - part)[:, None, None] + noise[low + 1] * part[:, None, None]
    field = rows[:, low] * (1 - part)[None, :, None] + rows[:, low + 1] * part[None, :, None]
    return field + (rng.uniform(70, 140) + rng.normal(0, 6, 3)).astype(np.float32)


@cache
def _mask(shape: str, side: int, oversample: int = 8) -> np.ndarray:
    at = (np.arange(side * oversample) + 0.5) / (side * oversample) * 2 - 1
    x, y = np.meshgrid(at, at)
    radius = np.hypot(x, y)
    if shape == "circle":
        inside = radius <= 1
    elif shape == "square":
        inside = (abs(x) <= 0.92) & (abs(y) <= 0.92)
    elif shape == "triangle":
        inside = abs(x) <= (y + 1) / 2
    elif shape == "cross":
        inside = (abs(x) <= 0.32) | (abs(y) <= 0.32)
    elif shape == "diamond":
        inside = abs(x) + abs(y) <= 1
    elif shape == "ring":
        inside = (radius <= 1) & (radius >= 0.55)
    elif shape == "heart":
        u, v = 1.15 * x, 0.15 - 1.15 * y
        inside = (u**2 + v**2 - 0.75) ** 3 <= 1.2 * u**2 * v**3
    else:  # star: five tips; inside the edge from the tip nearest in angle to the inner corner beside it
        step, inner = np.pi / 5, 0.42
        angle = np.abs((np.arctan2(x, -y) + step) % (2 * step) - step)
        px, py = radius * np.cos(angle), radius * np.sin(angle)
        ix, iy = inner * np.cos(step), inner * np.sin(step)
        inside = (ix - 1) * py - iy * (px - 1) >= 0
    return inside.astype(np.float32).reshape(side, oversample, side, oversample).mean((1, 3))
