"""From one layer's features to a map a turn: which keys it weighs, and what each branch may know."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from vif_core.errors import UsageError
from vif_core.vif.config import VIFConfig
from vif_core.vif.generator import Generator, canvas, swapped
from vif_core.vif.gmm import Spotlights
from vif_core.vif.turns import NONE, grid_places, turns_of
from vif_core.vlm.layout import ImageGrid

HIDDEN = 16
# position:       0   1  2  3  4  5  6  7  8  9
TURN = np.array([[-1, 0, 0, 0, 0, 0, 1, 1, 1, 2], [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]])
VISUAL = np.array([[0, 0, 1, 1, 1, 1, 0, 0, 0, 0], [0, 1, 1, 1, 1, 0, 0, 0, 0, 0]], dtype=bool)
ANSWER = np.zeros_like(VISUAL)
ANSWER[0, 8] = ANSWER[1, 9] = True
GRID = ImageGrid(0, "image", 2, 2, 0, 2, (0, 0, 20, 20))


@pytest.fixture
def turns():
    answered = ANSWER.copy()
    return turns_of(np.where(TURN == 2, NONE, TURN), answered, VISUAL, [grid_places([GRID], 4)] * 2)


def config(**options):
    return VIFConfig(**{"pairs": ((0, 1),), "slots": 3, "width": 32, "depth": 1, **options}).resolved(4, HIDDEN)


def made(turns, *, posterior=True, hidden=None, **options):
    torch.manual_seed(0)
    chosen = config(**options)
    generator = Generator(chosen, HIDDEN)
    where = canvas(turns, chosen)
    hidden = torch.randn(2, 10, HIDDEN) if hidden is None else hidden
    return generator(hidden, turns, where, posterior=posterior), generator, where


def test_one_latent_a_turn_and_branch(turns):
    branches, *_ = made(turns)
    assert branches.prior.mean.shape == branches.posterior.mean.shape == (2, 3, 32)


def test_the_posterior_depends_on_the_answer_and_the_prior_does_not(turns):
    torch.manual_seed(1)
    hidden = torch.randn(2, 10, HIDDEN)
    other = hidden.clone()
    other[0, 8] = torch.randn(HIDDEN)
    one, two = made(turns, hidden=hidden)[0], made(turns, hidden=other)[0]
    assert torch.equal(one.prior.mean, two.prior.mean)
    assert not torch.allclose(one.posterior.mean[0], two.posterior.mean[0], atol=1e-4)
    assert torch.equal(one.posterior.mean[1], two.posterior.mean[1])


def test_the_posterior_is_read_where_it_is_asked_for_and_an_answer_is_known(turns):
    assert made(turns, posterior=False)[0].posterior is None
    assert made(replace(turns, posterior=None))[0].posterior is None
    assert made(turns, variant="no-posterior")[0].posterior is None


def test_branches_have_parameters_of_their_own_or_share_queries_and_condenser(turns):
    _, paper, _ = made(turns)
    _, release, _ = made(turns, shared_queries=True)
    assert not {id(p) for p in paper.prior.parameters()} & {id(p) for p in paper.posterior.parameters()}
    shared = {id(p) for p in release.prior.parameters()} & {id(p) for p in release.posterior.parameters()}
    assert shared == {id(p) for p in release.prior.condenser.parameters()}


def test_without_a_posterior_there_are_no_weights_for_one(turns):
    _, generator, _ = made(turns, variant="no-posterior")
    assert generator.posterior is None
    assert not any(name.startswith("posterior") for name in generator.state_dict())


def test_a_canvas_is_the_visual_tokens_that_a_turn_sees(turns):
    where = canvas(turns, config())
    assert where.keys is turns.visual
    assert where.covered.all()
    assert where.points[0].tolist() == [[0.25, 0.25], [0.25, 0.75], [0.75, 0.25], [0.75, 0.75]]


def test_a_picture_of_a_later_turn_is_off_the_canvas_of_an_earlier_one():
    turn, visual = np.array([[1, 1, 1, 1, 1, 2, 2, 2, 2, 2]]), np.array([[1, 1, 1, 1, 0, 1, 1, 1, 1, 0]], dtype=bool)
    second = replace(GRID, image=1, offset=4)
    turns = turns_of(turn, visual & False, visual, [grid_places([GRID, second], 8)])
    branches, generator, where = made(turns, hidden=torch.randn(1, 10, HIDDEN))
    assert where.covered.tolist() == [[True] * 4 + [False] * 4, [True] * 8]
    maps = where.draw(generator.slots(branches.prior.mean), config())
    torch.testing.assert_close(maps[:, :4].sum(-1)[0], torch.tensor(1.0))
    assert maps[1, 4:].sum() > 0.1


def test_newline_tokens_are_off_the_canvas(turns):
    points = turns.points.clone()
    points[0, 1] = torch.nan
    where = canvas(replace(turns, points=points), config())
    assert where.covered.tolist() == [[True, False, True, True], [True] * 4]
    assert where.points.isfinite().all()


def test_points_of_the_release_run_from_edge_to_edge(turns):
    where = canvas(turns, config(points="linspace"))
    assert where.points[0].tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    long = grid_places([ImageGrid(0, "image", 1, 24, 0, 24, (0, 0, 240, 10))], 24)
    row = turns_of(np.array([[1] * 25]), np.zeros((1, 25), bool), np.array([[True] * 24 + [False]]), [long])
    where = canvas(row, config(points="linspace"))
    torch.testing.assert_close(where.points[0, :, 1], torch.linspace(0, 1, 24))
    assert (where.points[0, :, 0] == 0).all()


def test_full_sequence_lays_a_line_from_the_first_text_to_the_questions_end(turns):
    chosen = config(variant="full-sequence")
    where = canvas(turns, chosen)
    covered = [np.flatnonzero(row).tolist() for row in where.covered.numpy()]
    assert covered == [list(range(1, 8)), list(range(9))]  # padding and answers are left out
    torch.testing.assert_close(where.points[0, 1:8, 0], (torch.arange(7) + 0.5) / 7)
    assert where.keys[1].tolist() == list(range(10))
    torch.testing.assert_close(where.of_visual(turns)[0], where.points[0, 2:6])
    branches, generator, where = made(turns, variant="full-sequence")
    maps = where.draw(generator.slots(branches.prior.mean), chosen)
    assert maps.shape == (2, 10)
    torch.testing.assert_close(maps.sum(-1), torch.ones(2))
    assert (maps[0, 8:] == 0).all()


def test_full_sequence_leaves_no_gap_for_what_a_turn_does_not_see():
    """A second question has its places by rank, as if the answer before it (position 8) were not there."""
    two = turns_of(TURN[:1], ANSWER[:1], VISUAL[:1], [grid_places([GRID], 4)])
    where = canvas(two, config(variant="full-sequence"))
    assert np.flatnonzero(where.covered[1].numpy()).tolist() == [*range(1, 8), 9]
    torch.testing.assert_close(where.points[1, where.covered[1], 0], (torch.arange(8) + 0.5) / 8)


# -- the control that swaps


def numbered(count):
    centres = torch.arange(count).float()[:, None, None].expand(-1, 1, 2)
    return Spotlights(centres, torch.ones(count, 1), torch.ones(count, 1))


@pytest.mark.parametrize("sample", [[0, 1], [0, 0, 1, 1], [0, 0, 0, 1], [0, 1, 1, 1, 2], [0, 1, 2, 2, 2, 3]])
def test_swapped_maps_are_always_another_samples(sample):
    sample = torch.tensor(sample)
    origin = swapped(numbered(len(sample)), sample).centres[:, 0, 0].long()
    assert (sample[origin] != sample).all()


def test_maps_of_one_sample_cannot_be_swapped():
    with pytest.raises(UsageError, match="swapped maps of a single sample; expected turns of two samples or more"):
        swapped(numbered(2), torch.tensor([0, 0]))
