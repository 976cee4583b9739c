"""LLaVA conversation files: rows of image and conversations.

An analysis asks the first question of each row; training reads all of its exchanges.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from os.path import exists  # False, where Path's raises, for names that the system does not take
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from vif_core.data.conversation import Conversation, Exchange, ListedConversations, Part
from vif_core.data.listed import Listed, Row, fingerprint, read_names, unique_ids
from vif_core.data.sample import Sample
from vif_core.errors import SampleError, UsageError

PLACEHOLDER = "<image>"
"""Stands for an image in the text of a conversation, whatever the model's own placeholder is."""

_TURNS = '[{"from": "human", "value": "<image> ..."}, {"from": "gpt", "value": "..."}]'
EXAMPLE = f'{{"image": "kitchen.jpg", "conversations": {_TURNS}}}'


class Turn(NamedTuple):
    """The first exchange of a conversation."""

    system: str
    question: str
    answer: str | None


def first_turn(conversation: Any, where: str) -> Turn:
    """First question, and the answer that follows it, without image placeholders; the question is "" if there is none.

    conversation: [{"from": "human", "value": "..."}, {"from": "gpt", "value": "..."}, ...] or the same with the keys
    "role" ("user", "assistant") and "content"; what one of them says in several entries on end is one turn. An answer
    of white space alone is none. Raises UsageError for another form.
    """
    system, exchanges = _exchanges(conversation, where)
    spoken = ((question.replace(PLACEHOLDER, " ").strip(), answer) for question, answer in exchanges)
    return Turn(system, *next((exchange for exchange in spoken if exchange[0]), ("", None)))


def read_conversation(
    conversation: Any, images: tuple[Image.Image | Path, ...], sample_id: str, where: str
) -> Conversation:
    """All exchanges of a conversation in the form that `first_turn` reads.

    Placeholders between words stay in their place; those at either end of a question, and images without any, come
    before its words. Placeholders of a row without images are dropped. What an assistant says before the first
    question, and each question without an answer, is left out. Raises UsageError for another form, SampleError where
    placeholders and images differ in number or nothing is answered.
    """
    system, told = _exchanges(conversation, where)
    exchanges = [
        Exchange(_parts(question) if images else (question.replace(PLACEHOLDER, " ").strip(),), answer)
        for question, answer in told
        if answer
    ]
    if not exchanges:
        raise SampleError(f"{where} has no answered question", expected="a question and its answer")
    shown = sum(exchange.images for exchange in exchanges)
    if shown == 0:
        first = exchanges[0]
        exchanges[0] = Exchange((*[None] * len(images), *first.question), first.answer)
    elif shown != len(images):
        raise SampleError(f"{where} has {len(images)} images and {shown} placeholders", expected="equal numbers")
    return Conversation(sample_id, images, tuple(exchanges), system)


def open_conversations(path: Path, rows: list[Row]) -> ListedConversations:
    """Conversations of a LLaVA file, text-only rows included; rows that cannot be used are counted in `skipped`.

    Image paths count from the file's folder, or from `images` in it. Raises UsageError if no row can be used.
    """
    ids = unique_ids(row.values.get("id") for row in rows)
    found, refused = [], []
    for row, sample_id in zip(rows, ids, strict=True):
        try:
            images = _images(path, row)
            found.append(read_conversation(row.values.get("conversations"), images, sample_id, row.where))
        except (SampleError, UsageError) as error:
            refused.append(str(error))
    if not found:
        raise UsageError(f"none of the {len(rows)} rows of {path} can be used; the first: {refused[0]}")
    skipped = f"{len(refused)} rows, the first: {refused[0]}" if refused else ""
    return ListedConversations(path.stem, found, skipped)


def open_llava(path: Path, rows: list[Row]) -> Listed:
    """Samples of a LLaVA file; rows without an image are left out and counted in `skipped`.

    Image paths count from the file's folder, or from `images` in it. Raises UsageError if no row has an image, and for
    a row whose image or conversation is malformed.
    """
    ids = unique_ids(row.values.get("id") for row in rows)
    samples = []
    for row, sample_id in zip(rows, ids, strict=True):
        images = _images(path, row)
        if images:
            turn = first_turn(row.values.get("conversations"), row.where)
            samples.append(Sample(sample_id, images, turn.question, turn.answer, system=turn.system))
    if not samples:
        raise UsageError(f"none of the {len(rows)} rows of {path} has an image", expected='rows with the key "image"')
    text_only = len(rows) - len(samples)
    return Listed(path.stem, fingerprint(path), samples, f"{text_only} text-only rows" if text_only else "")


_SPEAKERS = {"system": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}


def _exchanges(conversation: Any, where: str) -> tuple[str, list[tuple[str, str | None]]]:
    """The last system line, and each question with the answer that follows it; None where nothing is said."""
    entries = list(_spoken(conversation, where))
    systems = [text.replace(PLACEHOLDER, " ").strip() for speaker, text in entries if speaker == "system"]
    exchanges: list[tuple[str, str | None]] = []
    for speaker, turn in groupby((entry for entry in entries if entry[0] != "system"), key=itemgetter(0)):
        text = "\n".join(words for _, words in turn)
        if speaker == "user":
            exchanges.append((text, None))
        elif exchanges:
            exchanges[-1] = (exchanges[-1][0], text.replace(PLACEHOLDER, " ").strip() or None)
    return systems[-1] if systems else "", exchanges


def _spoken(conversation: Any, where: str) -> Iterator[tuple[str, str]]:
    """Speaker ("system", "user", "assistant") and words of each entry; other speakers are left out."""
    try:
        for entry in conversation:
            speaker, text = entry.get("from", entry.get("role")), entry.get("value", entry.get("content"))
            if not isinstance(text, str):
                raise TypeError(f"{text!r} is no text")
            if speaker in _SPEAKERS:
                yield _SPEAKERS[speaker], text
    except (AttributeError, TypeError) as error:
        raise UsageError(f"{where} has no readable conversation", expected=_TURNS) from error


def _parts(question: str) -> tuple[Part, ...]:
    """Words and images of a question in order.

    >>> _parts("<image>\\nWhich?"), _parts("Which?<image>"), _parts("Is <image> like <image>?")
    ((None, 'Which?'), (None, 'Which?'), ('Is ', None, ' like ', None, '?'))
    """
    words = question.split(PLACEHOLDER)
    spoken = [text for text in words if text.strip()]
    if len(spoken) < 2:
        return (*[None] * (len(words) - 1), "".join(spoken).strip())
    parts = [part for text in words for part in (text, None)][:-1]
    while parts[0] is not None and not parts[0].strip():
        parts.pop(0)
    while parts[-1] is not None and not parts[-1].strip():
        parts.pop()
    return tuple(parts)


def _images(path: Path, row: Row) -> tuple[Path, ...]:
    names = row.values.get("image") or row.values.get("images")
    return tuple(_find(path.parent, name) for name in read_names(names, row, "image", EXAMPLE)) if names else ()


def _find(folder: Path, name: str) -> Path:
    within = folder / "images" / name
    return within if not exists(folder / name) and exists(within) else folder / name
