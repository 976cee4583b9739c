"""What a model answers, without reading its attention."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vif_core.data.sample import Sample
from vif_core.vlm.model import VLM


def answer_all(vlm: VLM, samples: Sequence[Sample], *, batch_size: int = 32, max_new_tokens: int = 96) -> list[str]:
    """Greedy responses as text, in the order of the samples, which are answered in batches of like kind."""
    answers = [""] * len(samples)
    for batch in like_batches(samples, batch_size):
        for i, text in zip(batch, answer(vlm, [samples[i] for i in batch], max_new_tokens), strict=True):
            answers[i] = text
    return answers


def answer(vlm: VLM, samples: Sequence[Sample], max_new_tokens: int) -> list[str]:
    """Greedy responses of one batch as text. Raises whatever the model raises for it."""
    return [vlm.decode(ids) for ids in vlm.generate(samples, max_new_tokens)]


def like_batches(samples: Sequence[Sample], batch_size: int) -> list[list[int]]:
    """Places of the samples in batches whose responses end together and whose prompts are about as long."""
    order = sorted(range(len(samples)), key=lambda i: _likeness(samples[i]))
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def _likeness(sample: Sample) -> tuple[int, str, int, int]:
    """Frames of a video; kind, which foretells the response's length; area of the pictures that are open; length of the
    question."""
    area = sum(picture.width * picture.height for picture in sample.pictures if not isinstance(picture, Path))
    return len(sample.frames), sample.kind, area, len(sample.question)
