"""Training rows: one sequence each, with what is learned from it and which turn its tokens belong to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from vif_core.errors import SampleError, VifError

IGNORED = -100
SHARED = 0

MOST_SKIPPED = 100
"""So many rows in a row that cannot be used are an error of the data set."""


@dataclass
class TrainingRow:
    """One sequence of T tokens with V visual ones.

    labels:  [T] the token itself where it is learned, else IGNORED.     weights: [T] of the labels.
    turn:    [T] number of the turn, from 1; SHARED before the first where all turns read it; NONE for padding.
    answer:  [T] True at answers and what ends them.        visual: [T] True at visual tokens.
    places:  centre and extent of each visual token, [V, 2] each (`vif.turns.grid_places`).
    covered: by turn, share of each visual token's footprint that target boxes cover [V]; for turns with known boxes.
    apart:   turns see what is shared and themselves alone, and go on from its positions.
    images, tokens: further inputs of the model, an entry an image, and an entry a token.
    skipped: rows that could not be used and for which this one stands in.
    """

    input_ids: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    turn: np.ndarray
    answer: np.ndarray
    visual: np.ndarray
    places: tuple[np.ndarray, np.ndarray]
    covered: dict[int, np.ndarray] = field(default_factory=dict)
    apart: bool = False
    position_ids: np.ndarray | None = None
    images: dict[str, Tensor] = field(default_factory=dict)
    tokens: dict[str, np.ndarray] = field(default_factory=dict)
    skipped: int = 0

    def __len__(self) -> int:
        return len(self.input_ids)


class Rows(Protocol):
    """Rows by index. The length of an endless source is 0."""

    @property
    def name(self) -> str: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> TrainingRow:
        """Raises SampleError for a row that cannot be used."""
        ...


class Mixture(Dataset):
    """Rows of several sources, mixed by share. Row i is the same for the same (seed, phase, i), whoever asks for it.

    Each source is gone through in a shuffled order, every row once before any comes again. A row that cannot be used
    is replaced by the next one of its source, and counted. Raises VifError after 100 of these without one between.
    """

    def __init__(
        self, sources: Sequence[Rows], shares: Sequence[float | None], *, seed: int, phase: int, length: int
    ) -> None:
        self.sources, self.seed, self.phase = sources, seed, phase
        weights = np.array(
            [len(source) if share is None else share for source, share in zip(sources, shares, strict=True)]
        )
        random = np.random.default_rng([seed, phase])
        self.source = random.choice(len(sources), size=length, p=weights / weights.sum())
        self.turn = np.zeros(length, np.int64)  # how many rows of the same source come before
        for number in range(len(sources)):
            own = self.source == number
            self.turn[own] = np.arange(own.sum())

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> TrainingRow:
        number, turn = int(self.source[index]), int(self.turn[index])
        rows = self.sources[number]
        if len(rows) == 0:
            return rows[turn]
        order = _order(len(rows), self.seed, self.phase, number, turn // len(rows))
        first: SampleError | None = None
        for skipped in range(MOST_SKIPPED):
            try:
                row = rows[int(order[(turn + skipped) % len(rows)])]
            except SampleError as error:
                first = first or error
                continue
            row.skipped = skipped
            return row
        raise VifError(
            f"{MOST_SKIPPED} rows of {rows.name}, one after another, cannot be used; the first: {first}",
            expected="rows that can be trained on",
        ) from first


@lru_cache(maxsize=8)
def _order(length: int, *key: int) -> np.ndarray:
    return np.random.default_rng(key).permutation(length)
