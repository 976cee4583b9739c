"""VIF trains: gradients reach all of it, under checkpointing, compilation and DDP as without."""

from __future__ import annotations

import logging

import jaxtyping
import pytest
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from vif_core.vlm.tiny import tiny_samples


def answers(model, batch):
    """Labels on the response tokens."""
    labels = torch.full_like(batch.inputs["input_ids"], -100)
    for row, ids, layout, pad in zip(labels, batch.inputs["input_ids"], batch.layouts, batch.pad, strict=True):
        row[pad + layout.response_start :] = ids[pad + layout.response_start :]
    return labels


def gradients(model, call, batch):
    """Gradients of one step, with the same noise each time."""
    model.zero_grad()
    torch.manual_seed(0)
    out = call(**batch.inputs, use_cache=False, labels=answers(model, batch))
    out.loss.backward()
    return out, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("attn", ["sdpa", "eager"])
def test_two_steps_reach_all_of_vif(family, attn, make, encode):
    model = make(family, attn).train()
    batch = encode(model.vlm)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    before = {name: p.detach().clone() for name, p in model.generator.named_parameters()}
    losses = []
    for _ in range(2):
        out, found = gradients(model, model, batch)
        losses.append(out.loss.item())
        silent = [name for name in before if not found[f"generator.{name}"].abs().max() > 0]
        assert silent == []
        optimizer.step()
    assert all(torch.isfinite(grad).all() for grad in found.values())
    assert all(not torch.equal(p, before[name]) for name, p in model.generator.named_parameters())
    assert losses[1] < losses[0]


def test_the_answers_loss_alone_reaches_vif_through_the_injected_flow(make, encode):
    model = make(lambda_kl=0.0, lambda_sp=0.0).train()
    _, found = gradients(model, model, encode(model.vlm))
    for part in ("generator.posterior.mean.weight", "generator.slots.read.weight", "generator.slots.anchors"):
        assert found[part].abs().max() > 1e-6
    assert found["generator.prior.mean.weight"].abs().max() == 0  # the map came from the posterior


@pytest.mark.parametrize("options", [{}, {"variant": "mid-feature", "pairs": ((0, 2),)}, {"variant": "full-sequence"}])
def test_checkpointing_gives_the_same_gradients(family, options, make, encode):
    model = make(family, **options).train()
    batch = encode(model.vlm)
    plain, wanted = gradients(model, model, batch)
    model.base.activation_checkpointing_enable({"use_reentrant": False})
    again, found = gradients(model, model, batch)
    torch.testing.assert_close(again.loss, plain.loss)
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-4, msg=lambda m, name=name: f"{name}: {m}")


@pytest.fixture
def unchecked():
    """Without the shape checks of tests, which the compiler cannot trace, and without its own trace in the logs."""
    jaxtyping.config.update("jaxtyping_disable", True)
    logging.disable(logging.INFO)
    torch.compiler.reset()
    yield
    torch.compiler.reset()
    logging.disable(logging.NOTSET)
    jaxtyping.config.update("jaxtyping_disable", False)


def test_a_compiled_layer_says_the_same(unchecked, make, encode, logits_of):
    """Layer 1 is the first pair's injection layer and the second one's extraction layer."""
    model = make()
    batch = encode(model.vlm)
    wanted = logits_of(model, batch)
    model.base.get_decoder().layers[1].compile(backend="eager")
    torch.testing.assert_close(logits_of(model, batch), wanted, atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # the compiler's own
def test_a_compiled_model_trains_the_same(unchecked, make, encode):
    model = make().train()
    batch = encode(model.vlm)
    _, wanted = gradients(model, model, batch)
    model.base.get_decoder().compile(backend="aot_eager")
    _, found = gradients(model, model, batch)
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-4)


@pytest.fixture
def process_group():
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def test_ddp_gives_the_same_gradients_and_takes_batches_of_words_alone(process_group, make, encode):
    model = make().train()
    for name, parameter in model.base.named_parameters():
        parameter.requires_grad_("language_model" in name or "lm_head" in name)
    batch = encode(model.vlm)
    _, wanted = gradients(model, model, batch)
    parallel = DistributedDataParallel(model)  # which refuses a pass that some parameter had no part in
    ids = torch.randint(10, 200, (2, 12))
    parallel(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids).loss.backward()
    _, found = gradients(model, parallel, batch)
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-6, rtol=1e-4)
    parallel(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids).loss.backward()


def test_a_strength_that_is_warmed_up_is_the_one_in_use(make, encode, logits_of):
    model = make()
    batch = encode(model.vlm)
    half = logits_of(model, batch)
    model.alpha = torch.tensor(0.5)
    torch.testing.assert_close(logits_of(model, batch), half)
    model.alpha = torch.tensor(0.0)
    with model.disable_vif():
        base = logits_of(model, batch)
    assert torch.equal(logits_of(model, batch), base)


def test_evaluation_between_passes_leaves_no_trace(make, encode):
    model = make().train()
    batch = encode(model.vlm)
    _, wanted = gradients(model, model, batch)
    model.eval().vlm.generate(tiny_samples(2), 3)
    _, found = gradients(model.train(), model, batch)
    assert all(torch.equal(found[name], gradient) for name, gradient in wanted.items())
