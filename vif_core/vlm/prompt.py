"""A sample's prompt as text, and where its question stands in the tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jinja2 import TemplateError

from vif_core.data.sample import Sample
from vif_core.errors import SampleError


@dataclass(frozen=True)
class Prompt:
    """Text given to the processor, with one image placeholder an image.

    start, end: where the question stands in it, in characters; -1, -1 where the template changed its words.
    """

    text: str
    start: int
    end: int

    def needs_special_tokens(self, tokenizer: Any) -> bool:
        """Whether the tokenizer has to add its special tokens: a chat template may have written them already."""
        return not (tokenizer.bos_token and self.text.startswith(tokenizer.bos_token))

    def question_positions(self, tokenizer: Any, input_ids: np.ndarray) -> np.ndarray:
        """Positions of the question's tokens among `input_ids`, in which image placeholders are expanded.

        The question is tokenised in its place in the unexpanded text, and found again by counting from the end
        (images before it) or from the beginning (images after it). Empty where neither holds its tokens.
        """
        plain = tokenizer(
            self.text, return_offsets_mapping=True, add_special_tokens=self.needs_special_tokens(tokenizer)
        )
        start, end = np.array(plain["offset_mapping"]).T
        inside = np.flatnonzero((start < self.end) & (end > self.start))
        wanted = np.array(plain["input_ids"])[inside]
        for positions in (inside - len(start) + len(input_ids), inside):
            if np.array_equal(input_ids[positions], wanted):
                return positions
        return np.zeros(0, dtype=int)


def write_prompt(processor: Any, sample: Sample) -> Prompt:
    """The processor's or tokenizer's chat template filled in; the plain LLaVA-1.5 form where neither has one.

    The system line comes first where the sample has one. Raises SampleError where the question holds the image
    placeholder or the template refuses the prompt.
    """
    question = sample.question.strip()
    placeholder = getattr(processor, "image_token", None) or processor.tokenizer.image_token
    if placeholder in question:
        raise SampleError(
            f"the question of sample {sample.sample_id} holds the image placeholder {placeholder}",
            expected="words alone",
            next_step="Remove it: images are placed before the question",
        )
    pictures = [{"type": "image"}] * len(sample.images)
    plain = (placeholder + "\n") * len(sample.images) + question
    if getattr(processor, "chat_template", None):
        text = _fill(processor, sample, [*pictures, _text(question)], [_text(sample.system)])
    elif getattr(processor.tokenizer, "chat_template", None):
        text = _fill(processor.tokenizer, sample, plain, sample.system)
    else:
        text = f"{sample.system} USER: {plain} ASSISTANT:".lstrip()
    start = text.rfind(question)
    return Prompt(text, start, start + len(question) if start >= 0 else -1)


def _text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


def _fill(owner: Any, sample: Sample, content: Any, system: Any) -> str:
    messages = [{"role": "system", "content": system}] * bool(sample.system) + [{"role": "user", "content": content}]
    try:
        return owner.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    except TemplateError as error:
        raise SampleError(
            f"the chat template refuses sample {sample.sample_id} ({error})",
            expected="a system line and one question, or less",
            next_step="Leave the system line out" if sample.system else "Choose another model",
        ) from error
