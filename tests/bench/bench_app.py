"""How quickly the browser opens runs and answers, at 500 and at 20,000 samples. Run by hand: medians of 7, in seconds.

python tests/bench/bench_app.py
"""

from __future__ import annotations

import runpy
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from vifscope_browser import overview, sample, samples
from vifscope_browser.app import create_app
from vifscope_browser.catalogue import Catalogue, Chosen
from vifscope_browser.content import pack

from vifscope.runs import RunWriter

SIZES = (500, 20_000)
DIFFERENT, PART, ROUNDS = 250, 1000, 7
synthetic = runpy.run_path(str(Path(__file__).parents[1] / "vifscope" / "conftest.py"))


def records(n: int) -> Iterator[Any]:
    """n samples, of which DIFFERENT differ in more than their id."""
    made = [synthetic["sample_record"](index) for index in range(min(n, DIFFERENT))]
    for index in range(n):
        record = made[index % len(made)]
        yield replace(record, sample=record.sample | {"sample_id": f"s{index:06d}"})


def write(path: Path, n: int) -> None:
    writer = RunWriter.open(path, {"model": "mini-llava", "data": "specks-test", "seed": 0}, {})
    waiting = list(records(n))
    for start in range(0, n, PART):
        writer.write(waiting[start : start + PART])
    writer.finish("complete", {"samples": n})


def seconds(work: Callable[[], Any], rounds: int = ROUNDS) -> float:
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def measure(path: Path, n: int) -> None:
    start = time.perf_counter()
    catalogue = Catalogue.open([path])
    create_app(catalogue)
    print(f"{n} samples: ready to serve in {time.perf_counter() - start:.2f}")
    pages = {"overview": lambda: overview.layout(catalogue), "samples": lambda: samples.layout(catalogue, {})}
    for name, page in pages.items():
        print(f"  {name}: first {seconds(page, 1):.2f}, then {seconds(page):.3f}")
    sample_id = catalogue.samples.index[n // 2]
    print(f"  a search: {seconds(lambda: catalogue.find('circle', sort='visual_entropy', down=True)):.3f}")
    print(f"  a sample: {seconds(lambda: sample.layout(catalogue, {'sample': sample_id})):.3f}")
    print(f"  its maps: {seconds(lambda: pack(catalogue, sample_id, Chosen())):.3f}")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for n in SIZES:
            path = Path(folder) / str(n)
            write(path, n)
            measure(path, n)


if __name__ == "__main__":
    main()
