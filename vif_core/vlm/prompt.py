"""Prompts as text: of a sample, or of each question of a conversation. Reading, training and answering share them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from jinja2 import TemplateError

from vif_core.data.conversation import Conversation, Exchange
from vif_core.data.sample import Sample
from vif_core.errors import SampleError

Medium = Literal["image", "video"]
"""What a placeholder stands for, as chat templates call it."""


@dataclass(frozen=True)
class Prompt:
    """Text given to the processor, with one placeholder an image, or one for a video.

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


@dataclass(frozen=True)
class Script:
    """A conversation as text, answers left out: `prompts[k]` is what stands before answer k and after the one before.

    ending: what the template writes after the last answer; "" where that is yet to be generated, or not to be found.
    """

    prompts: tuple[Prompt, ...]
    ending: str


def write_prompt(processor: Any, sample: Sample) -> Prompt:
    """The processor's or tokenizer's chat template filled in; the plain LLaVA-1.5 form where neither has one.

    The system line comes first where the sample has one. Raises SampleError where the question holds the image
    or video placeholder, and where the template refuses the prompt or leaves a video out.
    """
    if _takes_tasks(processor) and len(sample.images) > 1:
        raise SampleError(
            f"sample {sample.sample_id} has {len(sample.images)} images",
            expected="one, as Florence-2 reads no more",
            next_step="Leave the others out, or choose another model",
        )
    if sample.frames:
        exchange = Exchange((None, sample.question.strip()), None)
        conversation = Conversation(sample.sample_id, (), (exchange,), sample.system)
        return write_script(processor, conversation, "video").prompts[0]
    return write_script(processor, Conversation.of(replace(sample, answer=None))).prompts[0]


def write_script(processor: Any, conversation: Conversation, medium: Medium = "image") -> Script:
    """Every prompt of a conversation; the first is what `write_prompt` writes for its first question.

    medium: what the conversation's places without words stand for.
    Answers enter without white space around them, and no space follows them. Raises SampleError where words hold the
    placeholder, and where the template refuses the conversation, leaves a video out or changes what it wrote before.
    """
    placeholder = placeholder_of(processor, medium)
    for exchange in conversation.exchanges:
        for kind, words in (
            *(("question", part or "") for part in exchange.question),
            ("answer", exchange.answer or ""),
        ):
            if placeholder in words:
                raise SampleError(
                    f"the {kind} of sample {conversation.sample_id} holds the {medium} placeholder {placeholder}",
                    expected="words alone",
                    next_step=f"Remove it: {medium}s are placed before the question",
                )
    prompts, before = [], ""
    for number, exchange in enumerate(conversation.exchanges):
        text = _fill(processor, conversation, number, placeholder, medium, open_ended=True)
        if medium == "video" and placeholder not in text:
            raise SampleError(
                f"the chat template writes no {placeholder} for the video of sample {conversation.sample_id}",
                expected="a template with a video placeholder",
                next_step="Give the frames as images, or choose another model",
            )
        if places_images(processor):
            text = text.replace(f"{placeholder}\n", "")
        own = _after(text, before, conversation, number)
        if own is None:
            raise SampleError(
                f"the chat template rewrites earlier turns of sample {conversation.sample_id}",
                expected="a template that adds to what it wrote",
                next_step="Train on rows of one question each, or choose another model",
            )
        question = _plain(exchange, placeholder)[len(_leading(exchange, placeholder)) :]
        start = own.rfind(question)
        prompts.append(Prompt(own, start, start + len(question) if start >= 0 else -1))
        before = text
    if conversation.exchanges[-1].answer is None:
        return Script(tuple(prompts), "")
    last = len(conversation.exchanges) - 1
    told = _fill(processor, conversation, last, placeholder, medium, open_ended=False)
    return Script(tuple(prompts), _after(told, before, conversation, last + 1) or "")


def placeholder_of(processor: Any, medium: Medium = "image") -> str:
    """What stands for an image, or a video, in a prompt's text."""
    name = f"{medium}_token"
    named = getattr(processor, name, None) or getattr(processor.tokenizer, name, None)
    return str(named or f"<{medium}>")  # IDEFICS names none


def places_images(processor: Any) -> bool:
    """Whether the processor itself puts an image's tokens before the text, which then holds no placeholder (BLIP-2,
    Florence-2)."""
    return hasattr(processor, "num_query_tokens") or _takes_tasks(processor)


def writes_special_tokens(processor: Any, pictured: bool) -> bool:
    """Whether the processor writes the text's special tokens itself (IDEFICS, Llama 3.2 Vision; Florence-2 beside an
    image)."""
    return (_takes_tasks(processor) and pictured) or takes_parts(processor) or hasattr(processor, "python_token")


def takes_parts(processor: Any) -> bool:
    """Whether the processor wants a prompt's words and pictures as one list, and writes tokens between (IDEFICS)."""
    return hasattr(processor, "tokenizer_was_trained_with_end_of_utterance_token")


def between(processor: Any, text: str, pictures: Sequence[Any]) -> list[Any]:
    """A prompt's words, with `pictures` where its placeholders stand."""
    first, *others = text.removeprefix(processor.tokenizer.bos_token or "").split(placeholder_of(processor))
    parts = [first]
    for picture, words in zip(pictures, others, strict=True):
        parts += [picture, words]
    return [part for part in parts if not isinstance(part, str) or part.strip()]


def _takes_tasks(processor: Any) -> bool:
    return hasattr(processor, "task_prompts_with_input")


def _after(text: str, before: str, conversation: Conversation, number: int) -> str | None:
    """What `text` adds to `before` and the answer of exchange `number` - 1 after it; None where it changes them."""
    if number == 0:
        return text
    answer = (conversation.exchanges[number - 1].answer or "").strip()
    rest = text.removeprefix(before).lstrip()
    if not text.startswith(before) or not rest.startswith(answer):
        return None
    return rest[len(answer) :].lstrip(" ")


def _leading(exchange: Exchange, placeholder: str) -> str:
    count = next((i for i, part in enumerate(exchange.question) if part is not None), len(exchange.question))
    return (placeholder + "\n") * count


def _plain(exchange: Exchange, placeholder: str) -> str:
    """A question as plain text: leading images on lines of their own, others among the words."""
    leading = _leading(exchange, placeholder)
    rest = exchange.question[leading.count("\n") :]
    return leading + "".join(placeholder if part is None else part for part in rest)


def _fill(
    processor: Any, conversation: Conversation, last: int, placeholder: str, medium: Medium, *, open_ended: bool
) -> str:
    """The conversation up to exchange `last`, whose answer is left open, or told and closed."""
    exchanges = conversation.exchanges[: last + 1]
    if getattr(processor, "chat_template", None):
        questions: list[Any] = [[_part(part, medium) for part in exchange.question] for exchange in exchanges]
        return _template(processor, conversation, questions, lambda text: [_part(text, medium)], open_ended)
    questions = [_plain(exchange, placeholder) for exchange in exchanges]
    if getattr(processor.tokenizer, "chat_template", None):
        return _template(processor.tokenizer, conversation, questions, lambda text: text, open_ended)
    end = processor.tokenizer.eos_token or ""
    told = [f" {(exchange.answer or '').strip()}{end}" for exchange in exchanges]
    if open_ended:
        told[-1] = ""
    if _takes_tasks(processor):  # Florence-2 was not taught to converse
        return " ".join(filter(None, [conversation.system, *questions]))
    asking, answering = ("Question", "Answer") if places_images(processor) else ("USER", "ASSISTANT")
    turns = [f"{asking}: {question} {answering}:{answer}" for question, answer in zip(questions, told, strict=True)]
    return f"{conversation.system} {''.join(turns)}".lstrip()


def _part(part: str | None, medium: Medium) -> dict[str, str]:
    return {"type": medium} if part is None else {"type": "text", "text": part}


def _template(owner: Any, conversation: Conversation, questions: Sequence[Any], told: Any, open_ended: bool) -> str:
    messages = [{"role": "system", "content": told(conversation.system)}] * bool(conversation.system)
    for question, exchange in zip(questions, conversation.exchanges, strict=False):
        messages.append({"role": "user", "content": question})
        messages.append({"role": "assistant", "content": told((exchange.answer or "").strip())})
    try:
        return owner.apply_chat_template(
            messages[:-1] if open_ended else messages, tokenize=False, add_generation_prompt=open_ended
        )
    except TemplateError as error:
        raise SampleError(
            f"the chat template refuses sample {conversation.sample_id} ({error})",
            expected="a system line and one question, or less",
            next_step="Leave the system line out" if conversation.system else "Choose another model",
        ) from error
