"""Prompts as text, and where the question stands in their tokens."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from vif_core.data.sample import Sample
from vif_core.errors import SampleError
from vif_core.vlm.layout import SEGMENTS
from vif_core.vlm.prompt import write_prompt
from vif_core.vlm.tiny import TINY_FAMILIES, tiny_model

PICTURE = Image.new("RGB", (60, 40))


def sample(question="What is it?", system="", images=1):
    return Sample("s-1", (PICTURE,) * images, question, system=system)


@pytest.fixture(params=TINY_FAMILIES)
def vlm(request):
    return tiny_model(request.param)


@pytest.fixture(scope="module")
def llava():
    return tiny_model("llava")


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        (sample(), "USER: <image>\nWhat is it? ASSISTANT:"),
        (sample(system="Be brief."), "Be brief. USER: <image>\nWhat is it? ASSISTANT:"),
        (sample(images=2), "USER: <image>\n<image>\nWhat is it? ASSISTANT:"),
        (sample(question="  What is it?\n"), "USER: <image>\nWhat is it? ASSISTANT:"),
    ],
    ids=["plain", "system", "two-images", "stripped"],
)
def test_without_a_template_the_form_is_that_of_llava(llava, asked, text):
    assert llava.prompt_text(asked) == text


def test_the_processor_s_template_is_used():
    assert tiny_model("qwen2_5_vl").prompt_text(sample(system="Be brief.")) == (
        "<s>system\nBe brief.</s>\n<s>user\n<boi><image><eoi>What is it?</s>\n<s>assistant"
    )


def test_the_tokenizer_s_template_is_used_where_the_processor_has_none():
    vlm = tiny_model("llava")
    vlm.tokenizer.chat_template = "{% for m in messages %}[{{ m.role }}] {{ m.content }} {% endfor %}"
    assert vlm.prompt_text(sample(system="Be brief.")) == "[system] Be brief. [user] <image>\nWhat is it? "


@pytest.mark.parametrize(
    "question",
    ["What is it?", "user", "Is “é” a letter — or 2?", "USER: what?\nASSISTANT: that", "?", "What is it? What is it?"],
)
def test_the_question_s_tokens_spell_the_question(vlm, question):
    asked = sample(question, system=f"Someone asks: {question}")
    layout = vlm.encode([asked, sample("Another, longer than most of them are?")]).layouts[0]
    marked = np.flatnonzero(layout.segment == SEGMENTS.index("question"))
    assert vlm.tokenizer.decode(layout.input_ids[marked].tolist()) == question
    assert (np.diff(marked) == 1).all()
    assert marked[0] > layout.visual[-1]


def test_the_question_is_found_before_the_image_as_well():
    vlm = tiny_model("llava")
    vlm.tokenizer.chat_template = "{{ messages[0].content[8:] }} <image> Answer:"
    layout = vlm.encode([sample()]).layouts[0]
    marked = np.flatnonzero(layout.segment == SEGMENTS.index("question"))
    assert vlm.tokenizer.decode(layout.input_ids[marked].tolist()) == "What is it?"
    assert marked[-1] < layout.visual[0]


def test_a_template_that_changes_the_words_leaves_no_question_tokens():
    vlm = tiny_model("llava")
    vlm.tokenizer.chat_template = "{{ messages[0].content | upper | replace('<IMAGE>', '<image>') }}"
    layout = vlm.encode([sample()]).layouts[0]
    assert SEGMENTS.index("question") not in layout.segment


def test_a_beginning_that_the_template_wrote_is_not_written_twice(vlm):
    layout = vlm.encode([sample()]).layouts[0]
    assert (layout.input_ids == vlm.tokenizer.bos_token_id).sum() in (1, 2)  # Qwen's begins each turn
    assert layout.input_ids[1] != vlm.tokenizer.bos_token_id
    assert layout.segment.tolist().count(SEGMENTS.index("bos")) == 1


def test_an_image_placeholder_in_the_question_is_refused(llava):
    with pytest.raises(SampleError, match="question of sample s-1 holds the image placeholder <image>; expected words"):
        llava.prompt_text(sample("<image>\nWhat is it?"))


def test_a_system_line_that_the_template_refuses_is_one_clear_line(llava):
    vlm = tiny_model("llava")
    vlm.tokenizer.chat_template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    )
    line = r"template refuses sample s-1 \(System role not supported\).*Leave the system line out"
    with pytest.raises(SampleError, match=line):
        vlm.prompt_text(sample(system="Be brief."))


def test_the_placeholder_may_be_known_to_the_tokenizer_alone(llava):
    processor = SimpleNamespace(tokenizer=llava.tokenizer)
    assert write_prompt(processor, sample()).text == "USER: <image>\nWhat is it? ASSISTANT:"


def test_blip_2_puts_the_image_first_itself_and_is_asked_in_its_own_words():
    vlm = tiny_model("blip-2")
    assert vlm.prompt_text(sample("What is this?")) == "Question: What is this? Answer:"
    (layout,) = vlm.encode([sample("What is this?")]).layouts
    assert layout.visual.tolist() == list(range(8))
    words = vlm.decode(layout.input_ids[layout.segment == SEGMENTS.index("question")].tolist())
    assert words == "What is this?"
    prompt = write_prompt(vlm.processor, sample("What is this?"))
    assert prompt.text[prompt.start : prompt.end] == "What is this?", "the text is that which is tokenised"
