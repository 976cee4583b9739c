"""The encoder reads what it may see, both ways, and nothing else."""

from __future__ import annotations

import pytest
import torch

from vif_core.vif.encoder import Condenser, CrossAttention, Encoder, place_basis, place_code

WIDTH, SLOTS, HIDDEN = 32, 4, 24


def made_encoder(**options):
    torch.manual_seed(0)
    condenser = Condenser(WIDTH, torch.randn(SLOTS, WIDTH), heads=2, feed_forward=2)
    settings = {"depth": 2, "heads": 2, "feed_forward": 2, "logvar_bound": 5.0} | options
    return Encoder(HIDDEN, WIDTH, basis=place_basis(WIDTH, 2), condenser=condenser, **settings)


@pytest.fixture
def encoder():
    return made_encoder()


@pytest.fixture
def given():
    """Two samples of 6 visual tokens; three turns, the last two of the second sample, with up to 5 tokens of text."""
    torch.manual_seed(1)
    visual_seen, text_seen = torch.ones(3, 6, dtype=torch.bool), torch.ones(3, 5, dtype=torch.bool)
    visual_seen[1, 4:], text_seen[2, 3:] = False, False
    return {
        "visual": torch.randn(2, 6, HIDDEN),
        "places": torch.rand(3, 6, 2),
        "text": torch.randn(3, 5, HIDDEN),
        "sample": torch.tensor([0, 1, 1]),
        "visual_seen": visual_seen,
        "text_seen": text_seen,
    }


def differs(encoder, given, **changed):
    """Which turns' means change."""
    with torch.no_grad():
        before, after = encoder(**given).mean, encoder(**given | changed).mean
    return [not torch.allclose(a, b, atol=1e-6) for a, b in zip(before, after, strict=True)]


def test_slots_are_gaussians(encoder, given):
    latent = encoder(**given)
    assert latent.mean.shape == latent.logvar.shape == (3, SLOTS, WIDTH)


def test_turns_read_their_own_samples_picture(encoder, given):
    visual = given["visual"].clone()
    visual[0] = torch.randn(6, HIDDEN)
    assert differs(encoder, given, visual=visual) == [True, False, False]


def test_turns_read_their_own_text(encoder, given):
    text = given["text"].clone()
    text[1, 0] += torch.randn(HIDDEN)
    assert differs(encoder, given, text=text) == [False, True, False]


def test_what_a_turn_does_not_see_does_not_matter(encoder, given):
    visual, text, places = (given[name].clone() for name in ("visual", "text", "places"))
    visual[1, 4:], text[2, 3:], places[1, 4:] = torch.randn(2, HIDDEN), torch.randn(2, HIDDEN), 0.0
    assert differs(encoder, given, text=text, places=places) == [False, False, False]
    assert differs(encoder, given, visual=visual) == [False, False, True]  # the third turn sees all of its sample


def test_the_place_of_a_visual_token_matters(encoder, given):
    assert differs(encoder, given, places=given["places"].flip(1)) == [True, True, True]


def test_log_variances_are_clamped(given):
    encoder = made_encoder(logvar_bound=0.5)
    with torch.no_grad():
        encoder.logvar.bias[0], encoder.logvar.bias[1] = 10.0, -10.0
    logvar = encoder(**given).logvar
    assert (logvar[..., 0] == 0.5).all()
    assert (logvar[..., 1] == -0.5).all()


def test_every_weight_learns(encoder, given):
    latent = encoder(**given)
    (latent.mean * torch.randn_like(latent.mean) + latent.logvar * torch.randn_like(latent.mean)).sum().backward()
    silent = [name for name, weight in encoder.named_parameters() if not weight.grad.abs().max() > 0]
    assert silent == []


def test_cross_attention_is_that_of_torch():
    torch.manual_seed(0)
    block = CrossAttention(WIDTH, heads=4, feed_forward=2)
    torch.nn.init.zeros_(block.down.weight)
    torch.nn.init.zeros_(block.down.bias)
    reference = torch.nn.MultiheadAttention(WIDTH, 4, batch_first=True)
    with torch.no_grad():
        reference.in_proj_weight.copy_(torch.cat([block.query.weight, block.key_value.weight]))
        reference.in_proj_bias.copy_(torch.cat([block.query.bias, block.key_value.bias]))
        reference.out_proj.load_state_dict(block.out.state_dict())
    x, y, seen = (
        torch.randn(2, 3, WIDTH),
        torch.randn(2, 5, WIDTH),
        torch.tensor([[True] * 5, [True] * 3 + [False] * 2]),
    )
    wanted, _ = reference(block.norm_x(x), block.norm_y(y), block.norm_y(y), key_padding_mask=~seen)
    torch.testing.assert_close(block(x, y, seen), x + wanted, atol=1e-5, rtol=0)


def test_near_places_have_like_codes_and_different_places_differ():
    codes = place_code(torch.tensor([[0.5, 0.5], [0.51, 0.5], [0.9, 0.1]]))
    assert codes.shape == (3, 16)
    near, far = (codes[0] - codes[1]).norm(), (codes[0] - codes[2]).norm()
    assert near < 0.2 * far
    grid = place_code(torch.cartesian_prod(torch.arange(24), torch.arange(24)) / 24)
    assert len(torch.unique(grid, dim=0)) == 24 * 24
