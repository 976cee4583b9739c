"""specks as a source of samples: made on the fly, the same for the same (seed, split, index)."""

from __future__ import annotations

import numpy as np
from PIL import Image

from vif_core.data.sample import Sample
from vif_core.data.specks.questions import KINDS, Question, ask
from vif_core.data.specks.scenes import Scene, make_scene
from vif_core.data.specks.words import SYSTEM
from vif_core.errors import UsageError

SPLITS = {"train": 1_000_000, "val": 5_000, "test": 20_000, "heldout": 5_000}
VERSION = 1


class Specks:
    """One split of specks; sample i is a scene of its own with one question.

    Kinds follow one another in turn, so that each is a seventh of any stretch of indices. `heldout` asks about
    shape-colour pairs that the other splits never show.
    """

    def __init__(self, split: str = "test", seed: int = 0) -> None:
        if split not in SPLITS:
            raise UsageError(f"specks has no split {split!r}", expected=f"one of {', '.join(SPLITS)}")
        self.split, self.seed = split, seed
        self.name = f"specks-{split}"
        self.fingerprint = f"specks-v{VERSION}-{split}-{seed}"

    def __len__(self) -> int:
        return SPLITS[self.split]

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(index)
        scene, question = self.scene(index)
        return Sample(
            sample_id=f"{self.name}-{index:06d}",
            images=(Image.fromarray(scene.pixels),),
            question=question.text,
            answer=question.answer,
            boxes=question.boxes,
            kind=question.kind,
            size=question.size,
            system=SYSTEM,
        )

    def scene(self, index: int) -> tuple[Scene, Question]:
        """The scene of sample `index` and its question; scenes that offer no such question are drawn again."""
        rng = np.random.default_rng([self.seed, list(SPLITS).index(self.split), index])
        kind = list(KINDS)[index % len(KINDS)]
        held_out = self.split == "heldout"
        while True:
            scene = make_scene(rng, held_out=held_out)
            for _ in range(20):
                question = ask(rng, scene, kind, held_out=held_out)
                if question is not None:
                    return scene, question
