"""A small synthetic run, written by the real writer, for what reads runs: figures, report, table."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from vifscope.runs import MapRecord, RunStore, RunWriter, SampleRecord

GRID = 12
PATCH_PX = 8
SIDE_PX = GRID * PATCH_PX
KINDS = ("attribute", "count", "relation", "where")
SIZES = ("tiny", "small", "large")
ALPHA = 0.5  # of a blended map
COLOURS = {"red": "#c0392b", "green": "#2e8b57", "blue": "#2c6fbb", "yellow": "#d4ac0d"}


def focus(layers: int) -> np.ndarray:
    """How much of the visual flow lies on the target, by layer: rises to the middle, decays in deep layers."""
    depth = np.linspace(0, 1, layers)
    return 0.05 + 0.75 * np.exp(-((depth - 0.45) ** 2) / 0.04)


def ratio(layers: int) -> np.ndarray:
    """Visual ratio by layer: peaks in the first third, attenuates in deep layers."""
    depth = np.linspace(0, 1, layers)
    return 0.15 + 0.7 * np.exp(-((depth - 0.25) ** 2) / 0.06)


def target_spot(box: tuple, tokens: int) -> np.ndarray:
    """One Gaussian on the target, over the visual tokens: [V], sums to 1."""
    side = int(tokens**0.5)
    centres = (np.arange(side) + 0.5) * SIDE_PX / side
    y, x = np.meshgrid(centres, centres, indexing="ij")
    spot = np.exp(-((x - (box[0] + box[2]) / 2) ** 2 + (y - (box[1] + box[3]) / 2) ** 2) / 72).reshape(-1)[:tokens]
    return spot / spot.sum()


def flow_maps(rng: np.random.Generator, box: tuple, layers: int, rows: int, tokens: int) -> np.ndarray:
    """Unnormalised flow [L, R, V] of one sample: a spot on the target over a rough floor."""
    floor = rng.lognormal(0, 0.9, (layers, rows, tokens))
    share = focus(layers)[:, None, None]
    flow = share * target_spot(box, tokens) + (1 - share) * floor / floor.sum(-1, keepdims=True)
    level = np.clip(ratio(layers)[:, None] + rng.normal(0, 0.03, (layers, rows)), 0.02, 0.98)
    return (flow * level[..., None]).astype(np.float32)


def map_record(flow: np.ndarray, measured: np.ndarray, weights: np.ndarray | None, keys: int) -> MapRecord:
    """Metrics of flow [L, R, V] in plain numpy; `weights` [V] is the box cover, None without boxes."""
    p = flow / flow.sum(-1, keepdims=True)
    entropy = -(p * np.log(np.maximum(p, 1e-12))).sum(-1)
    level = flow.sum(-1)
    nothing = np.full_like(level, np.nan)
    mass = nothing if weights is None else (p * weights).sum(-1)
    rows = {
        "visual_ratio": level,
        "ratio_lift": level / (flow.shape[-1] / keys),
        "visual_entropy": entropy,
        "visual_entropy_mean_of_heads": entropy - 0.1,
        "relative_entropy": entropy / np.log(flow.shape[-1]),
        "top_share": np.sort(p, -1)[..., -max(1, flow.shape[-1] // 20) :].sum(-1),
        "box_mass": mass,
        "box_lift": mass if weights is None else mass / weights.mean(),
        "pointing_hit": nothing if weights is None else (weights[p.argmax(-1)] > 0).astype(float),
        "share_bos": 0.4 * (1 - level),
        "share_template": 0.3 * (1 - level),
        "share_question": 0.25 * (1 - level),
        "share_response": 0.05 * (1 - level),
    }
    layers = {name: values[:, measured].mean(1) for name, values in rows.items()}
    heads = {name: np.repeat(values[:, None], 2, 1) for name, values in layers.items()}
    return MapRecord(layers, heads, rows, flow, None)


def picture(rng: np.random.Generator, box: tuple, colour: str) -> Image.Image:
    noise = rng.normal(150, 18, (SIDE_PX, SIDE_PX, 3)).clip(0, 255).astype(np.uint8)
    image = Image.fromarray(noise)
    draw = ImageDraw.Draw(image)
    for _ in range(5):
        x, y = rng.integers(4, SIDE_PX - 24, 2)
        draw.rectangle((x, y, x + 16, y + 16), fill=tuple(int(c) for c in rng.integers(40, 220, 3)))
    draw.ellipse(box, fill=COLOURS[colour])
    return image


def sample_record(
    index: int,
    *,
    layers: int = 16,
    boxes: bool = True,
    answers: bool = True,
    grid: bool = True,
    question: str = "",
    injected: tuple[int, ...] = (),
) -> SampleRecord:
    """Sample `index` of the synthetic source, measured; a map of one spot on the target blended into some layers."""
    rng = np.random.default_rng(index)
    tokens = GRID * GRID if grid else 64
    x, y = (int(v) for v in rng.integers(6, SIDE_PX - 22, 2))
    side = (6, 11, 16)[index % 3]
    box = (float(x), float(y), float(x + side), float(y + side))
    colour = list(COLOURS)[index % 4]
    response_rows, rows = 2, 6
    measured = np.array([False] * (rows - response_rows) + [True] * response_rows)
    segment = np.array([0] + [1] * 4 + [2] * tokens + [3] * 9 + [1] * 2 + [4] * 2, dtype=np.int8)
    edges = np.arange(GRID + 1) * PATCH_PX
    cover = np.minimum(edges[1:, None], box[2:]) - np.maximum(edges[:-1, None], box[:2])
    cover = cover.clip(0)  # [side, (x, y)]
    weights = (cover[:, 1][:, None] * cover[:, 0][None]).reshape(-1) / PATCH_PX**2 if boxes and grid else None
    flow = flow_maps(rng, box, layers, rows, tokens)
    flow[list(injected)] = (1 - ALPHA) * flow[list(injected)] + ALPHA * target_spot(box, tokens)
    right = bool(rng.random() < (0.95 if injected else 0.85))
    encoded = io.BytesIO()
    picture(rng, box, colour).save(encoded, "PNG")
    sample = {
        "sample_id": f"s{index:03d}",
        "question": question or f"What colour is the {SIZES[index % 3]} circle?",
        "answer": colour if answers else None,
        "response": colour if right else "grey",
        "correct": right if answers else None,
        "score": float(right) if answers else None,
        "answer_logprob": -0.1 if answers else None,
        "kind": KINDS[index % len(KINDS)],
        "size": SIZES[index % 3],
        "boxes": [list(box)] if boxes else [],
        "input_ids": np.arange(len(segment)),
        "tokens": [f"t{i}" for i in range(len(segment))],
        "segment": segment,
        "visual": np.arange(5, 5 + tokens),
        "query_rows": np.arange(len(segment) - rows - 1, len(segment) - 1),
        "measured": measured,
        "images": [
            {"frame": "image", "image": 0, "rows": GRID, "cols": GRID, "offset": 0, "stride": GRID,
             "rect_px": [0.0, 0.0, float(SIDE_PX), float(SIDE_PX)]}
        ] if grid else [],
        "spotlights": spotlights(rng, box, injected) if injected else None,
        "seconds": 0.01,
        "error": None,
    }  # fmt: skip
    return SampleRecord(sample, [encoded.getvalue()], {"raw": map_record(flow, measured, weights, len(segment))})


def spotlights(rng: np.random.Generator, box: tuple, injected: tuple[int, ...]) -> list[dict[str, Any]]:
    """Two a pair and branch: one on the target, which the posterior knows better than the prior, and one elsewhere."""
    col, row = (box[0] + box[2]) / 2 / SIDE_PX, (box[1] + box[3]) / 2 / SIDE_PX
    stray_row, stray_col = rng.random(2)
    return [
        {
            "mid": deep - 6,
            "deep": deep,
            "branch": branch,
            "row": at_row,
            "col": at_col,
            "spread": 0.05,
            "weight": weight,
        }
        for deep in injected
        for branch, known in (("prior", 0.6), ("posterior", 0.95))
        for at_row, at_col, weight in ((row, col, known), (float(stray_row), float(stray_col), 1 - known))
    ]


def failed_record(index: int) -> SampleRecord:
    """Sample `index` as it is stored when its image could not be read."""
    record = sample_record(index)
    kept = ("sample_id", "question", "answer", "kind", "size", "boxes")
    error = f"sample {record.sample_id}: image <b>missing</b>.png does not exist."
    return SampleRecord({key: record.sample[key] for key in kept} | {"error": error})


def write_run(path: Path, records: list[SampleRecord], info: dict[str, Any] | None = None, **config: Any) -> RunStore:
    writer = RunWriter.open(path, {"model": "mini-llava", "data": "specks-test", "seed": 0} | config, info or {})
    writer.write(records)
    writer.finish("complete", {"samples": len(records)})
    return RunStore.open(path)


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    """24 measured samples of 16 layers on a 12x12 grid, with boxes, kinds and sizes, and one that failed."""
    records = [sample_record(i) for i in range(24)] + [failed_record(24)]
    return write_run(tmp_path_factory.mktemp("runs") / "synthetic", records)


@pytest.fixture(scope="session")
def records_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., RunStore]:
    """Write n samples after `change(records)`: records_run(2, change=..., layers=32, boxes=False, grid=False).

    first: index of the first sample.   model: its id in the manifest.   pairs: (extraction, injection) of its VIF.
    config: further fields of the configuration.
    """

    def build(
        n: int,
        *,
        change: Callable[[list[SampleRecord]], list[SampleRecord]] = list,
        first: int = 0,
        model: str = "",
        pairs: tuple[tuple[int, int], ...] = (),
        config: dict[str, Any] | None = None,
        **options: Any,
    ) -> RunStore:
        injected = tuple(injection for _, injection in pairs)
        records = change([sample_record(i, injected=injected, **options) for i in range(first, first + n)])
        vif = {"pairs": [list(pair) for pair in pairs], "alpha": ALPHA, "preset": "paper"} if pairs else None
        info = {"model": {"id": model, "vif": vif}} if model else None
        return write_run(tmp_path_factory.mktemp("runs") / "other", records, info, **(config or {}))

    return build


@pytest.fixture(scope="session")
def run_of(records_run: Callable[..., RunStore]) -> Callable[..., RunStore]:
    """`records_run`, each run written once."""
    return cache(records_run)
