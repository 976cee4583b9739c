"""A model with VIF: it proves itself, its passes and losses are the paper's, and it can be switched off."""

from __future__ import annotations

from dataclasses import replace
from math import log, sqrt

import numpy as np
import pytest
import torch

from vif_core.data.sample import Sample
from vif_core.errors import UnsupportedModel, UsageError
from vif_core.flow.op import CARRIED
from vif_core.vif.config import VIFConfig
from vif_core.vif.guide import guide_loss
from vif_core.vif.losses import entropy, kl_divergence, volume
from vif_core.vif.model import add_vif
from vif_core.vif.objective import answer_loss
from vif_core.vif.turns import NONE, grid_places, turns_of
from vif_core.vlm.tiny import TINY_FAMILIES, tiny_model, tiny_samples

# -- attaching


@pytest.mark.parametrize("attn", ["sdpa", "eager"])
def test_it_attaches_to_every_family_and_changes_what_the_model_says(family, attn, make, encode, logits_of):
    vlm = tiny_model(family, attn)
    before = logits_of(make(family, attn, alpha=0.0), batch := encode(vlm))
    with torch.inference_mode():
        assert torch.equal(vlm.model(**batch.inputs).logits, before), "alpha 0 is the base model, bit for bit"
    model = make(family, attn)
    batch = encode(model.vlm)
    after = logits_of(model, batch)
    assert not torch.allclose(after, before, atol=1e-2)
    with model.disable_vif():
        assert torch.equal(logits_of(model, batch), before)
    assert torch.equal(logits_of(model, batch), after)


def test_the_model_knows_its_vif(make):
    model = make()
    assert model.vlm.vif is model
    assert model.base is model.vlm.model
    assert model.facts() == {"pairs": [[0, 1], [1, 2]], "alpha": 0.5, "preset": "paper", "variant": "none"}


def test_attaching_twice_is_refused(make):
    with pytest.raises(UsageError, match=r"tiny-llava has VIF already\. Load the base model for another one"):
        add_vif(make().vlm)


def test_a_decoder_too_shallow_for_the_default_pairs_is_refused():
    with pytest.raises(UsageError, match="Give `pairs` for a decoder this shallow"):
        add_vif(tiny_model("llava"))


def refused(vlm, error, line, **options):
    """Attaching fails with this line, and the model is as it was."""
    batch = vlm.encode(tiny_samples(2))
    with torch.inference_mode():
        before = vlm.model(**batch.inputs).logits
    with pytest.raises(error, match=line):
        add_vif(vlm, VIFConfig(pairs=((0, 1), (1, 2)), slots=4, width=32, **options))
    assert vlm.vif is None
    assert not vlm.model._forward_pre_hooks
    assert all(CARRIED not in layer.attention.__dict__ for layer in vlm.layers)
    with torch.inference_mode():
        assert torch.equal(vlm.model(**batch.inputs).logits, before)


def test_a_model_whose_visual_tokens_lie_on_no_grid_is_refused():
    vlm = tiny_model("llava")
    vlm.model.config.qformer_config = {}
    refused(
        vlm, UnsupportedModel, r"no map reached the injection layers \[1, 2\] of tiny-llava; expected visual tokens"
    )


def test_an_injection_layer_that_the_op_does_not_serve_is_refused(monkeypatch):
    vlm = tiny_model("llava")
    attention = vlm.layers[2].attention
    monkeypatch.setattr(attention, "forward", lambda hidden_states, **_: (torch.zeros_like(hidden_states), None))
    refused(vlm, UnsupportedModel, r"interventions at layers \[2\] of tiny-llava did not fire")


def test_two_models_in_one_process_do_not_meet(make, encode, logits_of):
    plain = tiny_model("llava")
    one, two = make(seed=1), make(seed=2)
    batch, own = encode(plain), encode(one.vlm)
    with torch.inference_mode():
        base = plain.model(**batch.inputs).logits
    first, second = logits_of(one, own), logits_of(two, own)
    assert not torch.allclose(first, second, atol=1e-3)
    with torch.inference_mode():
        assert torch.equal(plain.model(**batch.inputs).logits, base)
    assert torch.equal(logits_of(one, own), first)


def test_fresh_spotlights_fit_any_dtype_of_the_base(make, encode, logits_of):
    exact = make()
    wanted = logits_of(exact, encode(exact.vlm))
    half = make()
    half.base.to(torch.bfloat16)
    given = logits_of(half, encode(half.vlm))
    assert given.dtype == torch.bfloat16
    assert next(half.generator.parameters()).dtype == torch.float32
    torch.testing.assert_close(given.float(), wanted, atol=0.5, rtol=0)


# -- equation 8 and 10


@pytest.fixture
def trained(make, encode):
    """A model in training, its batch, and labels on the answers."""

    def prepare(**options):
        model = make(**options).train()
        batch = encode(model.vlm)
        labels = torch.full_like(batch.inputs["input_ids"], -100)
        for b, layout in enumerate(batch.layouts):
            start = batch.pad[b] + layout.response_start
            labels[b, start:] = batch.inputs["input_ids"][b, start:]
        return model, batch, labels

    return prepare


def test_equation_8_counts_the_answers_tokens_alone():
    """Two words, of which the right one has probability 3/4 at the first answer token and 1/2 at the second."""
    logits = torch.tensor([[[9.0, 0.0], [log(3), 0.0], [0.0, 0.0], [0.0, 9.0]]])
    labels = torch.tensor([[-100, -100, 0, 1]])
    torch.testing.assert_close(answer_loss(logits, labels).item(), -(log(3 / 4) + log(1 / 2)) / 2)
    weighted = answer_loss(logits, labels, torch.tensor([[0.0, 0.0, 3.0, 1.0]]))
    torch.testing.assert_close(weighted.item(), -(3 * log(3 / 4) + log(1 / 2)) / 4)
    assert answer_loss(logits, labels * 0 - 100) == 0


def test_equation_8_draws_from_the_posterior_in_training_and_from_the_prior_in_inference(trained):
    model, batch, _ = trained()
    reading = model(**batch.inputs).readings[0]
    noise = model.current.noise[0]
    drawn = model.generator.slots(reading.posterior.at(noise))
    assert torch.equal(reading.lights.centres, drawn.centres)
    reading = model.eval()(**batch.inputs).readings[0]
    assert reading.posterior is None
    assert torch.equal(reading.lights.centres, model.generator.slots(reading.prior.mean).centres)


def test_equation_10_adds_up_cross_entropy_kl_and_sparsity(trained):
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


# -- turns


def two_turns(response=(50, 60), later=(70, 71, 72)):
    """One sequence of tiny-llava: a picture, a question, its response, and another question."""
    ids = [1, 40, *[3] * 16, 41, 42, 43, *response, 44, *later]
    turn = [0, 0, *[0] * 16, 1, 1, 1, *[1] * len(response), 2, *[2] * len(later)]
    answer = [0] * 21 + [1] * len(response) + [0] * (1 + len(later))
    visual = np.array([ids]) == 3
    centres = np.stack(np.meshgrid(*[(np.arange(4) + 0.5) / 4] * 2, indexing="ij"), -1).reshape(-1, 2)
    turns = turns_of(np.array([turn]), np.array([answer], bool), visual, [(centres, np.ones((16, 2)))])
    pixels = torch.randn(1, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    return {"input_ids": torch.tensor([ids]), "pixel_values": pixels}, turns


def maps_of(model, given, draw="prior-mean"):
    inputs, turns = given
    with torch.inference_mode(), model.drawing(draw):
        return [reading.maps for reading in model(**inputs, turns=turns).readings]


def test_two_turns_of_a_sequence_have_two_maps_on_their_own_rows(make):
    model = make()
    given = two_turns()
    for maps in maps_of(model, given):
        assert maps.shape == (2, 16)
        torch.testing.assert_close(maps.sum(-1), torch.ones(2))
        assert not torch.allclose(maps[0], maps[1], atol=1e-3)
    assert model.current.blends[1].turn[0].tolist() == [NONE] * 18 + [0] * 5 + [1] * 4


def test_maps_do_not_depend_on_their_own_response(make):
    model = make()
    for one, two in zip(maps_of(model, two_turns()), maps_of(model, two_turns(response=(99, 88))), strict=True):
        assert torch.equal(one[0], two[0])


def test_maps_do_not_depend_on_later_turns(make):
    model = make()
    for one, two in zip(maps_of(model, two_turns()), maps_of(model, two_turns(later=(9, 9, 9))), strict=True):
        assert torch.equal(one[0], two[0])
        assert not torch.allclose(one[1], two[1], atol=1e-4)


def test_the_posteriors_map_depends_on_the_answer(make, encode):
    model = make()
    one, two = encode(model.vlm), encode(model.vlm, [[99, 98, 97], [50, 60, 70, 80, 90], [44]])
    priors, posteriors = (
        [
            [reading.maps for reading in model(**batch.inputs).readings]
            for batch in (one, two)
            for _ in [model.__setattr__("draw", draw)]
        ]
        for draw in ("prior-mean", "posterior-mean")
    )
    for a, b in zip(*priors, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)
    for a, b in zip(*posteriors, strict=True):
        assert not torch.allclose(a[0], b[0], atol=1e-4)
        torch.testing.assert_close(a[1:], b[1:], atol=1e-6, rtol=0)


def test_a_batch_of_words_alone_has_no_map_and_no_loss_of_vif(make):
    model = make().train()
    ids = torch.randint(10, 200, (2, 12))
    out = model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids)
    assert out.readings == ()
    assert out.kl == out.volume == out.entropy == out.guide == 0
    out.loss.backward()
    assert all(parameter.grad is not None for parameter in model.generator.parameters())


def test_plain_inputs_are_one_question_each(make, encode, logits_of):
    model = make()
    batch = encode(model.vlm, None)
    told = logits_of(model, batch)
    with torch.inference_mode():
        plain = {name: value for name, value in batch.inputs.items() if name != "turns"}
        assert torch.equal(model.base(**plain).logits, told)
        ids = plain.pop("input_ids")
        assert torch.equal(model.base(ids, **plain).logits, told)


def test_plain_inputs_of_several_pictures_lie_where_the_samples_do(family, make, logits_of):
    model = make(family)
    one, two, three = tiny_samples(3)
    pairs = [replace(one, images=one.images + two.images), replace(three, images=three.images + one.images)]
    batch = model.vlm.encode(pairs)
    told = logits_of(model, batch)
    del batch.inputs["turns"]
    assert torch.equal(logits_of(model, batch), told)


def test_plain_inputs_without_their_pictures_are_refused(make, encode):
    model = make()
    inputs = encode(model.vlm, None).inputs
    with pytest.raises(UsageError, match="0 images for the visual tokens of 3 prompts; expected as many images"):
        model.base(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])


# -- draws and controls


def test_draws_repeat_for_the_same_question_in_any_batch_and_change_with_the_seed(make):
    model = make(inference="draw")
    samples = tiny_samples(3)
    one = maps_of(model, split(model.vlm.encode(samples, [[20], [30], [40]])), "prior-draw")
    again = maps_of(model, split(model.vlm.encode(samples[2:])), "prior-draw")
    for a, b in zip(one, again, strict=True):
        torch.testing.assert_close(a[2:], b, atol=1e-5, rtol=0)
    model.draw_seed = 1
    other = maps_of(model, split(model.vlm.encode(samples[2:])), "prior-draw")
    assert not torch.allclose(other[0], again[0], atol=1e-3)
    assert not torch.allclose(maps_of(model, split(model.vlm.encode(samples[2:])))[0], again[0], atol=1e-3)


def split(batch):
    return {name: value for name, value in batch.inputs.items() if name != "turns"}, batch.inputs["turns"]


def test_swapped_maps_are_another_samples(make, encode):
    model = make()
    own, *_ = maps_of(model, split(encode(model.vlm)))
    model.maps_from = "swapped"
    swapped, *_ = maps_of(model, split(encode(model.vlm)))
    torch.testing.assert_close(swapped, own[[1, 2, 0]])


def test_a_constant_map_is_the_same_for_all_and_learns(make, encode):
    model = make().train()
    model.maps_from = "constant"
    out = model(**encode(model.vlm).inputs)
    for reading in out.readings:
        torch.testing.assert_close(reading.maps, reading.maps[:1].expand(3, -1))
    out.logits.square().mean().backward()
    assert model.generator.slots.anchors.grad.abs().max() > 0


def test_a_few_pairs_a_pass_may_have_a_map(make, encode):
    model = make().train()
    model.pairs_a_pass = 1
    batch = encode(model.vlm)
    torch.manual_seed(0)
    used = [frozenset(model(**batch.inputs) and model.current.readings) for _ in range(8)]
    assert set(used) == {frozenset({1}), frozenset({2})}
    model.eval()
    assert len(model(**batch.inputs).readings) == 2


# -- spotlights


def test_spotlights_of_a_sample_by_pair_and_branch(make, answered):
    model = make()
    found = model.spotlights(answered[0])
    assert list(found) == [(0, 1), (1, 2)]
    for branches in found.values():
        assert list(branches) == ["prior", "posterior"]
        for lights in branches.values():
            assert lights.centres.shape == (4, 2)
            assert lights.spreads.shape == lights.weights.shape == (4,)
            torch.testing.assert_close(lights.weights.sum(), torch.tensor(1.0))
    assert list(model.spotlights(replace(answered[0], answer=None))[0, 1]) == ["prior"]


def test_an_answer_that_no_sequence_can_hold_gives_the_prior_alone(make, answered):
    odd = replace(answered[0], answer="the <image> there")
    found = make().spotlights_of([answered[0], odd])
    assert [list(lights[0, 1]) for lights in found] == [["prior", "posterior"], ["prior"]]


def test_spotlights_draw_the_map_that_is_used(make, answered):
    model = make()
    lights = model.spotlights(answered[0])[0, 1]["prior"]
    batch = model.vlm.encode(answered[:1])
    maps = maps_of(model, split(batch))[0]
    canvas = model.current.readings[1].canvas
    one = replace(lights, **{name: value[None] for name, value in vars(lights).items()})
    torch.testing.assert_close(canvas.draw(one, model.config), maps, atol=1e-6, rtol=0)


def test_draws_of_spotlights_scatter_around_the_mean(make, answered):
    model = make()
    torch.manual_seed(0)
    drawn = model.spotlights(answered[0], draws=200)[0, 1]["posterior"]
    assert drawn.centres.shape == (200, 4, 2)
    mean = model.spotlights(answered[0])[0, 1]["posterior"]
    assert drawn.centres.std(0).min() > 0
    assert (drawn.centres.mean(0) - mean.centres).abs().max() < 0.15


def test_spotlights_of_a_model_in_training_are_those_of_one_that_is_not(make, answered):
    model = make()
    wanted = model.spotlights(answered[0])[1, 2]["posterior"]
    found = model.train().spotlights(answered[0])[1, 2]["posterior"]
    assert torch.equal(found.centres, wanted.centres)
    assert model.generator.training


def test_a_sample_without_a_picture_has_no_spotlights(make):
    with pytest.raises(UsageError, match="sample words has no spotlights; expected a picture"):
        make().spotlights(Sample("words", (), "what is this?"))


# -- variants


def test_no_posterior_draws_from_the_prior_in_training_too_and_has_no_kl(trained):
    model, batch, labels = trained(variant="no-posterior")
    out = model(**batch.inputs, labels=labels)
    reading = out.readings[0]
    assert reading.posterior is None
    assert torch.equal(reading.lights.centres, model.generator.slots(reading.prior.at(model.current.noise[0])).centres)
    assert out.kl == 0
    sparse = out.entropy + out.volume
    torch.testing.assert_close(out.loss, out.cross_entropy + 0.1 * sparse)


def test_no_sparsity_leaves_its_losses_out(trained):
    model, batch, labels = trained(variant="no-sparsity")
    out = model(**batch.inputs, labels=labels)
    assert out.volume > 0
    torch.testing.assert_close(out.loss, out.cross_entropy + 0.1 * out.kl)


def test_full_sequence_weighs_text_as_well_as_visual_tokens(make, encode):
    model = make(variant="full-sequence")
    batch = encode(model.vlm, None)
    (maps, *_), layout = maps_of(model, split(batch)), batch.layouts[0]
    own = maps[0, batch.pad[0] :]
    torch.testing.assert_close(own.sum(), torch.tensor(1.0))
    text = np.setdiff1d(np.arange(len(layout)), layout.visual)
    assert (own[torch.from_numpy(text)] > 0).all()
    assert model.spotlights(tiny_samples(1)[0])[0, 1]["prior"].centres.shape == (4, 1)


def test_deep_only_reads_the_injection_layers_own_input(make, encode):
    model = make(variant="deep-only", pairs=((0, 2),))
    assert model.config.pairs == ((1, 2),)
    batch = encode(model.vlm)
    seen = []
    deep = model.base.get_decoder().layers[2]
    handle = deep.register_forward_pre_hook(lambda _, args, kwargs: seen.append(args[0]), with_kwargs=True)
    with torch.inference_mode():
        reading = model(**batch.inputs).readings[0]
        latent = model.generator(seen[0], batch.inputs["turns"], reading.canvas, posterior=False).prior
    handle.remove()
    assert torch.equal(latent.mean, reading.prior.mean)


def test_mid_feature_mixes_hidden_states_of_visual_tokens_in_place_of_flow(make, encode):
    model = make(variant="mid-feature", alpha=0.25, pairs=((0, 2),))
    batch = encode(model.vlm)
    layers = model.base.get_decoder().layers
    mid, before, after = [], [], []
    handles = [
        layers[0].register_forward_hook(lambda _, __, output: mid.append(output)),
        layers[1].register_forward_hook(lambda _, __, output: before.append(output)),
        layers[2].register_forward_pre_hook(lambda _, args, kwargs: after.append(args[0]), with_kwargs=True),
    ]
    with torch.inference_mode():
        out = model(**batch.inputs)
    for handle in handles:
        handle.remove()
    visual = batch.inputs["input_ids"] == model.vlm.image_token_id
    assert visual.sum() == 48
    torch.testing.assert_close(after[0][visual], 0.75 * before[0][visual] + 0.25 * mid[0][visual])
    assert torch.equal(after[0][~visual], before[0][~visual])
    assert out.readings == ()
    with pytest.raises(UsageError, match="has no spotlights"):
        model.spotlights(tiny_samples(1)[0])


@pytest.mark.parametrize("variant", ["no-posterior", "no-sparsity", "full-sequence", "deep-only", "mid-feature"])
@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_every_variant_answers(family, variant, make, encode, logits_of):
    model = make(family, variant=variant, pairs=((0, 2),))
    batch = encode(model.vlm)
    changed = logits_of(model, batch)
    with model.disable_vif():
        assert not torch.allclose(logits_of(model, batch), changed, atol=1e-3)
    assert [len(ids) for ids in model.vlm.generate(tiny_samples(2), 3)] == [3, 3]


def test_places_of_a_grid_are_used_as_told():
    """`two_turns` lays its own grid: it is the one that a real picture would have."""
    vlm = tiny_model("llava")
    (layout,) = vlm.encode(tiny_samples(1)).layouts
    _, turns = two_turns()
    np.testing.assert_allclose(turns.points[0].numpy(), grid_places(layout.grids, 16)[0], atol=1e-6)
