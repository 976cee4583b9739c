"""The flow that VIF makes is equations 5 to 7, measured or written out, in one pass or step by step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import CompileConfig

from vif_core.data.listed import Listed
from vif_core.vlm.layout import SEGMENTS
from vif_core.vlm.tiny import tiny_samples
from vifscope import pipeline
from vifscope.measure import Reading
from vifscope.runs import RunStore
from vifscope.trace.capture import capture, padded_rows

STEPS = 8


@pytest.mark.parametrize("attn", ["sdpa", "eager"])
def test_the_measured_flow_of_an_injected_layer_is_the_reference(family, attn, make, encode, record, flows, attended):
    """Batches are padded on the left; heads are grouped; gemma3 and sinks have sliding windows, sinks have sinks."""
    model = make(family, attn)
    batch = encode(model.vlm)
    rows = [layout.rows("text") for layout in batch.layouts]
    measured = dict(enumerate(capture(model.vlm, batch, rows, lambda _, flow: flow)))
    for layer in model.config.injected:

        def run():
            with torch.inference_mode():
                model.base(**batch.inputs)

        (call,) = record(model, batch, layer, run)
        before, _, after, changed = flows(call, model.current.blends[layer])
        at = padded_rows(batch, rows)
        wanted = after.take_along_dim(at[:, None, :, None], dim=2)
        print(f"{family} {attn} layer {layer}: max difference {(measured[layer] - wanted).abs().max():.1e}")
        torch.testing.assert_close(measured[layer], wanted, atol=1e-5, rtol=0)
        assert (after - before).abs().max() > 0.01
        told = changed.gather(1, at)[:, None, :, None].expand_as(wanted)[..., 0]
        torch.testing.assert_close(measured[layer].sum(-1)[told], torch.ones(int(told.sum())))
        hidden = ~call.visible(at, torch.arange(wanted.shape[-1]).expand(len(at), -1))[:, None].expand_as(wanted)
        assert (measured[layer][hidden] == 0).all()


@pytest.mark.parametrize("pictures", [1, 2])
def test_the_output_of_an_injected_layer_is_the_references(family, pictures, make, encode, record, flows, attended):
    """A sample of two pictures goes alone, without padding and so without a mask: what stands between them must not
    read the second."""
    model = make(family)
    batch = encode(model.vlm)
    if pictures == 2:
        one, other, _ = tiny_samples(3)
        batch = model.vlm.encode([replace(one, images=(*one.images, *other.images))], [[20, 30, 40]])
    layer = model.config.injected[0]
    outputs = []
    module = next(each.attention for each in model.vlm.layers if each.index == layer)
    handle = module.o_proj.register_forward_pre_hook(lambda _, args: outputs.append(args[0]))

    def run():
        with torch.inference_mode():
            model.base(**batch.inputs)

    (call,) = record(model, batch, layer, run)
    handle.remove()
    _, _, after, _ = flows(call, model.current.blends[layer])
    wanted = attended(after, call.value)
    kept = batch.inputs["attention_mask"].bool()
    torch.testing.assert_close(outputs[-1].view(wanted.shape)[kept], wanted[kept], atol=1e-5, rtol=0)


def generated(model, **options):
    """A batch, and what generation gives for it."""
    batch = model.vlm.encode(tiny_samples(2))
    settings = {"max_new_tokens": STEPS, "min_new_tokens": STEPS, "do_sample": False} | options
    return batch, model.generate(**batch.inputs, **settings)


@pytest.mark.parametrize("later", ["turn", "none"])
@pytest.mark.parametrize("layer", [1, 2])
def test_flow_of_one_pass_is_that_of_cached_steps(family, layer, later, make, record, flows):
    """Layer 2 of gemma3 and of sinks has a sliding window, and a cache that has dropped the image."""
    model = make(family, later=later)
    told = []
    calls = record(model, model.vlm.encode(tiny_samples(2)), layer, lambda: told.extend(generated(model)))
    batch, tokens = told
    blend = model.current.blends[layer]
    assert len(calls) == STEPS
    again = model.vlm.encode(tiny_samples(2), tokens[:, batch.length :].tolist())
    rows = [layout.rows("response") for layout in again.layouts]
    flow = capture(model.vlm, again, rows, lambda _, flow: flow)[layer]  # [B H R K]
    worst, told = 0.0, []
    for step, call in enumerate(calls):
        _, _, after, changed = flows(call, blend)
        keys = slice(call.key_positions.start, call.key_positions.stop)  # a sliding cache has dropped the first
        worst = max(worst, float((after[:, :, -1] - flow[:, :, step, keys]).abs().max().detach()))
        assert (flow[:, :, step, : keys.start] == 0).all()
        assert (flow[:, :, step, keys.stop :] == 0).all()
        told.append(bool(changed[:, -1].all()))
    print(f"{family}, layer {layer}, {later}: max difference {worst:.1e}")
    assert worst < 1e-5
    if len(calls[-1].key_positions) == again.length - 1:
        assert told == [step == 0 or later == "turn" for step in range(STEPS)]
    else:
        assert layer == 2


@pytest.mark.parametrize("later", ["turn", "none"])
def test_logits_of_one_pass_are_those_of_cached_steps(family, later, make):
    model = make(family, later=later)
    batch, out = generated(model, output_logits=True, return_dict_in_generate=True)
    again = model.vlm.encode(tiny_samples(2), out.sequences[:, batch.length :].tolist())
    with torch.inference_mode():
        logits = model.base(**again.inputs).logits
    for step, wanted in enumerate(out.logits):
        torch.testing.assert_close(logits[:, batch.length - 1 + step], wanted, atol=1e-4, rtol=0)


def test_plain_processor_outputs_generate_what_the_model_generates(family, make):
    model = make(family)
    responses = model.vlm.generate(tiny_samples(3), STEPS)
    batch = model.vlm.encode(tiny_samples(3))
    plain = {name: value for name, value in batch.inputs.items() if name != "turns"}
    with torch.inference_mode():
        tokens = model.generate(**plain, max_new_tokens=STEPS, do_sample=False)[:, batch.length :]
    for response, row in zip(responses, tokens.tolist(), strict=True):
        assert row[: len(response)] == response
    with model.disable_vif():
        assert model.vlm.generate(tiny_samples(3), STEPS) != responses


@pytest.mark.parametrize("options", [{"use_cache": False}, {"cache_implementation": "static"}], ids=["none", "static"])
@pytest.mark.parametrize("family", ["llava", "gemma3", "sinks"])
def test_generation_is_the_same_with_any_cache(family, options, make):
    model = make(family)
    settings = {"output_logits": True, "return_dict_in_generate": True}
    (_, wanted), (_, found) = generated(model, **settings), generated(model, **settings, **options)
    assert torch.equal(wanted.sequences, found.sequences)
    for one, other in zip(wanted.logits, found.logits, strict=True):
        torch.testing.assert_close(other, one, atol=1e-4, rtol=0)


def test_a_static_cache_compiles_no_step(make, monkeypatch):
    """Each token would be compiled anew; transformers compiles on its own wherever there is a GPU."""
    model = make()
    compiling = CompileConfig(backend="eager")
    compiling._compile_all_devices = True
    monkeypatch.setattr(model.base, "get_compiled_call", lambda *_: pytest.fail("a step is compiled"))
    generated(model, cache_implementation="static", compile_config=compiling)
    with model.disable_vif():
        generated(model, cache_implementation="static", compile_config=compiling)


@pytest.mark.parametrize("plain", [False, True])
def test_beams_and_several_answers_keep_their_samples_maps(plain, make):
    model = make()
    batch, greedy = generated(model)
    inputs = {name: value for name, value in batch.inputs.items() if not plain or name != "turns"}
    options = {"max_new_tokens": STEPS, "min_new_tokens": STEPS}
    several = model.generate(**inputs, **options, do_sample=True, top_k=1, num_return_sequences=2)
    assert torch.equal(several, greedy.repeat_interleave(2, 0))
    assert model.current.blends[1].maps.shape[0] == 4
    beams = model.generate(**inputs, **options, do_sample=False, num_beams=3)
    assert beams.shape == greedy.shape


def test_generated_rows_take_no_map_where_it_is_for_the_prompt_alone(make, encode):
    model = make(later="none")
    batch = encode(model.vlm)
    start = [pad + layout.response_start for pad, layout in zip(batch.pad, batch.layouts, strict=True)]
    of = batch.inputs["turns"].of
    assert all((of[b, first:] < 0).all() and of[b, first - 1] == b for b, first in enumerate(start))
    of = model.train() and encode(model.vlm).inputs["turns"].of
    assert all((of[b, first:] == b).all() for b, first in enumerate(start)), "training gives answers the map"


def test_an_analysis_stores_the_flow_that_was_used(make, answered, record, flows, tmp_path):
    """The whole way: what `vifscope analyze` writes of an injected layer is the reference's."""
    model = make()
    reading = Reading(max_new_tokens=4)
    store = RunStore.open(pipeline.analyze(model.vlm, Listed("tiny", "1", answered), 3, tmp_path / "run", reading))
    for sample in answered:
        stored = store.sample(sample.sample_id)
        segment, ids = (np.asarray(stored[name]) for name in ("segment", "input_ids"))
        response = ids[segment == SEGMENTS.index("response")].tolist()
        batch = model.vlm.encode([sample], [response])

        def run_one(batch=batch):
            with torch.inference_mode():
                model.base(**batch.inputs)

        (call,) = record(model, batch, 2, run_one)
        _, _, after, _ = flows(call, model.current.blends[2])
        wanted = after[0].mean(0)[np.asarray(stored["query_rows"])][:, np.asarray(stored["visual"])]
        found = torch.from_numpy(np.asarray(store.flow(sample.sample_id)[2], dtype=np.float32))
        torch.testing.assert_close(found, wanted, atol=2e-3 * float(wanted.max()), rtol=0)  # stored in half precision
    assert store.manifest["model"]["vif"]["pairs"] == [[0, 1], [1, 2]]
