"""LLaVA conversation files: rows of image and conversations, of which the first question and answer are used."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from vif_core.data.listed import Listed, Row, fingerprint, unique_ids
from vif_core.data.sample import Sample
from vif_core.errors import UsageError


class Turn(NamedTuple):
    """The first exchange of a conversation."""

    system: str
    question: str
    answer: str | None


def first_turn(conversation: Any, where: str) -> Turn:
    """First question, and the answer that follows it, without image placeholders; the question is "" if there is none.

    conversation: [{"from": "human", "value": "..."}, {"from": "gpt", "value": "..."}, ...] or the same with the keys
    "role" ("user", "assistant") and "content". Raises UsageError if it is anything else.
    """
    system, question = "", ""
    try:
        for turn in conversation:
            speaker, text = turn.get("from", turn.get("role")), turn.get("value", turn.get("content"))
            text = text.replace("<image>", " ").strip()
            if speaker == "system":
                system = text
            elif speaker in ("human", "user") and not question:
                question = text
            elif speaker in ("gpt", "assistant") and question:
                return Turn(system, question, text)
    except (AttributeError, TypeError) as error:
        raise UsageError(
            f"{where} has no readable conversation",
            expected='[{"from": "human", "value": "<image> ..."}, {"from": "gpt", "value": "..."}]',
        ) from error
    return Turn(system, question, None)


def open_llava(path: Path, rows: list[Row]) -> Listed:
    """Samples of a LLaVA file; rows without an image are left out and counted in `skipped`.

    Image paths count from the file's folder, or from `images` in it. Raises UsageError if no row has an image.
    """
    ids = unique_ids(row.values.get("id") for row in rows)
    samples = []
    for row, sample_id in zip(rows, ids, strict=True):
        names = row.values.get("image") or []
        if names:
            turn = first_turn(row.values["conversations"], row.where)
            images = tuple(_find(path.parent, name) for name in ([names] if isinstance(names, str) else names))
            samples.append(Sample(sample_id, images, turn.question, turn.answer, system=turn.system))
    if not samples:
        raise UsageError(f"none of the {len(rows)} rows of {path} has an image", expected='rows with the key "image"')
    text_only = len(rows) - len(samples)
    return Listed(path.stem, fingerprint(path), samples, f"{text_only} text-only rows" if text_only else "")


def _find(folder: Path, name: str) -> Path:
    within = folder / "images" / name
    return within if not (folder / name).exists() and within.exists() else folder / name
