"""Exactly what learns is kept, and what is read back has arrived."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import Trainer, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from vif_core.errors import VifError
from vif_core.train.checkpoint import WholeCheckpoints, load_trained, save_trained
from vif_core.train.trainer import SpecksTrainer
from vif_core.train.tuner import PhaseTrainer


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


class Doubled(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return {"loss": (self.weight * x).sum()}


@pytest.mark.parametrize("stopped", ["_save_optimizer_and_scheduler", "_save_rng_state"])
def test_what_stops_while_a_checkpoint_is_written_leaves_the_last_whole_one(tmp_path, monkeypatch, stopped):
    def stop(self, *_):
        if self.state.global_step == 2:
            raise KeyboardInterrupt
        return save(self, *_)

    save = getattr(Trainer, stopped)
    monkeypatch.setattr(Trainer, stopped, stop)
    arguments = TrainingArguments(
        str(tmp_path), max_steps=3, save_steps=1, per_device_train_batch_size=1, use_cpu=True, report_to=[]
    )
    rows = [{"x": torch.ones(1)}] * 3
    with pytest.raises(KeyboardInterrupt):
        WholeCheckpoints(Doubled(), arguments, train_dataset=rows).train()
    last = get_last_checkpoint(str(tmp_path))
    assert last == str(tmp_path / "checkpoint-1")
    monkeypatch.undo()
    WholeCheckpoints(Doubled(), arguments, train_dataset=rows).train(resume_from_checkpoint=last)
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-3"], "the newest is kept"
    assert issubclass(PhaseTrainer, WholeCheckpoints)
    assert issubclass(SpecksTrainer, WholeCheckpoints)
