"""Equations 1, 2 and 9, by hand."""

from __future__ import annotations

from math import e, log

import pytest
import torch
from torch.distributions import Normal
from torch.distributions import kl_divergence as kl_of_torch

from vif_core.vif.gmm import Spotlights
from vif_core.vif.losses import Latent, entropy, kl_divergence, volume


def latent(mean, variance):
    return Latent(torch.tensor([[mean]]), torch.tensor([[variance]]).log())


def lights(weights, spreads):
    return Spotlights(torch.full((1, len(weights), 2), 0.5), torch.tensor([spreads]), torch.tensor([weights]))


def test_equation_1_is_mean_plus_deviation_times_noise():
    z = latent([1.0, -1.0], [9.0, 4.0]).at(torch.tensor([[[0.5, -1.0]]]))
    torch.testing.assert_close(z, torch.tensor([[[2.5, -3.0]]]))  # 1 + 3/2, -1 - 2


def test_equation_1_without_noise_is_the_mean():
    assert torch.equal(latent([1.0], [9.0]).at(0.0), torch.tensor([[[1.0]]]))


def test_equation_2_between_two_gaussians():
    nats = kl_divergence(latent([1.0], [e]), latent([0.0], [1.0]))
    torch.testing.assert_close(nats.item(), 0.5 * (e + 1 - 1 - 1))  # (var ratio + distance - 1 - log ratio) / 2
    nats = kl_divergence(latent([3.0], [1.0]), latent([1.0], [4.0]))
    torch.testing.assert_close(nats.item(), 0.5 * (1 / 4 + 4 / 4 - 1 + log(4)))


def test_equation_2_is_that_of_torch():
    means, variances = torch.randn(2, 1, 3, 5), torch.rand(2, 1, 3, 5) + 0.1
    q, p = (Latent(mean, variance.log()) for mean, variance in zip(means, variances, strict=True))
    reference = kl_of_torch(Normal(means[0], variances[0].sqrt()), Normal(means[1], variances[1].sqrt()))
    torch.testing.assert_close(kl_divergence(q, p), reference)


def test_equation_2_of_equals_is_zero():
    same = latent([1.0, 2.0], [0.5, 3.0])
    assert kl_divergence(same, same).abs().max() == 0


def test_equation_9_volume_is_amplitude_times_variance():
    spots = lights([0.25, 0.75], [2.0, 4.0])
    torch.testing.assert_close(volume(spots), torch.tensor([0.25 * 4 + 0.75 * 16]))


def test_volume_of_the_release_is_the_mean_variance():
    torch.testing.assert_close(volume(lights([0.25, 0.75], [2.0, 4.0]), "variance"), torch.tensor([10.0]))


def test_equation_9_entropy_of_the_mixture():
    torch.testing.assert_close(entropy(torch.tensor([0.5, 0.25, 0.25])).item(), 1.5 * log(2))
    torch.testing.assert_close(entropy(torch.full((8,), 1 / 8)).item(), log(8))


def test_entropy_of_one_spot_is_zero_with_a_finite_gradient():
    spot = torch.tensor([1.0, 0.0], requires_grad=True)
    entropy(spot).backward()
    assert entropy(spot).item() == pytest.approx(0, abs=1e-6)
    assert spot.grad.isfinite().all()
