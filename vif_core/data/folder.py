"""A folder of pictures with a listing of questions: image or frames, question, optional answer, boxes, kind, size."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from vif_core.data.listed import Listed, Row, fingerprint, read_names, unique_ids
from vif_core.data.sample import Box, Sample
from vif_core.errors import UsageError

EXAMPLE = '{"image": "kitchen.jpg", "question": "What is on the table?"}'
VIDEO_EXAMPLE = '{"frames": ["cup/01.png", "cup/02.png"], "fps": 2, "question": "Who takes the cup?"}'


def find_listing(folder: Path) -> Path:
    """The one .jsonl (or else .json) file of a folder. Raises UsageError if there is none, or more than one."""
    for suffix in (".jsonl", ".json"):
        found = sorted(path for path in folder.iterdir() if path.suffix == suffix)
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(path.name for path in found[:4])
            raise UsageError(
                f"folder {folder} holds {len(found)} listings ({names})",
                expected="one",
                next_step="Name the one that you mean, as in --data " + str(found[0]),
            )
    raise UsageError(
        f"folder {folder} has no listing of questions",
        expected="a .jsonl file in it with a line for each sample",
        next_step=f"Write for example {EXAMPLE} into {folder / 'samples.jsonl'}",
    )


def open_listing(path: Path, rows: list[Row]) -> Listed:
    """Samples of a listing; image paths count from its folder.

    Fields: image (or images, a list), or of a video frames (a list in order) and fps (frames a second among them, 2
    where it is left out); question; optional: answer (`read_answer`), boxes ([[x0, y0, x1, y1], ...] in pixels of the
    first image or frame, upright as its EXIF says), id, kind, size, system. Raises UsageError that names the row whose
    pictures, fps or boxes are malformed.
    """
    ids = unique_ids(row.values.get("id") for row in rows)
    samples = [_sample(row, sample_id, path.parent) for row, sample_id in zip(rows, ids, strict=True)]
    return Listed(path.stem, fingerprint(path), samples)


def read_boxes(value: Any, where: str) -> tuple[Box, ...]:
    """Boxes from a list of four numbers or a list of such lists. Raises UsageError where a box has no area."""
    if value is None:
        return ()
    try:
        listed = [value] if len(value) and not hasattr(value[0], "__len__") else list(value)
        boxes = [tuple(float(number) for number in box) for box in listed]
    except (TypeError, ValueError, KeyError):
        boxes = [()]
    for box in boxes:
        if len(box) != 4 or not all(map(math.isfinite, box)) or box[2] <= box[0] or box[3] <= box[1]:
            raise UsageError(
                f"{where} has the boxes {value}", expected="[[x0, y0, x1, y1], ...] in pixels, x0 < x1 and y0 < y1"
            )
    return tuple((box[0], box[1], box[2], box[3]) for box in boxes)


def read_answer(value: Any) -> str | None:
    """The answer as text: the first of several, the text of an object that has one, yes or no for a truth value, four
    numbers as a box; None where there is none, or white space alone."""
    if isinstance(value, list) and not (len(value) == 4 and all(isinstance(each, int | float) for each in value)):
        value = value[0] if value else None
    if isinstance(value, dict):
        value = value.get("answer", value.get("text"))
    if isinstance(value, bool):
        value = "yes" if value else "no"
    return None if value is None or not str(value).strip() else str(value)


def _sample(row: Row, sample_id: str, folder: Path) -> Sample:
    values = {name: value for name, value in row.values.items() if value is not None}  # empty cells of a table
    if "video" in values:
        raise UsageError(
            f"{row.where} names a video file ({values['video']})",
            expected=f"its frames as pictures, as in {VIDEO_EXAMPLE}",
            next_step="Extract them first, for example with ffmpeg -i VIDEO -vf fps=2 FOLDER/%04d.png",
        )
    filmed = "frames" in values
    if filmed and ("image" in values or "images" in values):
        raise UsageError(f"{row.where} names images and frames", expected="one of them, as in " + VIDEO_EXAMPLE)
    names = values["frames"] if filmed else values.get("images", values.get("image"))
    seen, example = ("frame", VIDEO_EXAMPLE) if filmed else ("image", EXAMPLE)
    paths = tuple(folder / name for name in read_names(names, row, seen, example))
    fps = values.get("fps", Sample.fps)
    if not isinstance(fps, int | float) or isinstance(fps, bool) or not 0 < fps < math.inf:
        raise UsageError(f"{row.where} has the fps {fps!r}", expected="frames a second, a number above 0")
    return Sample(
        sample_id,
        () if filmed else paths,
        str(values.get("question") or ""),
        read_answer(values.get("answer")),
        read_boxes(values.get("boxes"), row.where),
        kind=str(values.get("kind") or ""),
        size=str(values.get("size") or ""),
        system=str(values.get("system") or ""),
        frames=paths if filmed else (),
        fps=float(fps),
    )
