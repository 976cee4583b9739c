"""What can be answered without looking: the majority answer of each template, and answers to a blank image."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

from PIL import Image

from vif_core.data.sample import Sample
from vif_core.data.specks.words import COLOURS, SHAPES, SIZES
from vifscope.scoring.answers import score_response

_NAMED = re.compile(rf"\b({'|'.join((*SIZES, *COLOURS, *SHAPES))})\b")


def template(question: str) -> str:
    """A question of specks with what it names left open.

    >>> template("what colour is the tiny star ?")
    'what colour is the * * ?'
    """
    return _NAMED.sub("*", question)


def majority_answers(samples: Sequence[Sample]) -> Callable[[Sample], str]:
    """The most common answer to each template among `samples`, as a rule for other samples of specks."""
    seen: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for sample in samples:
        if sample.answer is not None:
            seen[template(sample.question)][sample.answer] += 1
            seen[sample.kind][sample.answer] += 1  # for templates never seen
    common = {key: answers.most_common(1)[0][0] for key, answers in seen.items()}
    return lambda sample: common.get(template(sample.question), common.get(sample.kind, ""))


def majority_elsewhere(samples: Sequence[Sample], units: Sequence[str], folds: int = 10) -> list[str | None]:
    """`majority_answers` of each sample, learned from the samples of other images: those outside its fold of ten.

    units: the image of each sample. None where those tell no answer to its template nor to its kind.
    """
    fold = {unit: place % folds for place, unit in enumerate(sorted(set(units)))}
    of = [fold[unit] for unit in units]
    rules = {
        held: majority_answers([sample for sample, at in zip(samples, of, strict=True) if at != held])
        for held in set(of)
    }
    return [rules[at](sample) or None for sample, at in zip(samples, of, strict=True)]


def blank(sample: Sample) -> Sample:
    """The sample with every image or frame replaced by an even grey of its size."""
    return replace(sample, images=_grey(sample.open_images()), frames=_grey(sample.open_frames()))


def without_image(sample: Sample) -> Sample:
    """The sample's words alone."""
    return replace(sample, images=(), frames=())


def _grey(pictures: Sequence[Image.Image]) -> tuple[Image.Image, ...]:
    return tuple(Image.new("RGB", picture.size, (127, 127, 127)) for picture in pictures)


def accuracy_by_kind(samples: Sequence[Sample], responses: Sequence[str]) -> dict[str, float]:
    """Share of right responses of each kind, and over all samples under "overall"."""
    right: defaultdict[str, list[bool]] = defaultdict(list)
    for sample, response in zip(samples, responses, strict=True):
        hit = bool(score_response(sample, response)[0])
        right[sample.kind].append(hit)
        right["overall"].append(hit)
    return {kind: sum(hits) / len(hits) for kind, hits in right.items()}
