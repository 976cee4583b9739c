"""The losses of VIF (equations 2, 9 and 10)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from vif_core.vif.gmm import Spotlights


@dataclass(frozen=True)
class Latent:
    """Diagonal Gaussians over latent slots (equation 1)."""

    mean: Float[Tensor, "*M K Z"]
    logvar: Float[Tensor, "*M K Z"]

    def at(self, noise: Float[Tensor, "*M K Z"] | float) -> Float[Tensor, "*M K Z"]:
        """z = mu + sigma * eps (equation 1); eps = 0 gives the mean."""
        return self.mean + (0.5 * self.logvar).exp() * noise


def kl_divergence(posterior: Latent, prior: Latent) -> Float[Tensor, "*M K Z"]:
    """KL(q || p) in nats of each latent dimension, closed form (equation 2)."""
    ratio = (posterior.logvar - prior.logvar).exp()
    distance = (posterior.mean - prior.mean).square() / prior.logvar.exp()
    return 0.5 * (ratio + distance - 1 - posterior.logvar + prior.logvar)


def volume(lights: Spotlights, of: Literal["amplitude", "variance"] = "amplitude") -> Float[Tensor, "*M"]:
    """Sum over components of amplitude x variance, pi_k s_k^2 (equation 9); or the mean variance."""
    variance = lights.spreads.square()
    return (lights.weights * variance).sum(-1) if of == "amplitude" else variance.mean(-1)


def entropy(probabilities: Float[Tensor, "*M N"]) -> Float[Tensor, "*M"]:
    """Shannon entropy in nats; of component weights or of a map (equation 9)."""
    return -(probabilities * probabilities.clamp(min=1e-12).log()).sum(-1)  # finite gradient at 0
