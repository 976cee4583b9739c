"""The main job: samples -> response -> flow -> metrics -> a run, resumed where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vif_core.data.open import open_source
from vif_core.data.sample import Sample, Source, sample_order
from vif_core.errors import UsageError, VifError
from vif_core.load import load
from vif_core.vlm.model import VLM
from vifscope.check import check_rows
from vifscope.failures import spared
from vifscope.measure import Reading, failed, measure
from vifscope.runs import RunWriter, SampleRecord, default_run_name
from vifscope.versions import versions

Progress = Callable[[str, int, int], None]
"""Called with what is being done ("loading", "measuring", "drawing"), how much of it is done, and how much there is."""

BATCHES_PER_SHARD = 4
SMALL_MODEL_PARAMETERS = 100_000_000


def analyze(
    model: str | Path | VLM,
    data: str | Path | Source,
    n: int,
    out: str | Path | None,
    reading: Reading,
    *,
    batch_size: int | None = None,
    seed: int = 0,
    device: str = "auto",
    dtype: str = "auto",
    overwrite: bool = False,
    progress: Progress = lambda *_: None,
) -> Path:
    """Measures n samples, or those that it lacks, into the run at `out` (runs/NAME by default); returns its path.

    n, batch size and device change numbers by no more than rounding; everything else enters the run's configuration.
    A sample that fails is recorded with its error and the next one follows; an interruption loses at most the shard
    being measured.
    Raises UsageError for n above the data or a run of another configuration; UnsupportedModel where the model's rows do
    not sum to 1; VifError if no sample can be measured.
    """
    source = open_source(data) if isinstance(data, str | Path) else data
    if not 1 <= n <= len(source):
        raise UsageError(
            f"n is {n}, but {source.name} has {len(source)} samples",
            expected=f"a number from 1 to {len(source)}",
            next_step=f"Use --n {len(source)} for all of them",
        )
    progress("loading", 0, 1)
    vlm = load(model, device=device, dtype=dtype) if isinstance(model, str | Path) else model
    check_rows(vlm)
    progress("loading", 1, 1)
    batch_size = default_batch_size(vlm) if batch_size is None else checked_batch_size(batch_size)
    config = identity(vlm, source, seed) | asdict(reading)
    path = Path(out) if out is not None else Path("runs") / default_run_name(vlm.name, source.name, config)
    with RunWriter.open(path, config, _info(vlm, source, batch_size), overwrite=overwrite) as writer:
        try:
            errors = _fill(writer, vlm, source, sample_order(source, seed)[:n], reading, batch_size, progress)
        except BaseException as error:
            status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            writer.finish(status, {"requested": n, "measured": len(writer.done)})
            raise
        counts = {"requested": n, "measured": len(writer.done), "failed": len(errors)}
        writer.finish("partial" if errors else "complete", counts)
    if len(errors) == n:
        raise VifError(f"none of the {n} samples could be measured; the first one says: {errors[0]}")
    return path


def checked_batch_size(batch_size: int) -> int:
    if batch_size < 1:
        raise UsageError(f"batch size is {batch_size}", expected="1 or more samples a batch")
    return batch_size


def default_batch_size(vlm: VLM) -> int:
    """32 for models under 100 million parameters, else 8 on an accelerator and 4 on the CPU."""
    if sum(parameter.numel() for parameter in vlm.model.parameters()) < SMALL_MODEL_PARAMETERS:
        return 32
    return 4 if vlm.device.type == "cpu" else 8


def _fill(
    writer: RunWriter,
    vlm: VLM,
    source: Source,
    order: Sequence[int],
    reading: Reading,
    batch_size: int,
    progress: Progress,
) -> list[str]:
    """Measures what the run lacks and commits it shard by shard; returns the errors of the samples that failed."""
    errors: list[str] = []
    finished, shard_size = 0, batch_size * BATCHES_PER_SHARD
    progress("measuring", 0, len(order))
    for start in range(0, len(order), shard_size):
        opened = [_open(source, index, writer.done) for index in order[start : start + shard_size]]
        samples = sorted((sample for sample in opened if isinstance(sample, Sample)), key=_length)
        shard = [record for record in opened if isinstance(record, SampleRecord)]
        finished += len(opened) - len(samples)
        for first in range(0, len(samples), batch_size):
            progress("measuring", finished, len(order))
            batch = samples[first : first + batch_size]
            shard += spared(batch, lambda part: measure(vlm, part, reading), failed)
            finished += len(batch)
        writer.write(shard)
        errors += [record.sample["error"] for record in shard if not record.flows]
        progress("measuring", finished, len(order))
    return errors


def _open(source: Source, index: int, done: set[str]) -> Sample | SampleRecord | None:
    """Sample `index` with its pictures opened, its record where that fails, None where the run has it already."""
    sample = Sample(f"{index:06d}", (), "")
    try:
        sample = source[index]
        return None if sample.sample_id in done else sample.opened()
    except Exception as error:
        return failed(sample, error)


def _length(sample: Sample) -> tuple[int, int, str, int]:
    """Sorts samples so that a batch needs little padding: frames of a video (which some families need alike), area of
    the pictures, kind (it foretells the response), question."""
    area = sum(picture.width * picture.height for picture in sample.pictures if not isinstance(picture, Path))
    return len(sample.frames), area, sample.kind, len(sample.question)


def identity(vlm: VLM, source: Source, seed: int) -> dict[str, Any]:
    """What decides the numbers of any measurement: the model, with its VIF where it has one, and the data."""
    config = {
        "model": vlm.name,
        "revision": vlm.revision,
        "dtype": str(vlm.model.dtype).removeprefix("torch."),
        "data": source.name,
        "data_fingerprint": source.fingerprint,
        "seed": seed,
    }
    if vlm.vif is None:
        return config
    facts = _vif(vlm)
    return config | {"vif": facts and facts | {"weights": vlm.vif.fingerprint()}}


def _vif(vlm: VLM) -> dict[str, Any] | None:
    """Facts of the model's VIF; None without one, and where it is disabled."""
    return vlm.vif.facts() if vlm.vif is not None and vlm.vif.enabled else None


def _info(vlm: VLM, source: Source, batch_size: int) -> dict[str, Any]:
    return {
        "model": {
            "id": vlm.name,
            "revision": vlm.revision,
            "family": vlm.family,
            "layers": vlm.num_layers,
            "heads": vlm.num_heads,
            "vif": _vif(vlm),
        },
        "dataset": {"name": source.name, "samples": len(source), "skipped": getattr(source, "skipped", "")},
        "device": str(vlm.device),
        "batch_size": batch_size,
        "versions": versions(),
    }
