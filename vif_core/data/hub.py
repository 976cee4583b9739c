"""Data sets of the Hugging Face hub, by their columns' usual names."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image

from vif_core.data.conversation import Conversation
from vif_core.data.folder import read_answer, read_boxes
from vif_core.data.llava import Turn, first_turn, read_conversation
from vif_core.data.sample import BROKEN, Sample, as_rgb
from vif_core.errors import SampleError, UsageError, VifError

if TYPE_CHECKING:
    from datasets import Dataset

COLUMNS = {
    "image": ("image", "images", "img", "picture", "image_1"),
    "question": ("question", "query", "prompt", "problem", "conversations"),
    "answer": ("answer", "answers", "multiple_choice_answer", "label", "solution"),
    "boxes": ("boxes", "bboxes", "bbox", "box"),
    "kind": ("kind", "question_type", "category", "task"),
    "size": ("object_size", "size"),
}
SPLITS = ("test", "validation", "val", "train")


class HubSource:
    """Rows of a loaded data set; sample i is row i. `dataset` needs a column for the image and one for the question."""

    def __init__(self, dataset: Dataset, name: str) -> None:
        """Raises UsageError, naming the columns that there are, if no image or question is found."""
        from datasets import Image as ImageFeature
        from datasets import List

        found = {role: next((c for c in names if c in dataset.column_names), "") for role, names in COLUMNS.items()}
        for role in ("image", "question"):
            if not found[role]:
                raise UsageError(
                    f"data set {name} has the columns {', '.join(dataset.column_names)}",
                    expected=f"one for the {role}: {', '.join(COLUMNS[role])}",
                    next_step="Rename the column, or write a .jsonl listing from the data set",
                )
        late = ImageFeature(decode=False)  # a broken picture then costs one sample
        is_list = isinstance(dataset.features[found["image"]], list | List)
        self._rows = dataset.cast_column(found["image"], List(late) if is_list else late)
        self._columns = found
        self.name = name
        self.fingerprint = _fingerprint(dataset, name)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Sample:
        sample_id, where, values = self._values(index)
        if self.tells_conversations:
            turn = first_turn(values["question"], where)
        else:
            turn = Turn("", str(values["question"] or ""), read_answer(values["answer"]))
        return Sample(
            sample_id,
            _images(values["image"], sample_id),
            turn.question,
            turn.answer,
            read_boxes(values["boxes"], where),
            kind=str(values["kind"] or ""),
            size=values["size"] if isinstance(values["size"], str) else "",  # numbers are those of a picture or file
            system=turn.system,
        )

    @property
    def tells_conversations(self) -> bool:
        return self._columns["question"] == "conversations"

    def conversation(self, index: int) -> Conversation:
        """All exchanges of row `index`; the row may have no image."""
        if not self.tells_conversations:
            return Conversation.of(self[index])
        sample_id, where, values = self._values(index)
        images = () if values["image"] is None else _images(values["image"], sample_id)
        return read_conversation(values["question"], images, sample_id, where)

    def _values(self, index: int) -> tuple[str, str, dict[str, Any]]:
        row = self._rows[index]
        values = {role: row[column] if column else None for role, column in self._columns.items()}
        return f"{index:06d}", f"row {index} of {self.name}", values


@dataclass(frozen=True)
class HubConversations:
    """A data set of the hub as conversations. A row that cannot be used is a SampleError, found when it is read."""

    source: HubSource

    @property
    def name(self) -> str:
        return self.source.name

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Conversation:
        try:
            return self.source.conversation(index)
        except UsageError as error:
            raise SampleError(str(error)) from error


def open_hub(name: str) -> HubSource:
    """A data set from "OWNER/NAME[/CONFIGURATION][:SPLIT]"; without a split, the first of test, validation, val, train.

    Raises UsageError for an id or split that is not there, VifError without `datasets` or without network.
    """
    try:
        import datasets
    except ImportError as error:
        raise VifError(
            "the package `datasets` is not installed",
            expected="it, to read data from the hub",
            next_step="Run: pip install 'vifscope[hub]'",
        ) from error
    path, _, split = name.partition(":")
    repository, configuration = "/".join(path.split("/")[:2]), "/".join(path.split("/")[2:]) or None
    try:
        splits = datasets.get_dataset_split_names(repository, configuration)
        split = split or next((s for s in SPLITS if s in splits), splits[0])
        if split not in splits:
            raise UsageError(f"data set {path} has no split {split!r}", expected=f"one of {', '.join(splits)}")
        rows = datasets.load_dataset(repository, configuration, split=split)
    except ConnectionError as error:
        raise VifError(
            f"data set {path!r} is not in the local cache and the hub cannot be reached ({error})",
            expected="a network, or a data set that was loaded before",
            next_step="Go online, or give a local folder to --data",
        ) from error
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"data set {path!r} cannot be loaded ({type(error).__name__}: {error})",
            expected="an id of the hub, as in hub:OWNER/NAME:SPLIT",
            next_step="Check the id",
        ) from error
    return HubSource(rows, f"{path.replace('/', '--')}-{split}")


def _fingerprint(dataset: Dataset, name: str) -> str:
    """Same for the same files of the hub (their addresses hold the commit) and the same rows taken from them."""
    identity = [name, len(dataset), sorted(dataset.info.download_checksums or {}), str(dataset.features)]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]


def _images(value: Any, sample_id: str) -> tuple[Image.Image, ...]:
    return tuple(_image(image, sample_id) for image in (value if isinstance(value, Sequence) else [value]))


def _image(value: Any, sample_id: str) -> Image.Image:
    try:
        with Image.open(io.BytesIO(value["bytes"]) if value["bytes"] else value["path"]) as opened:
            return as_rgb(opened, f"sample {sample_id}: its image")
    except (KeyError, *BROKEN) as error:
        raise SampleError(f"sample {sample_id}: its image cannot be read ({error})", expected="a picture") from error
