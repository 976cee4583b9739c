"""What reading the flow costs: the traced pass against the bare forward pass over the same batches.

    python tests/bench/bench_capture.py [--n 500] [--batch-size 32] [--model mini-llava] [--clock cpu --threads 1]

Every batch is run through every arm, in an order drawn anew, `--repeats` times; a batch's time in an arm is its
fastest. The bare pass runs a copy of the model that nnsight never touched. Ratios are of summed times, with a 95 %
bootstrap interval over batches. The arms build on one another, so that their differences say where the time goes:
nnsight's own trace, the probabilities of the rows, the metrics. `--clock cpu` counts processor time, for machines
that others use too.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from vif_core.data.specks import Specks
from vif_core.load import load
from vif_core.vlm.batch import Batch
from vif_core.vlm.model import VLM
from vifscope.metrics.reduce import LayerReducer
from vifscope.trace.capture import attention_ops, capture


def arms(bare: VLM, vlm: VLM, batch: Batch, boxes: list) -> dict[str, Callable[[], object]]:
    rows = {which: [layout.rows(which, eos=vlm.eos_ids) for layout in batch.layouts] for which in ("response", "text")}
    measured = [np.isin(text, own) for text, own in zip(rows["text"], rows["response"], strict=True)]

    def forward() -> None:
        with torch.inference_mode():
            bare.model(**batch.inputs)

    def trace() -> None:
        with torch.inference_mode(), vlm.traced.trace(**batch.inputs):
            pass

    def metrics() -> None:
        reducer = LayerReducer(
            batch.layouts, batch.pad, rows["text"], measured, boxes, num_layers=vlm.num_layers, device=vlm.device
        )
        reducer.records(capture(vlm, batch, rows["text"], reducer))

    return {
        "bare forward": forward,
        "trace, nothing read": trace,
        "trace, response rows": lambda: capture(vlm, batch, rows["response"], lambda *_: None),
        "trace, all text rows": lambda: capture(vlm, batch, rows["text"], lambda *_: None),
        "trace, text rows, metrics": metrics,
    }


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def seconds(run: Callable[[], object], device: torch.device, clock: Callable[[], float]) -> float:
    start = clock()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def ratio(arm: np.ndarray, bare: np.ndarray, draws: int = 5000) -> tuple[float, float, float]:
    """Ratio of summed times and its 95 % bootstrap interval; the batch is the unit."""
    at = np.random.default_rng(0).integers(0, len(bare), (draws, len(bare)))
    low, high = np.quantile(arm[at].sum(1) / bare[at].sum(1), [0.025, 0.975])
    return arm.sum() / bare.sum(), low, high


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=500, help="samples of specks' test split")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--model", default="mini-llava")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    bare, vlm = load(options.model), load(options.model)
    attention_ops(vlm)
    source = Specks("test")
    samples = sorted((source[i] for i in range(options.n)), key=lambda sample: (sample.kind, len(sample.question)))
    times: dict[str, list[float]] = {}
    for first in track(range(0, len(samples), options.batch_size), "batches", console=Console(stderr=True)):
        chosen = samples[first : first + options.batch_size]
        batch = vlm.encode(chosen, [vlm.response_ids(sample.answer or "") for sample in chosen])
        runs = list(arms(bare, vlm, batch, [sample.boxes for sample in chosen]).items())
        fastest = dict.fromkeys((name for name, _ in runs), np.inf)
        for _ in range(options.repeats + (first == 0)):
            random.shuffle(runs)
            for name, run in runs:
                fastest[name] = min(fastest[name], seconds(run, vlm.device, CLOCKS[options.clock]))
        for name, best in fastest.items():
            times.setdefault(name, []).append(best)
    measured = {name: np.array(values) for name, values in times.items()}
    base = measured["bare forward"]
    print(
        f"{options.model}, n={options.n}, batches of {options.batch_size}, {vlm.device}, "
        f"{options.threads} threads, {options.clock} time, fastest of {options.repeats}"
    )
    for name, values in measured.items():
        value, low, high = ratio(values, base)
        print(f"{name:28} {values.sum():8.2f} s   ratio {value:.3f} [{low:.3f}, {high:.3f}]")


if __name__ == "__main__":
    main()
