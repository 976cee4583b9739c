"""Equations 3 and 4 by hand, and the renderer on grids of every kind."""

from __future__ import annotations

from dataclasses import replace
from math import exp, log

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vif_core.vif.gmm import SlotDecoder, Spotlights, gaussians, render
from vif_core.vif.losses import entropy
from vif_core.vif.turns import grid_places
from vif_core.vlm.layout import ImageGrid


def lights(*spots):
    """One turn's spotlights, each (centre, spread, weight)."""
    centres, spreads, weights = zip(*spots, strict=True)
    return Spotlights(torch.tensor([centres]), torch.tensor([spreads]), torch.tensor([weights]))


def places(*grids, n_visual=None):
    centres, extent = grid_places(grids, n_visual or sum(grid.rows * grid.stride for grid in grids))
    centres, extent = (torch.from_numpy(part).float()[None] for part in (centres, extent))
    return centres.nan_to_num(0.5), extent, centres.isfinite().all(-1)


def grid(rows, cols, offset=0, newline=0, frame="image"):
    return ImageGrid(0, frame, rows, cols, offset, cols + newline, (0, 0, 10.0 * cols, 10.0 * rows))


def drawn(spots, *grids, normalise="sum", n_visual=None):
    return render(spots, *places(*grids, n_visual=n_visual), normalise)[0]


# -- equation 3


def test_equation_3_is_a_gaussian_of_the_distance():
    points, extent = torch.tensor([[[0.5, 0.5], [0.5, 1.0], [0.2, 0.9]]]), torch.ones(1, 3, 2)
    values = gaussians(lights(((0.5, 0.5), 0.5, 1.0)), points, extent)
    torch.testing.assert_close(values[0, 0], torch.tensor([1.0, exp(-0.5), exp(-(0.3**2 + 0.4**2) / 0.5)]))


def test_equation_3_measures_in_units_of_the_longer_side():
    """On a grid of 2 x 4, a step of 1/2 of the height is as long as one of 1/4 of the width."""
    points, extent = torch.tensor([[[1.0, 0.5], [0.5, 0.75]]]), torch.tensor([[[0.5, 1.0]] * 2])
    values = gaussians(lights(((0.5, 0.5), 0.25, 1.0)), points, extent)
    torch.testing.assert_close(values[0, 0], torch.full((2,), exp(-0.5)))


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_equation_3_decodes_a_slot_to_a_centre_a_spread_and_a_weight(scale):
    decoder = SlotDecoder(width=8, slots=5, min_spread=0.035)
    spots = decoder(torch.randn(3, 5, 8) * scale)
    assert spots.centres.shape == (3, 5, 2)
    assert (spots.spreads >= 0.035).all()
    assert ((spots.centres >= 0) & (spots.centres <= 1)).all()
    torch.testing.assert_close(spots.weights.sum(-1), torch.ones(3))


def test_equation_3_by_the_decoders_own_numbers():
    decoder = SlotDecoder(width=1, slots=1, min_spread=0.1)
    with torch.no_grad():
        decoder.read.weight.copy_(torch.tensor([[1.0], [2.0], [3.0], [4.0]]))
        decoder.read.bias.zero_()
    spots = decoder(torch.tensor([[[0.5]]]))  # its one anchor is the middle, whose logit is 0
    torch.testing.assert_close(spots.centres.flatten(), torch.tensor([0.5, 1.0]).sigmoid())
    torch.testing.assert_close(spots.spreads.item(), log(1 + exp(1.5)) + 0.1)
    assert spots.weights.item() == 1


@pytest.mark.parametrize(("slots", "axes"), [(16, 2), (5, 2), (1, 2), (4, 1)])
def test_fresh_centres_are_spread_over_the_image(slots, axes):
    centres = SlotDecoder(8, slots, 0.035, axes).anchors.sigmoid()
    torch.testing.assert_close(centres.mean(0)[-1].item(), 0.5, atol=0.13, rtol=0)
    assert len({tuple(centre) for centre in centres.tolist()}) == slots


# -- equation 4


def test_equation_4_sums_the_weighted_spots_and_normalises():
    """Two cells, at 1/4 and 3/4 of the width: one narrow spot on each, and a wide one on the second."""
    spots = lights(((0.5, 0.25), 0.25, 0.6), ((0.5, 0.75), 0.5, 0.4))
    first = 0.6 * 1 + 0.4 * exp(-(0.5**2) / (2 * 0.5**2))
    second = 0.6 * exp(-(0.5**2) / (2 * 0.25**2)) + 0.4 * 1
    expected = torch.tensor([first, second]) / (first + second)
    torch.testing.assert_close(drawn(spots, grid(1, 2)), expected)


def test_a_very_wide_spot_is_uniform():
    torch.testing.assert_close(drawn(lights(((0.5, 0.5), 1e3, 1.0)), grid(3, 5)), torch.full((15,), 1 / 15))


@pytest.mark.parametrize(("rows", "cols"), [(3, 5), (5, 3), (1, 7), (24, 24)])
def test_a_narrow_spot_lights_the_cell_it_lies_on(rows, cols):
    for cell in (0, rows * cols // 2, rows * cols - 1):
        centre = ((cell // cols + 0.5) / rows, (cell % cols + 0.5) / cols)
        light = drawn(lights((centre, 0.2 / max(rows, cols), 1.0)), grid(rows, cols))
        torch.testing.assert_close(light.sum(), torch.tensor(1.0))
        assert light.argmax() == cell
        assert light[cell] > 0.99


def test_a_spot_is_round_on_an_oblong_picture():
    """On 4 x 8 square cells, two cells down and two cells along are equally bright."""
    centre = (0.5 / 4, 0.5 / 8)
    cells = drawn(lights((centre, 0.2, 1.0)), grid(4, 8)).view(4, 8)
    torch.testing.assert_close(cells[2, 0], cells[0, 2])


def test_a_narrow_spot_between_the_cells_of_a_coarse_grid_still_sums_to_one():
    torch.testing.assert_close(drawn(lights(((0.5, 0.5), 0.02, 1.0)), grid(2, 2)), torch.full((4,), 0.25))
    far = drawn(lights(((0.01, 0.01), 0.02, 0.0), ((0.9, 0.9), 0.02, 1.0)), grid(1, 1))
    torch.testing.assert_close(far, torch.ones(1))


def test_newline_tokens_get_exactly_nothing():
    tiles = grid(2, 3, newline=1)
    light = drawn(lights(((0.5, 0.5), 0.5, 1.0)), tiles).view(2, 4)
    assert (light[:, 3] == 0).all()
    torch.testing.assert_close(light[:, :3].sum(), torch.tensor(1.0))


def test_tiles_and_their_thumbnail_share_one_map():
    """A thumbnail of 2 x 2 and tiles of 4 x 4 with newlines: one spot lights the same place on both."""
    thumbnail, tiles = grid(2, 2, frame="thumbnail"), grid(4, 4, offset=4, newline=1, frame="tile")
    tiles = replace(tiles, rect_px=thumbnail.rect_px)
    light = drawn(lights(((0.25, 0.75), 0.15, 1.0)), thumbnail, tiles)
    torch.testing.assert_close(light.sum(), torch.tensor(1.0))
    assert light[:4].argmax() == 1
    cells = tiles.to_grid(light)
    torch.testing.assert_close(cells[:2, 2:], cells[0, 2].expand(2, 2))  # the four cells around the centre
    assert cells[:2, 2:].min() > 3 * cells[2:].max()
    assert light[1] > cells[0, 2], "the thumbnail's cell is nearer to the centre"


def test_several_images_share_one_map():
    light = drawn(lights(((0.25, 0.25), 0.1, 1.0)), grid(2, 2), grid(2, 4, offset=4))
    torch.testing.assert_close(light.sum(), torch.tensor(1.0))
    assert light[0] > 0.2
    assert light[4:6].sum() > 0.2
    assert light[:4].argmax() == 0


def test_a_turn_without_visual_tokens_has_no_map():
    centres, extent, covered = places(grid(2, 2))
    assert (render(lights(((0.5, 0.5), 0.5, 1.0)), centres, extent, covered & False) == 0).all()
    assert (render(lights(((0.5, 0.5), 0.5, 1.0)), centres, extent, covered & False, "softmax") == 0).all()


def test_the_releases_softmax_over_values_by_hand():
    spots = lights(((0.5, 0.25), 0.25, 1.0))
    light = drawn(spots, grid(1, 2), normalise="softmax")
    torch.testing.assert_close(light, F.softmax(torch.tensor([1.0, exp(-2.0)]), 0))


def test_the_releases_softmax_is_nearly_uniform_over_576_tokens():
    """Values lie in [0, 1], so that no token gets more than e times another: the entropy is at least 6.23 of 6.356."""
    least = 7.0
    for spread in np.geomspace(0.035, 2, 25):
        light = drawn(lights(((0.5, 0.5), float(spread), 1.0)), grid(24, 24), normalise="softmax")
        least = min(least, entropy(light).item())
        assert light.max() <= light.min() * np.e * 1.001
    assert 6.23 <= least <= log(576)


def test_the_map_reaches_every_weight_by_gradient():
    spots = Spotlights(
        *(t.requires_grad_() for t in vars(lights(((0.3, 0.3), 0.1, 0.5), ((0.8, 0.2), 0.3, 0.5))).values())
    )
    drawn(spots, grid(3, 3))[4].backward()
    for value in vars(spots).values():
        assert value.grad.isfinite().all()
        assert value.grad.abs().min() > 0
