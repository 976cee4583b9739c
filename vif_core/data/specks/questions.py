"""Questions about a scene, of seven kinds, each with its answer and the things it is about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vif_core.data.sample import Box
from vif_core.data.specks.scenes import IMAGE_PX, PATCH_PX, Scene, Thing
from vif_core.data.specks.words import COLOURS, COUNTS, DIRECTIONS, REGIONS, SHAPES, SIZES, indefinite


@dataclass(frozen=True)
class Question:
    """One question of a scene.

    boxes: of what it is about.      size: of the target, the smallest one of several; "" for the whole picture.
    reasons: what the answer follows from, in words; "" where it is seen at once.
    """

    kind: str
    text: str
    answer: str
    boxes: tuple[Box, ...]
    size: str
    reasons: str = ""


def ask(rng: np.random.Generator, scene: Scene, kind: str, *, held_out: bool = False) -> Question | None:
    """One question of this kind, or None where the scene offers none on this draw.

    held_out: only about targets whose shape-colour pair is held out.
    """
    targets = [t for t in scene.things if t.held_out] if held_out else list(scene.things)
    return KINDS[kind](rng, scene.things, targets)


def names(thing: Thing, attributes: str) -> str:
    """
    >>> names(Thing("star", "red", "tiny", 0, 0, 5), "zc"), names(Thing("star", "red", "tiny", 0, 0, 5), "cs")
    ('tiny red object', 'red star')
    """
    size = thing.size if "z" in attributes else ""
    colour = thing.colour if "c" in attributes else ""
    return " ".join(filter(None, (size, colour, thing.shape if "s" in attributes else "object")))


def description(things: Sequence[Thing]) -> str:
    """The reference answer of `describe`: how many objects there are, then what lies where, top to bottom."""
    sentences = [f"there are {COUNTS[len(things)]} objects ."]
    for region in REGIONS:
        inside = [t for t in sorted(things, key=lambda t: t.centre[1]) if _region(t) == region]
        listed = " , ".join(indefinite(names(t, "zcs")) for t in inside) or "nothing"
        sentences.append(f"{_place(region)} there is {listed} .")
    return " ".join(sentences)


def _place(region: str) -> str:
    return f"in the {region}" if region == "middle" else f"on the {region}"


def written(rng: np.random.Generator, scene: Scene) -> str:
    """The scene in words: what a language model learns from before it has seen a picture."""
    parts = []
    for thing in rng.permutation(np.array(scene.things, dtype=object)):
        letter = f" with letter {thing.letter}" if thing.letter else ""
        parts.append(f"{indefinite(names(thing, 'zcs'))}{letter} , {cells_phrase(thing)} .")
    return "scene " + " ".join(parts)


def cells_phrase(thing: Thing) -> str:
    """
    >>> cells_phrase(Thing("star", "red", "large", 8, 16, 24))
    'row-3 column-2 to row-5 column-4'
    """
    first_row, last_row, first_col, last_col = thing.cells
    return f"row-{first_row} column-{first_col} to row-{last_row} column-{last_col}"


def _region(thing: Thing) -> str:
    return REGIONS[min(2, int(thing.centre[0] * 3 / IMAGE_PX))]


def _one(rng: np.random.Generator, options: Sequence):
    return options[int(rng.integers(len(options)))]


def _target(rng, targets: Sequence[Thing]) -> Thing | None:
    """Sizes first, so that each size class is asked about equally often."""
    if not targets:
        return None
    size = _one(rng, sorted({t.size for t in targets}))
    return _one(rng, [t for t in targets if t.size == size])


def _refer(rng, things: Sequence[Thing], target: Thing | None, choices: Sequence[str]) -> str | None:
    """A phrase that fits the target alone, from a random one of the choices that do; None without one."""
    if target is None:
        return None
    for i in rng.permutation(len(choices)):
        phrase = names(target, choices[i])
        if sum(names(t, choices[i]) == phrase for t in things) == 1:
            return phrase
    return None


def _attribute(rng, things, targets) -> Question | None:
    target = _target(rng, targets)
    asked, choices = _one(
        rng, [("colour", ("s", "zs", "zs")), ("colour", ("zs",)), ("shape", ("c", "zc", "zc")), ("size", ("cs",))]
    )
    phrase = _refer(rng, things, target, choices)
    if target is None or phrase is None:
        return None
    text = _one(rng, ("what {a} is the {p} ?", "tell me the {a} of the {p} .", "can you say what {a} the {p} is ?"))
    return Question("attribute", text.format(a=asked, p=phrase), getattr(target, asked), (target.box,), target.size)


def _relation(rng, things, targets) -> Question | None:
    """Where one named object lies from another: the direction (4 answers), or yes or no to a direction."""
    direction = _one(rng, DIRECTIONS)
    first = _target(rng, targets)
    others = [t for t in things if first and t is not first and _direction(first, t) == direction]
    if first is None or not others:
        return None
    second = _target(rng, others) or first
    phrases = [_refer(rng, things, t, ("cs", "cs", "zcs")) for t in (first, second)]
    if None in phrases:
        return None
    boxes, size = (first.box, second.box), min((first.size, second.size), key=SIZES.index)
    a, b = phrases
    reasons = f"{_place_of(first)} and {_place_of(second)}"
    if rng.random() < 0.7:
        text = _one(rng, ("where is the {a} relative to the {b} ?", "look from the {b} , where is the {a} ?"))
        return Question("relation", text.format(a=a, b=b), direction, boxes, size, reasons)
    opposite = DIRECTIONS[DIRECTIONS.index(direction) ^ 1]
    claimed = _one(rng, (direction, opposite))
    side = f"{claimed} of" if claimed in ("left", "right") else claimed
    holds = "yes" if claimed == direction else "no"
    return Question("relation", f"is the {a} {side} the {b} ?", holds, boxes, size, reasons)


def _place_of(thing: Thing) -> str:
    """The patch that holds its centre."""
    x, y = thing.centre
    return f"row-{int(y // PATCH_PX) + 1} column-{int(x // PATCH_PX) + 1}"


def _direction(first: Thing, second: Thing) -> str | None:
    """Direction of `first` seen from `second`; None where no axis clearly dominates (12 px, 1.5 times the other)."""
    dx, dy = first.centre[0] - second.centre[0], first.centre[1] - second.centre[1]
    if max(abs(dx), abs(dy)) < max(12, 1.5 * min(abs(dx), abs(dy))):
        return None
    if abs(dx) > abs(dy):
        return "left" if dx < 0 else "right"
    return "above" if dy < 0 else "below"


_COUNT_DRAWS = (0.16, 0.19, 0.2, 0.45)  # scenes with three alike are rare: with these, answers come out even


def _count(rng, things, targets) -> Question | None:
    """Zero to three objects of one colour or one shape, each number equally often."""
    wanted = int(rng.choice(4, p=_COUNT_DRAWS))
    attribute, values = _one(rng, [("colour", COLOURS), ("shape", SHAPES)])
    fitting = [v for v in values if sum(getattr(t, attribute) == v for t in things) == wanted]
    if not fitting:
        return None
    value = _one(rng, fitting)
    counted = [t for t in things if getattr(t, attribute) == value]
    phrase = f"{value} objects" if attribute == "colour" else f"objects of shape {value}"
    text = _one(rng, ("how many {p} are there ?", "look at the picture and tell me how many {p} you see ."))
    sizes = {t.size for t in counted}
    size = min(sizes, key=SIZES.index) if sizes else ""
    return Question("count", text.format(p=phrase), COUNTS[wanted], tuple(t.box for t in counted), size)


def _text(rng, things, targets) -> Question | None:
    lettered = [t for t in targets if t.letter]
    target = _one(rng, lettered) if lettered else None
    phrase = _refer(rng, things, target, ("cs", "zc", "zs", "s", "c"))
    if target is None or phrase is None:
        return None
    text = _one(rng, ("which letter is on the {p} ?", "what letter can you see on the {p} ?"))
    boxes = (target.letter_box,) if target.letter_box else ()
    return Question("text", text.format(p=phrase), target.letter, boxes, target.size)


def _existence(rng, things, targets) -> Question | None:
    """Half yes, half no; a no differs from a thing that is there in one attribute."""
    target = _target(rng, targets)
    if target is None:
        return None
    attributes = _one(rng, ("cs", "zcs", "zcs", "zc", "zs"))
    phrase = names(target, attributes)
    if rng.random() < 0.47:  # a no is not always to be had
        return _exists(rng, phrase, "yes", [t for t in things if names(t, attributes) == phrase])
    for _ in range(8):
        field, values = _one(rng, [_FIELDS[a] for a in attributes])
        other = replace(target, **{field: _one(rng, values)})
        phrase = names(other, attributes)
        if other.held_out == target.held_out and all(names(t, attributes) != phrase for t in things):
            return _exists(rng, phrase, "no", [], other.size if "z" in attributes else target.size)
    return None


_FIELDS = {"z": ("size", SIZES), "c": ("colour", COLOURS), "s": ("shape", SHAPES)}


def _exists(rng, phrase, answer, there, size="") -> Question:
    text = _one(rng, ("is there {p} ?", "can you find {p} in the picture ?")).format(p=indefinite(phrase))
    size = size or min((t.size for t in there), key=SIZES.index)
    return Question("existence", text, answer, tuple(t.box for t in there), size)


def _grounding(rng, things, targets) -> Question | None:
    target = _target(rng, targets)
    phrase = _refer(rng, things, target, ("zcs", "cs", "zc", "zs"))
    if target is None or phrase is None:
        return None
    text = _one(rng, ("where is the {p} ?", "find the {p} , please ."))
    return Question("grounding", text.format(p=phrase), cells_phrase(target), (target.box,), target.size)


def _describe(rng, things, targets) -> Question | None:
    text = _one(rng, ("describe the picture .", "please describe what you see in the image ."))
    return Question("describe", text, description(things), tuple(t.box for t in things), "")


KINDS: dict[str, Callable[..., Question | None]] = {
    "attribute": _attribute,
    "relation": _relation,
    "count": _count,
    "text": _text,
    "existence": _existence,
    "grounding": _grounding,
    "describe": _describe,
}
