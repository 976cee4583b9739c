"""Which samples an experiment asks about: as many on tiny objects as on others, the first of one permutation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from vif_core.data.sample import Source, sample_order
from vif_core.errors import SampleError, UsageError
from vifscope.runs.disk import write_file

TINY = "tiny"
EVERY = 1000
"""So many samples are looked at between two words about progress."""

_TELLING = 500
"""So many samples tell whether a source has any about tiny objects."""


@dataclass(frozen=True)
class Asked:
    """A sample that is asked about: its place in the source, and what decides the batch it goes in.

    length: of its question, in characters.      image: identity of its pixels, which the bootstrap draws.
    """

    index: int
    sample_id: str
    kind: str
    size: str
    length: int
    image: str

    @property
    def tiny(self) -> bool:
        return self.size == TINY


@dataclass(frozen=True)
class Samples:
    """The samples of a source that have an answer and a picture, in the order of one permutation, so far as needed."""

    seen: tuple[Asked, ...]
    exhausted: bool

    def chosen(self, n: int) -> list[Asked]:
        """n of them: the first n / 2 about tiny objects and as many others; more of these where tiny ones run out, and
        the other way round; the first n of a source without tiny ones. A smaller number is part of a larger one's.
        Raises UsageError where there are not so many.
        """
        tiny, other = ([asked for asked in self.seen if asked.tiny is wanted] for wanted in (True, False))
        n_tiny = min(max(n // 2, n - len(other)), len(tiny))
        if len(tiny) + len(other) < n:
            raise UsageError(
                f"{n} samples of {len(self.seen)} with an answer and a picture", expected="no more than that"
            )
        if self._has_tiny:
            return [*tiny[:n_tiny], *other[: n - n_tiny]]
        return list(self.seen[:n])

    def enough(self, n: int) -> bool:
        tiny = sum(asked.tiny for asked in self.seen)
        balanced = tiny >= n // 2 and len(self.seen) - tiny >= n - n // 2
        return self.exhausted or balanced or (len(self.seen) >= max(n, _TELLING) and not self._has_tiny)

    @property
    def _has_tiny(self) -> bool:
        """Whether the source holds any; one whose first samples are not about tiny objects is not searched for them."""
        return any(asked.tiny for asked in self.seen[:_TELLING])


def find_samples(
    source: Source, n: int, path: Path, tell: Callable[[int, int], None] = lambda *_: None, seed: int = 0
) -> Samples:
    """Samples among which n can be chosen, kept in a file, so that the source is gone through once.

    tell: called with how many of the source have been looked at, and how many it has.
    Samples without an answer or a picture, and those that cannot be opened, are passed over.
    """
    known = json.loads(path.read_text()) if path.exists() else {}
    of = {"data": source.name, "fingerprint": source.fingerprint, "seed": seed}
    if {name: known.get(name) for name in of} != of:
        known = of | {"looked_at": 0, "samples": []}
    order, looked_at = sample_order(source, seed), known["looked_at"]
    seen = [Asked(*values) for values in known["samples"]]
    found = Samples(tuple(seen), looked_at == len(order))
    if found.enough(n):
        return found
    while not found.enough(n):
        tell(looked_at, len(order))
        part = order[looked_at : looked_at + EVERY]
        seen += [asked for index in part if (asked := _asked(source, index))]
        looked_at += len(part)
        found = Samples(tuple(seen), looked_at == len(order))
    tell(looked_at, looked_at)
    kept = of | {"looked_at": looked_at, "samples": [astuple(asked) for asked in seen]}
    write_file(path, json.dumps(kept).encode())
    return found


def batches_of(asked: Sequence[Asked], batch_size: int) -> list[list[Asked]]:
    """Batches of one kind and of questions about as long; none of a single sample, whose maps had nobody to swap with,
    unless there is no other."""
    order = sorted(asked, key=lambda each: (each.kind, each.length, each.index))
    batches: list[list[Asked]] = []
    for each in order:
        if not batches or batches[-1][-1].kind != each.kind or len(batches[-1]) == batch_size:
            batches.append([])
        batches[-1].append(each)
    for i in reversed(range(len(batches))):
        if len(batches[i]) == 1 and len(batches) > 1:
            batches[i - 1 if i else 1].extend(batches.pop(i))
    return batches


def _asked(source: Source, index: int) -> Asked | None:
    try:
        sample = source[index]
        pixels = [image.tobytes() for image in sample.open_images()]
    except SampleError:
        return None
    if not pixels or not sample.answer:
        return None
    return Asked(index, sample.sample_id, sample.kind, sample.size, len(sample.question), _identity(pixels))


def _identity(pixels: Sequence[bytes]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for each in pixels:
        digest.update(each)
    return digest.hexdigest()
