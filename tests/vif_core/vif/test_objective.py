"""The losses of a pass are the paper's (equations 8 and 10), and the guide teaches what it says."""

from __future__ import annotations

from math import log, sqrt

import pytest
import torch

from vif_core.errors import UsageError
from vif_core.vif.guide import guide_loss
from vif_core.vif.losses import entropy, kl_divergence, volume
from vif_core.vif.objective import answer_loss
from vif_core.vlm.tiny import tiny_samples


def test_equation_8_counts_the_answers_tokens_alone():
    """Two words, of which the right one has probability 3/4 at the first answer token and 1/2 at the second."""
    logits = torch.tensor([[[9.0, 0.0], [log(3), 0.0], [0.0, 0.0], [0.0, 9.0]]])
    labels = torch.tensor([[-100, -100, 0, 1]])
    torch.testing.assert_close(answer_loss(logits, labels).item(), -(log(3 / 4) + log(1 / 2)) / 2)
    weighted = answer_loss(logits, labels, torch.tensor([[0.0, 0.0, 3.0, 1.0]]))
    torch.testing.assert_close(weighted.item(), -(3 * log(3 / 4) + log(1 / 2)) / 4)
    assert answer_loss(logits, labels * 0 - 100) == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_a_batch_without_a_label_teaches_nothing(dtype):
    """Whatever its logits: models mask words with the least number of all."""
    logits = torch.full((1, 4, 300), torch.finfo(dtype).min, dtype=dtype, requires_grad=True)
    loss = answer_loss(logits, torch.full((1, 4), -100))
    loss.backward()
    assert loss == 0
    assert (logits.grad == 0).all()


def test_equation_8_draws_from_the_posterior_in_training_and_from_the_prior_in_inference(trained):
    model, batch, _ = trained()
    reading = model(**batch.inputs).readings[0]
    noise = model.current.noise[0]
    drawn = model.generator.slots(reading.posterior.at(noise))
    assert torch.equal(reading.lights.centres, drawn.centres)
    reading = model.eval()(**batch.inputs).readings[0]
    assert reading.posterior is None
    assert torch.equal(reading.lights.centres, model.generator.slots(reading.prior.mean).centres)


@pytest.mark.parametrize(
    ("variant", "loss"),
    [("none", 1.0 + 0.3 * 2.0 + 0.2 * (0.5 * 5.0 + 2.0 * 3.0)), ("no-sparsity", 1.0 + 0.3 * 2.0)],
)
def test_equation_10_of_given_parts(trained, monkeypatch, variant, loss):
    """Cross-entropy 1, KL 2, volume 3, entropy 5; weights 0.3 of the KL and 0.2 of sparsity."""
    weights = {"lambda_kl": 0.3, "lambda_sp": 0.2, "entropy_weight": 0.5, "volume_weight": 2.0}
    model, batch, labels = trained(variant=variant, **weights)
    monkeypatch.setattr("vif_core.vif.model.answer_loss", lambda *_: 1.0)
    monkeypatch.setattr("vif_core.vif.model.pair_losses", lambda *_: (2.0, 3.0, 5.0, 7.0))
    assert model(**batch.inputs, labels=labels).loss.item() == pytest.approx(loss)


def test_equation_10_adds_up_cross_entropy_kl_and_sparsity(trained):
    """The parts are those of the pass."""
    model, batch, labels = trained(lambda_kl=0.3, lambda_sp=0.2, entropy_weight=0.5, volume_weight=2.0)
    out = model(**batch.inputs, labels=labels)
    kl = torch.stack([kl_divergence(r.posterior, r.prior).mean() for r in out.readings]).mean()
    spread = torch.stack([volume(r.lights).mean() for r in out.readings]).mean()
    mixture = torch.stack([entropy(r.lights.weights).mean() for r in out.readings]).mean()
    torch.testing.assert_close(out.cross_entropy, answer_loss(out.logits, labels))
    for found, wanted in ((out.kl, kl), (out.volume, spread), (out.entropy, mixture)):
        torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(out.loss, out.cross_entropy + 0.3 * kl + 0.2 * (0.5 * mixture + 2.0 * spread))
    assert all(value > 0 for value in (kl, spread, mixture))


def test_labels_without_turns_are_refused(trained):
    """All text would be question, and the prior would read the answer."""
    model, batch, labels = trained()
    inputs = {name: value for name, value in batch.inputs.items() if name != "turns"}
    with pytest.raises(UsageError, match=r"labels for tiny-llava without turns, .*; expected turns"):
        model(**inputs, labels=labels)
    with model.giving(batch.inputs["turns"]):
        assert model(**inputs, labels=labels).kl > 0
    model(**inputs)


def test_a_summed_kl_is_that_of_slots_and_dimensions(trained):
    model, batch, _ = trained(kl_reduction="sum")
    out = model(**batch.inputs)
    sums = [kl_divergence(r.posterior, r.prior).sum((-1, -2)).mean() for r in out.readings]
    torch.testing.assert_close(out.kl, torch.stack(sums).mean())


def test_losses_of_the_release_are_those_of_its_first_pair(trained):
    model, batch, _ = trained(preset="release", width=32, depth=1)
    out = model(**batch.inputs)
    first = out.readings[0]
    torch.testing.assert_close(out.kl, kl_divergence(first.posterior, first.prior).mean())
    torch.testing.assert_close(out.volume, first.lights.spreads.square().mean())
    torch.testing.assert_close(out.entropy, entropy(first.maps).mean())


def test_the_first_pair_is_the_configurations_first_whatever_runs_first(trained):
    model, batch, _ = trained(losses_of="first-pair", pairs=((1, 2), (0, 1)))
    out = model(**batch.inputs)
    first = model.current.readings[2]
    assert out.readings[0] is first
    torch.testing.assert_close(out.kl, kl_divergence(first.posterior, first.prior).mean())


def test_a_share_of_the_turns_may_learn_from_the_prior(trained):
    model, batch, _ = trained()
    batch = model.vlm.encode(tiny_samples(3) * 20, [[20, 30]] * 60)
    model.posterior_share = 0.5
    torch.manual_seed(0)
    reading, noise = model(**batch.inputs).readings[0], None
    noise = model.current.noise[0]
    centres = [model.generator.slots(latent.at(noise)).centres for latent in (reading.posterior, reading.prior)]
    own = [[torch.equal(a, b) for a, b in zip(reading.lights.centres, each, strict=True)] for each in centres]
    assert 15 < sum(own[0]) < 45
    assert [not posterior for posterior in own[0]] == own[1]
    model.posterior_share = 0.0
    reading = model(**batch.inputs).readings[0]
    noise = model.current.noise[0]
    assert torch.equal(reading.lights.centres, model.generator.slots(reading.prior.at(noise)).centres)


def test_the_guide_is_the_cross_entropy_against_the_sharpened_flow():
    maps, target = torch.tensor([[0.5, 0.25, 0.25]]), torch.tensor([[[0.75, 0.25, 0.0]]])  # squares 9 : 1
    torch.testing.assert_close(guide_loss(maps, target).item(), -(0.9 * log(0.5) + 0.1 * log(0.25)))


def test_a_seeking_guide_asks_for_the_best_place_of_every_row_by_how_surely_it_looks():
    maps = torch.tensor([[0.5, 0.25, 0.25]])
    rows = torch.tensor([[[0.8, 0.4, 0.0], [0.1, 0.0, 0.2], [0.0, 0.0, 0.0]]])  # peaks 4 : 1
    expected = 1 - (16 * sqrt(0.5 + 0.25 / 4) + sqrt(0.25 + 0.5 / 4)) / 17
    torch.testing.assert_close(guide_loss(maps, rows, seeking=True).item(), expected)
    alone = [torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[0.5, 0.0, 0.5]])]
    lists = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]])
    assert guide_loss(alone[0], lists[:, :1], seeking=True) < guide_loss(alone[1], lists[:, :1], seeking=True)
    assert guide_loss(alone[1], lists, seeking=True) < guide_loss(alone[0], lists, seeking=True)


def test_the_guides_target_is_the_flow_of_the_rows_that_produce_the_answer(trained, record):
    model, batch, _ = trained()
    model.guiding = True
    (call,) = record(model, batch, 0, lambda: model(**batch.inputs))
    reading = model(**batch.inputs).readings[0]
    for b, layout in enumerate(batch.layouts):
        rows = torch.from_numpy(layout.rows("response")) + batch.pad[b]
        flow = call.rows(rows.expand(3, -1))[b].mean(0)[:, batch.pad[b] + layout.visual]
        told = reading.target[b][: len(rows)]
        torch.testing.assert_close(told.flip(0), flow, atol=1e-6, rtol=1e-4)
        assert (reading.target[b][len(rows) :] == 0).all()
    torch.testing.assert_close(
        model(**batch.inputs).guide > 0, torch.tensor(True)
    )  # of the map, and of the prior's mean


def test_the_guide_fits_every_canvas(trained):
    """Along the whole sequence as over the image; newline tokens, where no spotlight falls, ask for nothing."""
    model, batch, _ = trained(variant="full-sequence")
    model.guiding = True
    (reading, *_) = model(**batch.inputs).readings
    assert reading.target[:, 0].shape == reading.maps.shape
    hidden = ~reading.canvas.covered[:, None].expand_as(reading.target)
    assert (reading.target[hidden] == 0).all()
    assert (reading.target.sum(-1)[:, 0] > 0).all()
    model, batch, _ = trained(family="llava_next")
    model.guiding = True
    (reading, *_) = model(**batch.inputs).readings
    hidden = ~reading.canvas.covered[:, None].expand_as(reading.target)
    assert hidden.any()
    assert (reading.target[hidden] == 0).all()
