"""Is a response right? Exact and relaxed match, stated facts, and one rule a kind of question."""

from __future__ import annotations

import re
from collections import Counter
from unicodedata import category

from vif_core.data.sample import Sample
from vifscope.scoring.cells import read_cells
from vifscope.scoring.iou import iou

RIGHT_FROM = 0.5
"""A place counts as right from this IoU on, a description from this F1 on."""

_ARTICLES = ("a", "an", "the")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}\b)")
_LEADING_POINT = re.compile(r"(?<![\w.])\.(?=\d)")
_CLAUSE_END = re.compile(r"[,.;\n]|\band\b")


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

    A number keeps its sign and its point, has a 0 before it, and loses the commas between its thousands. An article at
    the end is a name ("plan A"), and a text of punctuation alone is that.

    >>> normalise("The temperature: -3.5, or 1,000?")
    'temperature -3.5 or 1000'
    """
    lower = _LEADING_POINT.sub("0.", _THOUSANDS.sub("", text.lower()))
    words = "".join(character if _is_said(lower, i) else " " for i, character in enumerate(lower)).split()
    kept = [word for word in words[:-1] if word not in _ARTICLES] + words[-1:]
    return " ".join(kept or lower.split())


def _is_said(text: str, i: int) -> bool:
    """Whether the character at i is a letter (with its marks), a digit, or part of a number."""
    before, character, after = text[i - 1 : i], text[i], text[i + 1 : i + 2]
    if character in "-." and after.isdigit():
        return before.isdigit() if character == "." else not (before.isalnum() or before == "-")
    return character.isalnum() or category(character).startswith("M")


def conclusion(text: str) -> str:
    """What a response that gives its reasons first concludes: what follows its last comma.

    >>> conclusion("row-3 column-2 and row-9 column-4 , above")
    'above'
    """
    return text.rpartition(",")[2].strip()


def fact_f1(response: str, answer: str) -> float:
    """F1 in [0, 1] of the facts that a response states against those of the answer; a fact is one clause.

    Clauses end at commas, full stops, semicolons, line ends and "and"; a fact stated twice counts twice.
    """
    stated, wanted = _facts(response), _facts(answer)
    shared = (stated & wanted).total()
    return 2 * shared / (stated.total() + wanted.total()) if shared else 0.0


def score_response(sample: Sample, response: str) -> tuple[bool | None, float | None]:
    """Whether a response is right, and its score in [0, 1]; (None, None) where the sample has no answer.

    grounding: IoU of the places named, if the answer names one; describe: F1 of stated facts; relation: relaxed match
    of what is concluded; others: relaxed match.
    """
    if sample.answer is None:
        return None, None
    wanted = read_cells(sample.answer) if sample.kind == "grounding" else None
    if wanted is not None:
        named = read_cells(response)
        score = iou(named, wanted) if named else 0.0
    elif sample.kind == "relation":
        score = float(relaxed_match(conclusion(response), conclusion(sample.answer)))
    elif sample.kind == "describe":
        score = fact_f1(response, sample.answer)
    else:
        score = float(relaxed_match(response, sample.answer))
    return score >= RIGHT_FROM, score


def _facts(text: str) -> Counter[str]:
    clauses = (normalise(clause) for clause in _CLAUSE_END.split(text.lower()))
    return Counter(clause for clause in clauses if clause)
