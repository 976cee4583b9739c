"""Proofs, on one loaded model, that what is read of it is what it does."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from vif_core.data.sample import Sample
from vif_core.errors import UnsupportedModel
from vif_core.flow.interventions import Knockout
from vif_core.flow.op import intervene
from vif_core.load import load
from vif_core.vlm.batch import Batch
from vif_core.vlm.discover import watched
from vif_core.vlm.layout import ImageGrid
from vif_core.vlm.model import VLM
from vifscope.trace.capture import capture, padded_rows

ROW_TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 5e-3}
"""Largest difference from an eager run that rounding explains, by dtype."""

PICTURES = ((96, 144), (120, 80))
"""Height and width in pixels of the pictures that the proofs run over."""

CELLS = 5
"""Cells of each grid that are changed to see where the change arrives."""


@dataclass(frozen=True)
class Proof:
    """One claim about a model. passed: None where it does not apply. seen: the numbers behind the verdict."""

    claim: str
    passed: bool | None
    seen: str
    seconds: float

    @property
    def verdict(self) -> str:
        return {True: "proved", False: "FAILED", None: "none"}[self.passed]


@dataclass(frozen=True)
class Checked:
    """What was proved of a model. `passed` unless a proof failed."""

    model: str
    family: str
    proofs: tuple[Proof, ...]

    @property
    def passed(self) -> bool:
        return all(proof.passed is not False for proof in self.proofs)

    def as_dict(self) -> dict[str, Any]:
        proofs = [asdict(proof) | {"seconds": round(proof.seconds, 3)} for proof in self.proofs]
        return {"model": self.model, "family": self.family, "passed": self.passed, "proofs": proofs}


def check_model(model: str | Path | VLM, device: str = "auto", dtype: str = "auto") -> Checked:
    """Runs every proof. Raises what `load` raises; UnsupportedModel where the attention op is not reached."""
    start = time.perf_counter()
    vlm = model if isinstance(model, VLM) else load(model, device=device, dtype=dtype)
    found = f"{len(vlm.layers)} of {vlm.num_layers} decoder layers, under {vlm.attention}"
    proofs = [Proof("the attention op is found", True, found, time.perf_counter() - start)]
    start = time.perf_counter()
    batch = vlm.encode([_sample(i, _noise(size)) for i, size in enumerate(PICTURES)])
    proofs.append(Proof("grids match the visual tokens", *_grids(batch), time.perf_counter() - start))
    rows = [layout.rows("text") for layout in batch.layouts]
    flows: list[torch.Tensor] = []
    claims: tuple[tuple[str, Callable[[], tuple[bool | None, str]]], ...] = (
        ("rows sum to 1", lambda: _sums(vlm, batch, rows, flows)),
        ("rows equal those of an eager run", lambda: _eager(vlm, batch, rows, flows)),
        ("hiding the image from the rows changes the logits", lambda: _matters(vlm, batch, rows)),
        ("a changed patch arrives at its cell of the map", lambda: _aligned(vlm)),
    )
    for claim, prove in claims:
        start = time.perf_counter()
        proofs.append(Proof(claim, *prove(), time.perf_counter() - start))
    return Checked(vlm.name, vlm.family, tuple(proofs))


def check_rows(vlm: VLM) -> None:
    """The cheap part, before a run: one pass in which rows sum to 1. Raises UnsupportedModel where they do not."""
    batch = vlm.probe()
    passed, seen = _sums(vlm, batch, [layout.rows("text") for layout in batch.layouts], [])
    if not passed:
        raise UnsupportedModel(
            f"rows of {vlm.name} do not sum to 1 ({seen})",
            expected="attention weights: a softmax over the keys",
            next_step=f"See what else fails with vifscope check {vlm.name}",
        )


def _sample(number: int, picture: Image.Image) -> Sample:
    return Sample(f"check-{number}", (picture,), "what is this" + ", and this" * number + "?")


def _noise(size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8))


def _grids(batch: Batch) -> tuple[bool | None, str]:
    """Encoding raises GridMismatch where they disagree, so that what remains is to say what was seen."""
    if not any(layout.grids for layout in batch.layouts):
        return None, "visual tokens are latent queries without a place in the image: ratio and entropy, no map"
    shapes = [" + ".join(f"{grid.rows}x{grid.cols}" for grid in layout.grids) for layout in batch.layouts]
    return True, "; ".join(
        f"{shape} = {len(layout.visual)} tokens" for shape, layout in zip(shapes, batch.layouts, strict=True)
    )


def _sums(vlm: VLM, batch: Batch, rows: list[np.ndarray], flows: list[torch.Tensor]) -> tuple[bool | None, str]:
    flows += capture(vlm, batch, rows, lambda _, flow: flow.cpu())
    sums = torch.stack([flow.sum(-1) for flow in flows])
    if any(getattr(layer.attention, "sinks", None) is not None for layer in vlm.layers):
        return bool((sums <= 1 + 1e-4).all()), f"at most {sums.max():.6f}: the rest goes to attention sinks"
    worst = float((sums - 1).abs().max())
    return worst < 1e-4, f"off by at most {worst:.1e}"


def _eager(vlm: VLM, batch: Batch, rows: list[np.ndarray], flows: list[torch.Tensor]) -> tuple[bool | None, str]:
    with nullcontext() if vlm.vif is None else vlm.vif.disable_vif():  # transformers returns what stands before VIF
        if vlm.vif is not None:
            flows = capture(vlm, batch, rows, lambda _, flow: flow.cpu())
        weights = eager_weights(vlm, batch)
    wanted = padded_rows(batch, rows)[:, None, :, None]
    if len(weights) != len(flows):
        return None, f"an eager run returns the attention of {len(weights)} layers, not of {len(flows)}"
    pairs = zip(flows, weights, strict=True)
    worst = max(float((flow - found.take_along_dim(wanted, dim=2)).abs().max()) for flow, found in pairs)
    tolerance = ROW_TOLERANCE[vlm.model.dtype]
    return worst <= tolerance, f"max difference {worst:.1e}, {tolerance:.0e} allowed in {vlm.model.dtype}"


def eager_weights(vlm: VLM, batch: Batch) -> list[torch.Tensor]:
    """What the attention modules of an eager run return as their weights, [B, H, Q, K] in fp32 for each layer."""
    weights: list[torch.Tensor] = []

    def take(_module: Any, _args: Any, output: Any) -> None:
        if isinstance(output, tuple) and output[1] is not None:
            weights.append(output[1].float().cpu())

    before = vlm.attention
    handles = [layer.attention.register_forward_hook(take) for layer in vlm.layers]
    vlm.model.set_attn_implementation("eager")
    try:
        with torch.inference_mode():
            vlm.model(**batch.inputs, use_cache=False)
    finally:
        vlm.model.set_attn_implementation(before)
        for handle in handles:
            handle.remove()
    return weights


def _matters(vlm: VLM, batch: Batch, rows: list[np.ndarray]) -> tuple[bool | None, str]:
    hidden = Knockout.of(batch, rows, [layout.visual for layout in batch.layouts])
    with torch.inference_mode():
        plain = vlm.model(**batch.inputs, use_cache=False).logits[:, -1].float()
        with intervene(vlm, {layer.index: hidden for layer in vlm.layers}, batch):
            change = float((vlm.model(**batch.inputs, use_cache=False).logits[:, -1].float() - plain).abs().max())
    return change > 1e-4, f"by up to {change:.2g}"


def _aligned(vlm: VLM) -> tuple[bool | None, str]:
    """Inverts the pixels under one cell after another and sees which visual token changes most at the decoder."""
    hits = tried = 0
    for size in PICTURES:
        picture = np.asarray(_noise(size))
        found = visual_features(vlm, _sample(0, Image.fromarray(picture)))
        if found is None:
            return None, "the decoder gets words of a vocabulary, not features"
        before, grids = found
        for grid in grids:
            for row, col in _cells_on(grid, size):
                x0, y0, x1, y1 = np.clip(grid.boxes_px[row, col].round().astype(int), 0, None)
                changed = picture.copy()
                changed[y0:y1, x0:x1] = 255 - changed[y0:y1, x0:x1]
                after = visual_features(vlm, _sample(0, Image.fromarray(changed)))
                assert after is not None
                change = grid.to_grid((after[0] - before).norm(dim=-1))
                hits += divmod(int(change.argmax()), grid.cols) == (row, col)
                tried += 1
    if not tried:
        return None, "no map"
    return hits * 2 > tried, f"{hits} of {tried} cells"


def _cells_on(grid: ImageGrid, size: tuple[int, int]) -> list[list[int]]:
    """Up to CELLS cells, evenly spaced, whose centres lie on the image: the others hold padding."""
    centre = grid.boxes_px.reshape(grid.rows, grid.cols, 2, 2).mean(2)
    inside = np.argwhere(((centre > 0) & (centre < size[::-1])).all(-1))
    return inside[np.linspace(0, len(inside) - 1, min(CELLS, len(inside))).round().astype(int)].tolist()


def visual_features(vlm: VLM, sample: Sample) -> tuple[torch.Tensor, tuple[ImageGrid, ...]] | None:
    """What the decoder, or the encoder before it, gets at the visual tokens [V, hidden], and their grids.

    None where it gets token ids. Where the decoder alone sees the image, by cross-attention, these are its first keys.
    """
    batch = vlm.encode([sample])
    layout = batch.layouts[0]
    encodes = vlm.model.config.is_encoder_decoder
    if vlm.crosses and not encodes:
        return _keys(vlm, batch)[0, layout.visual].float(), layout.grids
    taken: dict[str, torch.Tensor | None] = {}

    def take(_module: Any, _args: Any, kwargs: dict[str, Any]) -> None:
        taken["embeddings"] = kwargs["inputs_embeds"]

    handle = (vlm.model.get_encoder() if encodes else vlm.model.get_decoder()).register_forward_pre_hook(
        take, with_kwargs=True
    )
    try:
        with torch.inference_mode():
            vlm.model(**batch.inputs, use_cache=False)
    finally:
        handle.remove()
    embeddings = taken["embeddings"]
    if embeddings is None:
        return None
    return embeddings[0, layout.visual].float(), layout.grids


def _keys(vlm: VLM, batch: Batch) -> torch.Tensor:
    """Keys of the first layer with attention over visual tokens, all heads together: [B, K, G D]."""
    found: list[torch.Tensor] = []

    def see(module: torch.nn.Module, _query: torch.Tensor, key: torch.Tensor) -> None:
        if module is vlm.layers[0].attention:
            found.append(key.transpose(1, 2).flatten(2))

    with watched(vlm.attention, see), torch.inference_mode():
        vlm.model(**batch.inputs, use_cache=False)
    return found[0]
