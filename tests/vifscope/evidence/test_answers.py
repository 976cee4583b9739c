"""Answers come back in the order of the questions, whatever the batches."""

from __future__ import annotations

from PIL import Image

from vif_core.data.sample import Sample
from vif_core.vlm.tiny import tiny_model, tiny_samples
from vifscope.evidence.answers import answer_all, like_batches


def asked(kind: str, question: str, side: int = 8) -> Sample:
    return Sample("s", (Image.new("RGB", (side, side)),), question, kind=kind)


def test_batches_are_of_one_kind_then_of_one_size_then_of_one_length():
    samples = [asked("b", "long question"), asked("a", "q"), asked("b", "q"), asked("a", "q", 16), asked("a", "qq")]
    assert like_batches(samples, 2) == [[1, 4], [3, 2], [0]]


def test_answers_do_not_depend_on_the_batches():
    vlm, samples = tiny_model("llava"), tiny_samples(5)
    together = answer_all(vlm, samples, batch_size=5, max_new_tokens=3)
    assert together == answer_all(vlm, samples, batch_size=1, max_new_tokens=3)
