"""What a training says while it runs: learning.jsonl, TensorBoard, and a progress bar."""

from __future__ import annotations

import json
import sys
import time
from math import isfinite
from pathlib import Path
from typing import Any

from tqdm import tqdm
from transformers import TrainerCallback

LEARNING = "learning.jsonl"


def strict(figures: dict[str, Any]) -> dict[str, float | None]:
    """The numbers among figures as strict JSON has them: one that is not finite is None.

    >>> strict({"loss": float("nan"), "step": 3, "name": "joint"})
    {'loss': None, 'step': 3}
    """
    numbers = {name: value for name, value in figures.items() if isinstance(value, int | float)}
    return {name: value if isfinite(value) else None for name, value in numbers.items()}


class Records(TrainerCallback):
    """One JSON line a log step in `folder`, the last step among them, and the same figures for TensorBoard where that
    is installed. The first loss that is not finite is a warning.

    A phase that goes on from a checkpoint takes back what was written after it.     before: steps of earlier phases.
    "seconds" of a line: since the phase began, without the time in which it stood still. What a phase that goes on had
    spent is told by the last line before its checkpoint; steps between the two count as long as those before.
    """

    def __init__(self, folder: Path, phase: str, before: int) -> None:
        self.folder, self.phase, self.before = folder, phase, before
        self.board: Any = None
        self.warned = False
        self.began = 0.0
        self.spent: float | None = 0.0

    def on_train_begin(self, args, state, control, **kwargs):
        if not state.is_world_process_zero:
            return
        self.began = time.monotonic()
        path = self.folder / LEARNING
        if path.exists():
            kept = [
                line for line in path.read_text().splitlines(keepends=True) if self._stands(line, state.global_step)
            ]
            path.with_suffix(".part").write_text("".join(kept))
            path.with_suffix(".part").replace(path)
            if own := [told for told in map(json.loads, kept) if told["phase"] == self.phase]:
                spent = own[-1].get("seconds")  # none in lines of earlier versions
                self.spent = None if spent is None else spent * state.global_step / own[-1]["step"]
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        self.board = SummaryWriter(self.folder / "tensorboard", purge_step=self.before + state.global_step + 1)

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == state.max_steps:
            control.should_log = True

    def on_log(self, args, state, control, logs=None, **kwargs):
        if not state.is_world_process_zero or "loss" not in (logs or {}):
            return  # the summary at the end of a phase tells nothing new
        figures = strict(logs)
        spent = None if self.spent is None else round(self.spent + time.monotonic() - self.began, 1)
        line = {"phase": self.phase, "step": state.global_step, "time": round(time.time(), 1), "seconds": spent}
        with (self.folder / LEARNING).open("a") as file:
            file.write(json.dumps(line | {"bf16": args.bf16} | figures, allow_nan=False) + "\n")
        if self.board is not None:
            for name, value in figures.items():
                if value is not None:
                    self.board.add_scalar(name, value, self.before + state.global_step)
            self.board.flush()
        if figures["loss"] is None and not self.warned:
            self.warned = True
            print(
                f"vifscope: warning: the loss is not finite in phase {self.phase} at step {state.global_step}. What it "
                "learns from here on is of no use. Lower its learning rates, or max_grad_norm.",
                file=sys.stderr,
            )

    def on_train_end(self, args, state, control, **kwargs):
        if self.board is not None:
            self.board.close()

    def _stands(self, line: str, step: int) -> bool:
        try:
            told = json.loads(line)
        except json.JSONDecodeError:  # cut off when the process was killed
            return False
        return told["phase"] != self.phase or told["step"] <= step


class ProgressBar(TrainerCallback):
    """One bar a phase on stderr, with the latest losses."""

    SHOWN = ("loss", "cross_entropy", "kl_nats", "map_box_lift")

    def __init__(self, phase: str) -> None:
        self.phase = phase
        self.bar: Any = None

    def on_train_begin(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            self.bar = tqdm(total=state.max_steps, initial=state.global_step, desc=self.phase, file=sys.stderr)

    def on_step_end(self, args, state, control, **kwargs):
        if self.bar is not None:
            self.bar.update()

    def on_log(self, args, state, control, logs=None, **kwargs):
        if self.bar is not None and logs:
            self.bar.set_postfix({name: f"{logs[name]:.3g}" for name in self.SHOWN if name in logs}, refresh=False)

    def on_train_end(self, args, state, control, **kwargs):
        if self.bar is not None:
            self.bar.close()
