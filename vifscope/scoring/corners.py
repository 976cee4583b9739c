"""Places in numbers, as boxes: "[10, 20, 110, 220]", "(10, 20), (110, 220)", {"bbox_2d": [10, 20, 110, 220]}."""

from __future__ import annotations

import re

from vif_core.data.sample import Box

_NUMBER = r"(?<![\w.])-?(?:\d+(?:\.\d*)?|\.\d+)(?!\w|\.\d)"
_TO_X = r"[^\w.:-]+(?:x\w*[^\w.-]+)?"
_TO_Y = r"[^\w.:([{<-]+(?:y\w*[^\w.-]+)?"  # a bracket opens before an x
_FOUR = re.compile(f"({_NUMBER}){_TO_Y}({_NUMBER}){_TO_X}({_NUMBER}){_TO_Y}({_NUMBER})", re.IGNORECASE)


def read_corners(text: str) -> Box | None:
    """The first four numbers of a text that stand together, as x0, y0, x1, y1 in the text's own unit; None without.

    Between them are brackets, commas, other marks and names of the axes in their order (ymin, x1, ...), and no words.

    >>> read_corners("Dog 2: x0=1.5, y0=2, x1=11, y1=22") == (1.5, 2, 11, 22)
    True
    """
    found = _FOUR.search(hyphens(text))
    if found is None:
        return None
    x0, y0, x1, y1 = map(float, found.groups())
    return x0, y0, x1, y1


def sole_corners(text: str) -> Box | None:
    """`read_corners` of a text that has no other number; None too where that box has no area.

    >>> sole_corners("[1, 2, 11, 22]"), sole_corners("[1, 2, 11, 22], score 0.9")
    ((1.0, 2.0, 11.0, 22.0), None)
    """
    box = read_corners(text) if len(re.findall(_NUMBER, hyphens(text))) == 4 else None
    return box if box and box[0] < box[2] and box[1] < box[3] else None


def hyphens(text: str) -> str:
    """The text with a hyphen for each minus (U+2212), as numbers are read."""
    return text.replace("\N{MINUS SIGN}", "-")
