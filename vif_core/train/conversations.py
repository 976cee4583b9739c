"""Conversations as training rows, token for token what the model is given when it is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from vif_core.data.conversation import Conversation, Conversations
from vif_core.errors import SampleError
from vif_core.train.rows import IGNORED, TrainingRow
from vif_core.vif.turns import grid_places
from vif_core.vlm.batch import process, response_type, takes_types
from vif_core.vlm.grids import image_grids
from vif_core.vlm.layout import box_weights
from vif_core.vlm.model import VLM
from vif_core.vlm.prompt import Script, write_script
from vif_core.vlm.visual import visual_positions


@dataclass(frozen=True)
class Reader:
    """What is needed of a model to write its rows: all but its weights."""

    processor: Any
    config: Any
    image_token_id: int
    eos_ids: frozenset[int]
    typed: bool

    @classmethod
    def of(cls, vlm: VLM) -> Reader:
        return cls(vlm.processor, vlm.model.config, vlm.image_token_id, vlm.eos_ids, takes_types(vlm.model))


@dataclass(frozen=True)
class ConversationRows:
    """Rows of at most `max_length` tokens."""

    conversations: Conversations
    reader: Reader
    max_length: int

    @property
    def name(self) -> str:
        return self.conversations.name

    def __len__(self) -> int:
        return len(self.conversations)

    def __getitem__(self, index: int) -> TrainingRow:
        return conversation_row(self.conversations[index], self.reader, self.max_length)


def conversation_row(conversation: Conversation, reader: Reader, max_length: int) -> TrainingRow:
    """One row: every question in the chat template, every answer with the token that ends it; answers are learned.

    Question and answer are tokenised apart, as they are where the model is asked. A row above `max_length` is cut at
    its end, back to the last turn of which some answer is left. Raises SampleError where that would cut visual tokens
    or leave nothing to learn, for images that cannot be read, and where the processor refuses the row (PaliGemma's
    takes none without a picture, Qwen2.5-VL's no picture that is 200 times as long as wide); GridMismatch where tokens
    and grid disagree.
    """
    if any(exchange.answer is None for exchange in conversation.exchanges):
        raise SampleError(f"sample {conversation.sample_id} has no answer", expected="one to learn from")
    tokenizer = reader.processor.tokenizer
    script = write_script(reader.processor, conversation)
    pictures = conversation.open_images()
    asked, extras, images = _prompts(script, conversation, pictures, reader)
    closings = [*asked[1:], np.array(tokenizer(script.ending, add_special_tokens=False)["input_ids"], dtype=np.int64)]
    parts: list[tuple[np.ndarray, int, bool]] = []  # tokens, turn, whether they answer
    for number, exchange in enumerate(conversation.exchanges):
        answer = tokenizer((exchange.answer or "").strip(), add_special_tokens=False)["input_ids"]
        parts.append((asked[number], number + 1, False))
        parts.append((np.array([*answer, *_end(closings[number], reader)], dtype=np.int64), number + 1, True))
    for number in range(1, len(asked)):  # the end that the template writes has gone to the answer
        if asked[number].size and asked[number][0] in reader.eos_ids:
            parts[2 * number] = (asked[number][1:], number + 1, False)
            extras = {name: [*e[:number], e[number][1:], *e[number + 1 :]] for name, e in extras.items()}
    ids = np.concatenate([tokens for tokens, _, _ in parts])
    answered = np.concatenate([np.full(len(tokens), told) for tokens, _, told in parts])
    visual = visual_positions(ids, reader.image_token_id)
    end = _cut(answered, max_length)
    if len(visual) and visual[-1] >= end:
        raise SampleError(
            f"sample {conversation.sample_id} has {len(visual)} visual tokens, which end at token {visual[-1] + 1}",
            expected=f"all of them, and an answer, within max_length {max_length}",
        )
    if not answered[:end].any():
        raise SampleError(f"sample {conversation.sample_id} has no answer within {max_length} tokens")
    sizes = [(picture.height, picture.width) for picture in pictures]
    grids = image_grids(reader.config, reader.processor, sizes, images, 0, len(visual))
    if len(visual) and not pictures:
        raise SampleError(f"sample {conversation.sample_id} has image tokens but no image", expected="words alone")
    tokens = {
        name: np.concatenate([np.pad(part, (0, len(parts[2 * k + 1][0]))) for k, part in enumerate(listed)])[:end]
        for name, listed in extras.items()
    }
    if "token_type_ids" in tokens:
        tokens["token_type_ids"][np.argmax(answered) :] += response_type(reader.config)
    return TrainingRow(
        input_ids=ids[:end],
        labels=np.where(answered, ids, IGNORED)[:end],
        weights=answered[:end].astype(np.float32),
        turn=np.concatenate([np.full(len(part), turn) for part, turn, _ in parts])[:end],
        answer=answered[:end],
        visual=(ids == reader.image_token_id)[:end],
        places=grid_places(grids, len(visual)),
        covered={
            number: box_weights(grids, len(visual), exchange.boxes)
            for number, exchange in enumerate(conversation.exchanges, 1)
            if exchange.boxes and grids
        },
        images={name: value for name, value in images.items() if name not in ("input_ids", "attention_mask", *extras)},
        tokens=tokens,
    )


def _prompts(
    script: Script, conversation: Conversation, pictures: list[Any], reader: Reader
) -> tuple[list[np.ndarray], dict[str, list[np.ndarray]], dict[str, Any]]:
    """Tokens of each prompt, further values a token by name, and what the processor returned for the images.

    Prompts with images, or the first where there are none, go through the processor together; others are words alone.
    """
    tokenizer, processor = reader.processor.tokenizer, reader.processor
    counts = [exchange.images for exchange in conversation.exchanges]
    chosen = [number for number, count in enumerate(counts) if count] or [0]
    special = script.prompts[0].needs_special_tokens(tokenizer)
    starts = np.cumsum([0, *counts])
    texts = [script.prompts[number].text for number in chosen]
    shown = [pictures[starts[number] : starts[number + 1]] for number in chosen]
    try:
        outputs = process(processor, texts, shown, special=special, typed=reader.typed)
    except ValueError as error:
        raise SampleError(
            f"the processor refuses sample {conversation.sample_id} ({error})",
            expected="words and pictures that the model takes",
        ) from error
    ids, kept = outputs["input_ids"], outputs["attention_mask"].bool()
    names = [name for name, value in outputs.items() if value.shape == ids.shape and not value.is_floating_point()]
    prefix = len(tokenizer("", add_special_tokens=special)["input_ids"])
    by_name: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for number, prompt in enumerate(script.prompts):
        if number in chosen:
            row = chosen.index(number)
            first = 0 if number == 0 else prefix
            for name in names:
                by_name[name].append(outputs[name][row, kept[row]].numpy()[first:])
            continue
        words = tokenizer(prompt.text, add_special_tokens=special and number == 0)["input_ids"]
        for name in names:
            by_name[name].append(np.array(words, np.int64) if name == "input_ids" else np.zeros(len(words), np.int64))
    asked = by_name.pop("input_ids")
    by_name.pop("attention_mask")
    return asked, by_name, outputs


def _end(closing: np.ndarray, reader: Reader) -> list[int]:
    """The token that ends an answer: the one that the template writes there, else the tokenizer's."""
    if closing.size and closing[0] in reader.eos_ids:
        return [int(closing[0])]
    end = reader.processor.tokenizer.eos_token_id
    return [] if end is None else [end]


def _cut(answered: np.ndarray, max_length: int) -> int:
    """Where the row ends: at max_length, less a question whose answer is cut off."""
    told = np.flatnonzero(answered[:max_length])
    return int(told[-1]) + 1 if len(told) else 0
