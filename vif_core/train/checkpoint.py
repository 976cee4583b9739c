"""What has been learned, on disk: exactly the tensors that train, under the names that the training gives them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import Trainer

from vif_core.errors import VifError


def save_trained(model: nn.Module, path: Path) -> None:
    """Every parameter that learns, whole or not at all: the file is written beside its place and moved there."""
    tensors = {name: p.detach().cpu().contiguous() for name, p in model.named_parameters() if p.requires_grad}
    part = path.with_suffix(".part")
    save_file(tensors, part)
    settle(part)
    part.replace(path)
    settle(path.parent)


def load_trained(model: nn.Module, path: Path) -> None:
    """Parameters that learn, from a file. Raises VifError unless they and the file's tensors are the same ones.

    (Loading by the library's own rules would leave out, without a word, what was saved under another name.)
    """
    try:
        found = load_file(path)
    except (OSError, SafetensorError) as error:
        raise VifError(f"checkpoint {path} cannot be read ({error})", expected="readable safetensors") from error
    wanted = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    wrong = sorted(set(wanted) ^ set(found))
    wrong = wrong or [name for name, parameter in wanted.items() if _kind(found[name]) != _kind(parameter)]
    if wrong:
        raise VifError(
            f"checkpoint {path}: {len(wrong)} tensors are missing, unknown or of another shape, such as {wrong[0]}",
            expected=f"the {len(wanted)} tensors that learn",
            next_step="Train in another folder",
        )
    with torch.no_grad():
        for name, parameter in wanted.items():
            parameter.copy_(found[name])
            if not torch.equal(parameter.cpu(), found[name]):
                raise VifError(f"checkpoint {path}: {name} did not arrive", expected="numbers")


def settle(path: Path) -> None:
    """Wait until a file, or a folder's entries, are on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _kind(tensor: torch.Tensor) -> tuple[torch.Size, torch.dtype]:
    return tensor.shape, tensor.dtype


class WholeCheckpoints(Trainer):
    """Writes each checkpoint apart and moves it into place whole, so that a killed process leaves no half of one.

    The newest is kept.
    """

    def _save_checkpoint(self, model, trial) -> None:
        whole = Path(self.args.output_dir or "")
        apart = whole / "part"
        if self.args.should_save:
            shutil.rmtree(apart, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        self.args.output_dir = str(apart)
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self.args.output_dir = str(whole)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            older = list(whole.glob("checkpoint-*"))
            (made,) = apart.iterdir()
            for file in made.iterdir():
                settle(file)
            made.replace(whole / made.name)
            settle(whole)
            for checkpoint in older:
                shutil.rmtree(checkpoint)
        self.accelerator.wait_for_everyone()
