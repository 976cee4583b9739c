"""Exactly what learns is kept, and what is read back has arrived."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from vif_core.errors import VifError
from vif_core.train.checkpoint import load_trained, save_trained


def model(width=3):
    made = nn.ModuleDict({"learns": nn.Linear(width, 2), "frozen": nn.Linear(2, 2)})
    made["frozen"].requires_grad_(False)
    return made


def test_what_learns_is_kept_and_nothing_else(tmp_path):
    save_trained(model(), tmp_path / "a.safetensors")
    assert set(load_file(tmp_path / "a.safetensors")) == {"learns.weight", "learns.bias"}
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_every_number_comes_back(tmp_path):
    first, second = model(), model()
    save_trained(first, tmp_path / "a.safetensors")
    frozen = second["frozen"].weight.clone()
    load_trained(second, tmp_path / "a.safetensors")
    assert torch.equal(first["learns"].weight, second["learns"].weight)
    assert torch.equal(frozen, second["frozen"].weight)


@pytest.mark.parametrize(
    "other",
    [lambda: model(width=4), lambda: model().requires_grad_(True), lambda: nn.Linear(3, 2), lambda: model().bfloat16()],
    ids=["shape", "more learns", "names", "dtype"],
)
def test_a_tensor_without_its_place_is_an_error(tmp_path, other):
    save_trained(model(), tmp_path / "a.safetensors")
    with pytest.raises(VifError, match=r"a.safetensors: \d tensors are missing, unknown or of another shape, such as"):
        load_trained(other(), tmp_path / "a.safetensors")


@pytest.mark.parametrize("content", [None, b"", b"not tensors"], ids=["missing", "empty", "damaged"])
def test_an_unreadable_checkpoint_is_one_line(tmp_path, content):
    path = tmp_path / "a.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(VifError, match=r"checkpoint .*a.safetensors cannot be read"):
        load_trained(model(), path)
