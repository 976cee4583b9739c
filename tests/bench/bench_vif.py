"""What VIF costs: passes and generation with it against the same without, at decoder layers of a 7B model's shape.

    python tests/bench/bench_vif.py [--layers 4] [--text 64] [--steps 16] [--dtype bfloat16] [--clock cpu --threads 1]

Random weights, shared by three models: the bare one, one whose every layer gets a given map (the injection itself),
and one with VIF, whose encoders read one layer and inject into the next. Arms run in an order drawn anew each round;
ratios are of summed times, with a 95 % bootstrap interval over rounds. The projection is to 4 pairs on 32 layers. What
the encoders cost is what a pass with VIF takes beyond one with as many injected layers; beside it stands what they take
alone, which on a GPU is mostly the waiting for small kernels that a pass hides. `--passes` are run one after another
before the clock is read, as in a model of more layers. Peak memory is of one pass, what a layer's attention matrix
would take beside it. `--clock cpu` counts processor time, for machines that others use too.
"""

from __future__ import annotations

import argparse
import copy
import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import track
from transformers import (
    CLIPVisionConfig,
    DynamicCache,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from vif_core.data.sample import Sample
from vif_core.flow.blend import Blend
from vif_core.flow.op import intervene
from vif_core.load import DTYPES
from vif_core.vif import VIFConfig, VIFModel, add_vif
from vif_core.vif.generator import canvas
from vif_core.vlm.batch import Batch
from vif_core.vlm.model import VLM
from vif_core.vlm.tiny import IMAGE, LLAMA, VISION, tiny_model

PAIRS, LAYERS = 4, 32


def base(layers: int, dtype: torch.dtype, device: str) -> VLM:
    """A LLaVA whose decoder layers have a 7B model's shape; its image encoder and vocabulary are tiny."""
    shape = {"hidden_size": 4096, "intermediate_size": 11008, "num_attention_heads": 32, "num_key_value_heads": 32}
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**VISION | {"image_size": 336, "patch_size": 14}),
        text_config=LlamaConfig(**LLAMA | shape | {"head_dim": 128, "num_hidden_layers": layers, "eos_token_id": None}),
        image_token_index=IMAGE,
        image_seq_length=576,
    )
    pictures = CLIPImageProcessorPil(size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336})
    tokenizer = tiny_model("llava").tokenizer
    processor = LlavaProcessor(
        pictures, tokenizer, patch_size=14, vision_feature_select_strategy="default", num_additional_image_tokens=1
    )
    model: Any = LlavaForConditionalGeneration._from_config(config, attn_implementation="sdpa", dtype=dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.1)
    return VLM(model.to(device), processor, name="llava-7b-shape")


def twin(vlm: VLM) -> VLM:
    """The same model once more, with the same weights in memory."""
    shared: dict[int, Any] = {id(parameter): parameter for parameter in vlm.model.parameters()}
    return VLM(copy.deepcopy(vlm.model, shared), vlm.processor, name=vlm.name)


def question(vlm: VLM, text: int) -> Batch:
    """One picture of 576 tokens and `text` tokens around it."""
    sample = Sample("bench", (Image.new("RGB", (336, 336), "gray"),), "?")
    missing = text + 576 - vlm.encode([sample]).length
    return vlm.encode([Sample("bench", sample.images, "?" * (1 + missing))])


def given_map(batch: Batch, layout_map: torch.Tensor) -> Blend:
    layout = batch.layouts[0]
    turn = torch.full((1, batch.length), -1)
    first = int(layout.visual[-1]) + 1
    turn[0, first:] = 0
    device = batch.inputs["input_ids"].device
    keys = torch.from_numpy(layout.visual)[None].to(device)
    return Blend(0.5, keys, layout_map[None].to(device), turn.to(device), first=first, ahead=True)


def stepping(model: Any, batch: Batch) -> Callable[[], object]:
    """One cached step of generation, after a prefill; the cache is as before when it is done."""
    cache = DynamicCache()
    with torch.inference_mode():
        model(**batch.inputs, past_key_values=cache, use_cache=True)
    mask = torch.nn.functional.pad(batch.inputs["attention_mask"], (0, 1), value=1)
    token = batch.inputs["input_ids"][:, -1:]

    def step() -> None:
        model(input_ids=token, attention_mask=mask, past_key_values=cache, use_cache=True)
        cache.crop(-1)

    return step


def arms(bare: VLM, injected: VLM, vif: VIFModel, text: int, steps: int) -> dict[str, Callable[[], object]]:
    batch, told = question(bare, text), question(vif.vlm, text)
    turns, config, width = (
        told.inputs["turns"].to(vif.vlm.device),
        vif.config,
        vif.generator.prior.project[1].in_features,
    )
    hidden = torch.randn(1, batch.length, width, dtype=bare.model.dtype, device=bare.device)
    options = {"max_new_tokens": steps, "min_new_tokens": steps, "do_sample": False}

    def encoders() -> None:
        where = canvas(turns, config)
        where.draw(vif.generator.slots(vif.generator(hidden, turns, where, posterior=False).prior.mean), config)

    return {
        "forward": lambda: bare.model(**batch.inputs, use_cache=False),
        "forward, injected": lambda: injected.model(**batch.inputs, use_cache=False),
        "forward, VIF": lambda: vif.base(**told.inputs, use_cache=False),
        "encoders of a pair": encoders,
        "step": stepping(bare.model, batch),
        "step, injected": stepping(injected.model, batch),
        "step, VIF": stepping(vif.base, told),
        f"generate {steps}": lambda: bare.model.generate(**batch.inputs, **options),
        f"generate {steps}, injected": lambda: injected.model.generate(**batch.inputs, **options),
        f"generate {steps}, VIF": lambda: vif.generate(**told.inputs, **options),
    }


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def seconds(run: Callable[[], object], device: torch.device, clock: Callable[[], float], passes: int) -> float:
    start = clock()
    with torch.inference_mode():
        for _ in range(passes):
            run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (clock() - start) / passes


def peak_mib(run: Callable[[], object], device: torch.device) -> float:
    """Most memory that tensors take at once during a run, beyond what was there before."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        with torch.inference_mode():
            run()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    with torch.profiler.profile(profile_memory=True) as profile, torch.inference_mode():
        run()
    events = profile.profiler.kineto_results.events()
    changes = [event.nbytes() for event in sorted(events, key=lambda e: e.start_ns()) if event.name() == "[memory]"]
    return float(np.cumsum(changes).max()) / 2**20


def ratio(arm: np.ndarray, bare: np.ndarray, draws: int = 5000) -> tuple[float, float, float]:
    """Ratio of summed times and its 95 % bootstrap interval; the round is the unit."""
    at = np.random.default_rng(0).integers(0, len(bare), (draws, len(bare)))
    low, high = np.quantile(arm[at].sum(1) / bare[at].sum(1), [0.025, 0.975])
    return arm.sum() / bare.sum(), low, high


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--text", type=int, default=64, help="tokens beside the 576 visual ones")
    parser.add_argument("--steps", type=int, default=16, help="tokens to generate")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--passes", type=int, default=1, help="runs between two looks at the clock")
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    bare = base(options.layers, DTYPES[options.dtype], options.device)
    injected = twin(bare)
    pairs = tuple((layer, layer + 1) for layer in range(options.layers - 1))
    vif = add_vif(twin(bare), VIFConfig(pairs=pairs))
    batch = question(injected, options.text)
    blend = given_map(batch, torch.rand(576).softmax(0))
    with intervene(injected, dict.fromkeys(range(options.layers), blend), batch):
        runs = list(arms(bare, injected, vif, options.text, options.steps).items())
        names = [name for name, _ in runs]
        times: dict[str, list[float]] = {name: [] for name in names}
        for number in track(range(options.rounds + 1), "rounds", console=Console(stderr=True)):
            random.shuffle(runs)
            for name, run in runs:
                spent = seconds(run, bare.device, CLOCKS[options.clock], options.passes)
                if number:  # the first round warms up
                    times[name].append(spent)
        memory = {name: peak_mib(run, bare.device) for name, run in runs if name.startswith("forward")}
    measured = {name: np.array(times[name]) for name in names}
    print(
        f"{options.layers} layers of 4096, 32 heads, {options.text + 576} tokens, {options.dtype}, {bare.device}, "
        f"{options.threads} threads, {options.clock} time, {options.rounds} rounds"
    )
    for name, values in measured.items():
        against = measured[name.split(",")[0]] if "," in name else values
        value, low, high = ratio(values, against)
        print(f"{name:26} {values.mean():8.4f} s   ratio {value:.3f} [{low:.3f}, {high:.3f}]")
    mean = {name: values.mean() for name, values in measured.items()}
    whole = LAYERS * mean["forward"] / options.layers
    injection = (mean["forward, injected"] - mean["forward"]) / options.layers
    encoders = (mean["forward, VIF"] - mean["forward"]) / len(pairs) - injection
    costs = {"injection": injection, "encoders in the pass": encoders, "encoders alone": mean["encoders of a pair"]}
    told = ", ".join(f"{name} {1 + PAIRS * cost / whole:.4f}" for name, cost in costs.items())
    print(f"projected to {PAIRS} pairs on {LAYERS} layers: {told}")
    matrix = 32 * (options.text + 576) ** 2 * DTYPES[options.dtype].itemsize / 2**20
    for name, mib in memory.items():
        print(f"{name:26} peak {mib:8.1f} MiB   extra {mib - memory['forward']:6.1f} MiB")
    print(f"one layer's attention matrix would be {matrix:.1f} MiB")


if __name__ == "__main__":
    main()
