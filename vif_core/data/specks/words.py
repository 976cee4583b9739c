"""The closed vocabulary of specks: what can be drawn, asked and answered."""

from __future__ import annotations

SIZE_PX = {"tiny": (4, 6), "small": (10, 13), "large": (19, 27)}
SIZES = tuple(SIZE_PX)
COLOUR_RGB = {
    "red": (215, 40, 40),
    "green": (40, 160, 60),
    "blue": (50, 80, 225),
    "yellow": (235, 220, 50),
    "purple": (145, 50, 185),
    "orange": (240, 135, 30),
    "cyan": (60, 210, 220),
    "white": (240, 240, 240),
}
COLOURS = tuple(COLOUR_RGB)
SHAPES = ("circle", "square", "triangle", "star", "cross", "diamond", "ring", "heart")
GLYPHS = {  # 5 x 7 dots, rows from the top
    "A": "01110 10001 10001 11111 10001 10001 10001",
    "B": "11110 10001 11110 10001 10001 10001 11110",
    "C": "01111 10000 10000 10000 10000 10000 01111",
    "E": "11111 10000 10000 11110 10000 10000 11111",
    "H": "10001 10001 10001 11111 10001 10001 10001",
    "K": "10001 10010 10100 11000 10100 10010 10001",
    "L": "10000 10000 10000 10000 10000 10000 11111",
    "R": "11110 10001 10001 11110 10100 10010 10001",
    "T": "11111 00100 00100 00100 00100 00100 00100",
    "X": "10001 10001 01010 00100 01010 10001 10001",
}
LETTERS = tuple(GLYPHS)
COUNTS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
DIRECTIONS = ("left", "right", "above", "below")
REGIONS = ("left", "middle", "right")
ROWS = tuple(f"row-{i + 1}" for i in range(12))
COLUMNS = tuple(f"column-{i + 1}" for i in range(12))

HELD_OUT_PAIRS = frozenset((shape, COLOURS[(i + 3) % len(COLOURS)]) for i, shape in enumerate(SHAPES))
"""Shape-colour pairs that appear in the split `heldout` alone; each shape and each colour appears in one of them."""

SYSTEM = "A chat between a curious user and a careful assistant . The assistant looks closely at the image ."

SPECIAL_TOKENS = ("<pad>", "<s>", "</s>", "<unk>", "<image>")
_TEXT = """
USER: ASSISTANT: , . ? nothing
A chat between a curious user and careful assistant The looks closely at the image
what colour shape size is the which letter on there where how many objects object are of an to from
tell me say name it can you see find look answer with please in picture relative
describe scene yes no
"""


def vocabulary() -> list[str]:
    """Every token, ids in order: the special ones first."""
    words = [word for line in _TEXT.replace("\n", " ").split(" ") for word in line.split()]
    pools = (words, ["\n"], DIRECTIONS, REGIONS, COUNTS, ROWS, COLUMNS, SIZES, COLOURS, SHAPES, LETTERS)
    return list(dict.fromkeys([*SPECIAL_TOKENS, *(word for pool in pools for word in pool)]))


def indefinite(phrase: str) -> str:
    """
    >>> indefinite("orange star"), indefinite("tiny orange star")
    ('an orange star', 'a tiny orange star')
    """
    return f"{'an' if phrase.startswith(('orange', 'object')) else 'a'} {phrase}"
