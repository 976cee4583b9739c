"""Conversations: questions and answers about the same images, one after another, as training reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from PIL import Image

from vif_core.data.sample import Box, Sample, Source, open_image
from vif_core.errors import SampleError

Part = str | None
"""Words of a question, or None: the place of the conversation's next image."""


@dataclass(frozen=True)
class Exchange:
    """One question and its answer; None where the answer is to be generated.

    boxes: target boxes on the conversation's first image; empty where they are unknown.
    """

    question: tuple[Part, ...]
    answer: str | None
    boxes: tuple[Box, ...] = ()

    @property
    def images(self) -> int:
        """How many images stand in the question."""
        return self.question.count(None)


@dataclass(frozen=True)
class Conversation:
    """Exchanges about `images`, of which each stands in the question that shows it.

    sample_id: names it in error lines.      system: system line of the prompt, "" for none.
    """

    sample_id: str
    images: tuple[Image.Image | Path, ...]
    exchanges: tuple[Exchange, ...]
    system: str = ""

    @classmethod
    def of(cls, sample: Sample) -> Conversation:
        """One exchange, images before the question; an answer of white space alone is none.

        Raises SampleError for an empty question, and for a video, which training does not read.
        """
        sample.check()
        if sample.frames:
            raise SampleError(
                f"sample {sample.sample_id} is a video",
                expected="images: videos are analysed and answered, not trained on",
                next_step="Give its frames as images, or leave the sample out",
            )
        question = (*[None] * len(sample.images), sample.question.strip())
        answer = sample.answer if (sample.answer or "").strip() else None
        exchange = Exchange(question, answer, sample.boxes)
        return cls(sample.sample_id, sample.images, (exchange,), sample.system)

    def open_images(self) -> list[Image.Image]:
        """The images in RGB. Raises SampleError for one that is missing or broken."""
        return [open_image(image, self.sample_id) for image in self.images]


class Conversations(Protocol):
    """Conversations by index."""

    @property
    def name(self) -> str: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Conversation: ...


@dataclass(frozen=True)
class ListedConversations:
    """Conversations that are held. `skipped` says in words which rows of the listing were left out, and how many."""

    name: str
    conversations: Sequence[Conversation]
    skipped: str = ""

    def __len__(self) -> int:
        return len(self.conversations)

    def __getitem__(self, index: int) -> Conversation:
        return self.conversations[index]


@dataclass(frozen=True)
class SingleExchanges:
    """Samples of a source, as conversations of one exchange."""

    source: Source
    name: str

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Conversation:
        return Conversation.of(self.source[index])
