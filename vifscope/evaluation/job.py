"""Samples -> responses -> verdicts, a line each, resumed where it stopped."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from vif_core.data.open import open_source
from vif_core.data.sample import Sample, Source, sample_order
from vif_core.errors import UsageError, VifError
from vif_core.load import load
from vif_core.vlm.model import VLM
from vifscope.evaluation.lines import AnswerLines
from vifscope.evaluation.result import Evaluation
from vifscope.evidence.answers import answer, like_batches
from vifscope.evidence.blind import blank
from vifscope.failures import reason, spared
from vifscope.pipeline import Progress, checked_batch_size, default_batch_size, identity
from vifscope.scoring.answers import exact_match, score_response

DEFAULT_N = 500
BATCHES_OPEN = 8
"""Batches whose images are held at a time; samples of like kind are put together from among so many."""


def evaluate(
    model: str | Path | VLM,
    data: str | Path | Source,
    n: int | Literal["all"] | None = None,
    out: str | Path | None = None,
    *,
    blind: bool = False,
    max_new_tokens: int = 96,
    batch_size: int | None = None,
    seed: int = 0,
    device: str = "auto",
    dtype: str = "auto",
    progress: Progress = lambda *_: None,
) -> Evaluation:
    """What `vifscope.evaluate` does. n and batch size are no part of the configuration: a larger n extends the file."""
    source = open_source(data) if isinstance(data, str | Path) else data
    order = sample_order(source, seed)[: _number(n, source)]
    if max_new_tokens < 1:
        raise UsageError(f"max_new_tokens is {max_new_tokens}", expected="at least 1")
    progress("loading", 0, 1)
    vlm = load(model, device=device, dtype=dtype) if isinstance(model, str | Path) else model
    progress("loading", 1, 1)
    config = identity(vlm, source, seed) | {"max_new_tokens": max_new_tokens, "blind": blind}
    path = None if out is None else Path(out)
    with AnswerLines(config, path) as lines:
        asked: list[str] = []
        progress("answering", 0, len(order))
        at_once = _batch_size(vlm) if batch_size is None else checked_batch_size(batch_size)
        for ids, records in _records(vlm, source, order, lines, at_once, config):
            asked += ids
            lines.add(records)
            progress("answering", len(asked), len(order))
    evaluation = Evaluation(config, tuple(lines.records[sample_id] for sample_id in sorted(asked)), path)
    if len(evaluation.errors) == len(order):
        raise VifError(f"none of the {len(order)} samples could be answered; the first: {evaluation.errors[0]}")
    return evaluation


def _number(n: int | Literal["all"] | None, source: Source) -> int:
    if not len(source):
        raise UsageError(f"{source.name} has no samples", expected="one or more")
    if n is None or n == "all":
        return len(source) if n else min(DEFAULT_N, len(source))
    if not 1 <= n <= len(source):
        raise UsageError(
            f"n is {n}, but {source.name} has {len(source)} samples",
            expected=f"a number from 1 to {len(source)}",
            next_step="Use --n all for all of them",
        )
    return n


def _batch_size(vlm: VLM) -> int:
    """Twice what an analysis takes for a small model: no maps are held."""
    size = default_batch_size(vlm)
    return 64 if size == 32 else size


def _records(
    vlm: VLM, source: Source, order: Sequence[int], lines: AnswerLines, batch_size: int, config: dict[str, Any]
) -> Iterator[tuple[list[str], list[dict[str, Any]]]]:
    """Batch by batch: ids of the samples that are dealt with, and the records of those that the file lacked."""
    step = batch_size * BATCHES_OPEN
    for start in range(0, len(order), step):
        opened = [_open(source, index, lines) for index in order[start : start + step]]
        known = [sample_id for sample_id, sample in opened if sample is None]
        broken = [sample for _, sample in opened if isinstance(sample, dict)]
        yield [*known, *(record["sample_id"] for record in broken)], broken
        samples = [sample for _, sample in opened if isinstance(sample, Sample)]
        for batch in like_batches(samples, batch_size):
            records = spared([samples[i] for i in batch], lambda part: _answered(vlm, part, config), _failed)
            yield [record["sample_id"] for record in records], records


def _open(source: Source, index: int, lines: AnswerLines) -> tuple[str, Sample | dict[str, Any] | None]:
    """Sample `index` with its pictures opened; its record where that fails; None where it was answered before."""
    sample = Sample(f"{index:06d}", (), "")
    try:
        sample = source[index]
        if sample.sample_id in lines.done:
            return sample.sample_id, None
        return sample.sample_id, sample.opened()
    except Exception as error:
        return sample.sample_id, _failed(sample, error)


def _answered(vlm: VLM, samples: Sequence[Sample], config: dict[str, Any]) -> list[dict[str, Any]]:
    """Records of a batch. Raises whatever the model raises for it."""
    responses = answer(vlm, samples, config["max_new_tokens"])
    unseen = answer(vlm, [blank(sample) for sample in samples], config["max_new_tokens"]) if config["blind"] else []
    records = [_record(sample, response) for sample, response in zip(samples, responses, strict=True)]
    for record, sample, response in zip(records, samples, unseen, strict=False):  # none where it was not asked for
        record |= {"blank_response": response, "blank_correct": score_response(sample, response)[0]}
    return records


def _record(sample: Sample, response: str) -> dict[str, Any]:
    correct, score = score_response(sample, response)
    exact = None if sample.answer is None else exact_match(response, sample.answer)
    verdict = {"response": response, "exact": exact, "correct": correct, "score": score, "error": None}
    return _known(sample) | {"image": _image(sample)} | verdict


def _failed(sample: Sample, error: Exception) -> dict[str, Any]:
    return _known(sample) | {"error": reason(error)}


def _known(sample: Sample) -> dict[str, Any]:
    return {name: getattr(sample, name) for name in ("sample_id", "kind", "size", "question", "answer")}


def _image(sample: Sample) -> str:
    """Identity of the pictures' pixels: what the bootstrap draws. The sample itself where it has none."""
    digest = hashlib.blake2b(digest_size=8)
    for picture in (*sample.open_images(), *sample.open_frames()):
        digest.update(f"{picture.size}".encode() + picture.tobytes())
    return digest.hexdigest() if sample.pictures else sample.sample_id
