"""Is a response right? Exact and relaxed match, stated facts, and one rule a kind of question."""

from __future__ import annotations

import re
from collections import Counter
from unicodedata import category

from vif_core.data.sample import Sample
from vifscope.scoring.cells import read_cells
from vifscope.scoring.corners import hyphens, read_corners, sole_corners
from vifscope.scoring.iou import iou

RIGHT_FROM = 0.5
"""A place counts as right from this IoU on, a description from this F1 on."""

_ARTICLES = ("a", "an", "the")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}\b)")
_LEADING_POINT = re.compile(r"(?<![\w.])\.(?=\d)")
_COMMA = re.compile(r"(?<!\d),|,(?!\d)")  # but within a number
_CLAUSE_END = re.compile(r"(?<!\d)[,.]|[,.](?!\d)|[;\n]|\band\b")


def exact_match(response: str, answer: str) -> bool:
    """Same text but for white space at the ends."""
    return response.strip() == answer.strip()


def relaxed_match(response: str, answer: str) -> bool:
    """Same words but for case, punctuation and articles.

    >>> relaxed_match("A red ball.", "the red ball")
    True
    """
    return normalise(response) == normalise(answer)


def normalise(text: str) -> str:
    """Words of a text in lower case, without punctuation and articles, one space between them.

    A number keeps its sign (a hyphen or U+2212) and its point, has a 0 before it, and loses the commas between its
    thousands. An article at the end is a name ("plan A"), and a text of punctuation alone is that.

    >>> normalise("The temperature: -3.5, or 1,000?")
    'temperature -3.5 or 1000'
    """
    lower = _plain_numbers(text.lower())
    words = "".join(character if _is_said(lower, i) else " " for i, character in enumerate(lower)).split()
    kept = [word for word in words[:-1] if word not in _ARTICLES] + words[-1:]
    return " ".join(kept or lower.split())


def _is_said(text: str, i: int) -> bool:
    """Whether the character at i is a letter (with its marks), a digit, or part of a number."""
    before, character, after = text[i - 1 : i], text[i], text[i + 1 : i + 2]
    if character in "-." and after.isdigit():
        return before.isdigit() if character == "." else not (before.isalnum() or before == "-")
    return character.isalnum() or category(character).startswith("M")


def conclusion(response: str, answer: str) -> str:
    """What a response that gives its reasons first concludes: what follows its last comma, or as many parts between
    commas as the answer has. A comma within a number parts nothing.

    >>> conclusion("row-3 column-2 and row-9 column-4 , above", "above")
    'above'
    >>> conclusion("it flew north, to Lyon, France", "Paris, France")
    'to Lyon, France'
    """
    return ",".join(_COMMA.split(response)[-len(_COMMA.split(answer)) :]).strip()


def fact_f1(response: str, answer: str) -> float:
    """F1 in [0, 1] of the facts that a response states against those of the answer; a fact is one clause.

    Clauses end at commas and full stops, but within a number, at semicolons, line ends and "and"; a fact stated twice
    counts twice.
    """
    stated, wanted = _facts(response), _facts(answer)
    shared = (stated & wanted).total()
    return 2 * shared / (stated.total() + wanted.total()) if shared else 0.0


def score_response(sample: Sample, response: str) -> tuple[bool | None, float | None]:
    """Whether a response is right, and its score in [0, 1]; (None, None) where the sample has no answer.

    grounding: IoU of the places named, if the answer names one (`place_iou`); describe: F1 of stated facts; relation:
    relaxed match of what is concluded; others: relaxed match.
    """
    if sample.answer is None:
        return None, None
    score = None
    if sample.kind == "grounding":
        score = place_iou(response, sample.answer)
    elif sample.kind == "relation":
        score = float(relaxed_match(conclusion(response, sample.answer), sample.answer))
    elif sample.kind == "describe":
        score = fact_f1(response, sample.answer)
    if score is None:
        score = float(relaxed_match(response, sample.answer))
    return score >= RIGHT_FROM, score


def place_iou(response: str, answer: str) -> float | None:
    """IoU in [0, 1] of the place that a response names with the answer's; None where the answer names none.

    The answer says how places are named: in words as cells ("row-3 column-2"), else, where it gives exactly four
    numbers, as x0, y0, x1, y1. The response's first place so named counts, in the answer's unit; without one it is 0.
    """
    wanted, read = read_cells(answer), read_cells
    if wanted is None:
        wanted, read = sole_corners(answer), read_corners
    if wanted is None:
        return None
    named = read(response)
    return iou(named, wanted) if named else 0.0


def _facts(text: str) -> Counter[str]:
    clauses = (normalise(clause) for clause in _CLAUSE_END.split(_plain_numbers(text.lower())))
    return Counter(clause for clause in clauses if clause)


def _plain_numbers(text: str) -> str:
    """Numbers as Python writes them: a hyphen for a minus, a 0 before a leading point, no commas between thousands."""
    return _LEADING_POINT.sub("0.", _THOUSANDS.sub("", hyphens(text)))
