"""What a model answers, without reading its attention."""

from __future__ import annotations

from collections.abc import Sequence

from vif_core.data.sample import Sample
from vif_core.vlm.model import VLM


def answer_all(vlm: VLM, samples: Sequence[Sample], *, batch_size: int = 32, max_new_tokens: int = 96) -> list[str]:
    """Greedy responses as text, in the order of the samples, which are answered in batches of like kind."""
    order = sorted(range(len(samples)), key=lambda i: (samples[i].kind, len(samples[i].question)))
    answers = [""] * len(samples)
    for start in range(0, len(order), batch_size):
        part = order[start : start + batch_size]
        for i, ids in zip(part, vlm.generate([samples[i] for i in part], max_new_tokens), strict=True):
            answers[i] = vlm.decode(ids)
    return answers
