"""Muon and AdamW behind one interface."""

from __future__ import annotations

import torch
from torch import nn

from vif_core.train.optimizer import Muon, MuonAdamW, orthogonal


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_orthogonal_keeps_directions_and_brings_singular_values_near_1():
    for shape in ((6, 10), (10, 6)):
        matrix = drawn(*shape)
        left, _, right = torch.linalg.svd(matrix, full_matrices=False)
        in_its_own_directions = left.T @ orthogonal(matrix) @ right.T
        off = in_its_own_directions - in_its_own_directions.diag().diag()
        assert off.abs().max() < 1e-4
        assert ((in_its_own_directions.diag() > 0.5) & (in_its_own_directions.diag() < 1.3)).all()


def test_steps_are_those_of_torchs_muon_up_to_its_bfloat16():
    own, theirs = (nn.Parameter(drawn(8, 12)) for _ in range(2))
    ours = Muon([{"params": [own]}], lr=0.02, weight_decay=0.1)
    reference = torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for step in range(5):
        own.grad, theirs.grad = (drawn(8, 12, seed=step + 1) for _ in range(2))
        ours.step()
        reference.step()
    moved = (theirs - drawn(8, 12)).abs().mean()
    assert (own - theirs).abs().mean() < 0.05 * moved
    assert moved > 0.01


def test_matrices_go_to_muon_the_rest_and_embeddings_to_adamw():
    named = [("layer.weight", nn.Parameter(drawn(4, 4))), ("layer.bias", nn.Parameter(drawn(4)))]
    named.append(("embed_tokens.weight", nn.Parameter(drawn(9, 4))))
    optimizer = MuonAdamW([(named, 1.0)], lr=0.1, weight_decay=0.0)
    adam, muon = optimizer.parts
    assert [len(group["params"]) for group in muon.param_groups] == [1]
    assert muon.param_groups[0]["params"][0] is named[0][1]
    assert isinstance(adam, torch.optim.AdamW)
    assert optimizer.param_groups == adam.param_groups + muon.param_groups


def test_a_matrix_without_a_gradient_stays_as_it_is():
    weight = nn.Parameter(drawn(4, 4))
    Muon([{"params": [weight]}], lr=1.0, weight_decay=0.5).step()
    assert torch.equal(weight, drawn(4, 4))
