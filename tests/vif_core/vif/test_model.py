"""A turn's map hangs on what it may see, and a sample's spotlights can be read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from vif_core.data.sample import Sample
from vif_core.errors import UsageError
from vif_core.vif.turns import NONE, grid_places, turns_of
from vif_core.vlm.tiny import tiny_model, tiny_samples

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


def test_two_turns_of_a_sequence_have_two_maps_on_their_own_rows(make, maps_of):
    model = make()
    given = two_turns()
    for maps in maps_of(model, given):
        assert maps.shape == (2, 16)
        torch.testing.assert_close(maps.sum(-1), torch.ones(2))
        assert not torch.allclose(maps[0], maps[1], atol=1e-3)
    assert model.current.blends[1].turn[0].tolist() == [NONE] * 18 + [0] * 5 + [1] * 4


def test_maps_do_not_depend_on_their_own_response(make, maps_of):
    model = make()
    for one, two in zip(maps_of(model, two_turns()), maps_of(model, two_turns(response=(99, 88))), strict=True):
        assert torch.equal(one[0], two[0])


def test_maps_do_not_depend_on_later_turns(make, maps_of):
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


def test_places_of_a_grid_are_used_as_told():
    """`two_turns` lays its own grid: it is the one that a real picture would have."""
    vlm = tiny_model("llava")
    (layout,) = vlm.encode(tiny_samples(1)).layouts
    _, turns = two_turns()
    np.testing.assert_allclose(turns.points[0].numpy(), grid_places(layout.grids, 16)[0], atol=1e-6)


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


def test_spotlights_draw_the_map_that_is_used(make, answered, maps_of, split):
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
