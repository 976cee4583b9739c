"""Data sets of the hub give samples by their columns' usual names."""

import io
import os

import numpy as np
import pytest
from PIL import ExifTags, Image

from vif_core.data.hub import HubConversations, HubSource, open_hub
from vif_core.errors import SampleError, UsageError, VifError

datasets = pytest.importorskip("datasets") if not os.environ.get("CI") else __import__("datasets")


def picture(width=4):
    return Image.new("RGB", (width, 4))


def test_rows_become_samples():
    rows = {
        "img": [picture(), picture(5)],
        "query": ["Which?", "Where?"],
        "answers": [["red", "Red"], [{"answer": "here"}]],
        "bbox": [[0, 0, 1, 1], None],
    }
    rows["answers"] = [["red", "Red"], ["here"]]
    source = HubSource(datasets.Dataset.from_dict(rows), "owner--name-test")
    first, second = source[0], source[1]
    assert (first.sample_id, first.question, first.answer, first.boxes) == ("000000", "Which?", "red", ((0, 0, 1, 1),))
    assert (second.answer, second.boxes, second.open_images()[0].size) == ("here", (), (5, 4))
    assert (len(source), source.name) == (2, "owner--name-test")


@pytest.mark.parametrize(
    ("columns", "size"),
    [
        ({"size": ["tiny"]}, "tiny"),
        ({"object_size": ["large"], "size": [[640, 480]]}, "large"),
        ({"size": [[640, 480]]}, ""),
        ({"size": [12345]}, ""),
        ({}, ""),
    ],
    ids=["size", "object_size", "of the picture", "of the file", "none"],
)
def test_the_size_of_the_object_is_a_word(columns, size):
    rows = datasets.Dataset.from_dict({"image": [picture()], "question": ["Which?"], **columns})
    assert HubSource(rows, "d")[0].size == size


def test_several_images_and_conversations_are_understood():
    turns = [{"from": "human", "value": "<image>Same?"}, {"from": "gpt", "value": "Yes"}]
    rows = {"images": [[picture(), picture(6)]], "conversations": [turns]}
    sample = HubSource(datasets.Dataset.from_dict(rows), "d")[0]
    assert (sample.question, sample.answer) == ("Same?", "Yes")
    assert [image.size for image in sample.open_images()] == [(4, 4), (6, 4)]


@pytest.mark.parametrize(
    ("column", "line"),
    [
        ({"conversations": [None]}, "row 0 of d has no readable conversation"),
        ({"conversations": [[{"from": "human", "value": None}]]}, "row 0 of d has no readable conversation"),
        ({"question": ["Which?"], "boxes": [[3, 3, 1, 1]]}, "row 0 of d has the boxes"),
    ],
    ids=["no conversation", "no words", "a box without area"],
)
def test_a_malformed_row_costs_a_training_that_row_alone(column, line):
    rows = HubConversations(HubSource(datasets.Dataset.from_dict({"image": [picture()], **column}), "d"))
    with pytest.raises(SampleError, match=line):
        rows[0]


def test_missing_columns_are_named_with_what_is_there():
    with pytest.raises(
        UsageError, match=r"d has the columns picture, words; expected one for the question: question, query"
    ):
        HubSource(datasets.Dataset.from_dict({"picture": [picture()], "words": ["Which?"]}), "d")


def test_a_broken_picture_costs_only_its_sample():
    rows = datasets.Dataset.from_dict({"image": [{"bytes": b"no", "path": None}], "question": ["Which?"]})
    source = HubSource(rows.cast_column("image", datasets.Image()), "d")
    with pytest.raises(SampleError, match="sample 000000: its image cannot be read"):
        source[0]


def test_sixteen_bits_of_grey_become_eight():
    encoded = io.BytesIO()
    Image.fromarray(np.array([[0, 32896, 65535]], dtype=np.uint16)).save(encoded, "PNG")
    rows = datasets.Dataset.from_dict({"image": [{"bytes": encoded.getvalue(), "path": None}], "question": ["Which?"]})
    (picture,) = HubSource(rows.cast_column("image", datasets.Image()), "d")[0].images
    assert np.array_equal(np.asarray(picture)[0, :, 0], [0, 128, 255])


def test_a_picture_is_turned_as_its_exif_says():
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    encoded = io.BytesIO()
    picture(6).save(encoded, "JPEG", exif=exif)
    rows = datasets.Dataset.from_dict({"image": [{"bytes": encoded.getvalue(), "path": None}], "question": ["Which?"]})
    sample = HubSource(rows.cast_column("image", datasets.Image()), "d")[0]
    assert [image.size for image in (*sample.images, *sample.open_images())] == [(4, 6)] * 2


def test_the_same_rows_have_the_same_fingerprint():
    rows = datasets.Dataset.from_dict({"image": [picture()], "question": ["Which?"]})
    assert HubSource(rows, "d").fingerprint == HubSource(rows.with_format("numpy"), "d").fingerprint
    assert HubSource(rows, "d").fingerprint != HubSource(rows, "e").fingerprint


@pytest.fixture
def hub(monkeypatch):
    """A hub that holds one data set with three splits, and takes note of what is loaded from it."""
    loaded = []

    def load(repository, configuration, split):
        loaded.append((repository, configuration, split))
        return datasets.Dataset.from_dict({"image": [picture()], "question": ["Which?"]})

    monkeypatch.setattr(datasets, "get_dataset_split_names", lambda *_: ["train", "validation"])
    monkeypatch.setattr(datasets, "load_dataset", load)
    return loaded


def test_split_and_configuration_are_read_from_the_id(hub):
    open_hub("owner/name:train")
    assert open_hub("owner/name/easy").name == "owner--name--easy-validation"
    assert hub == [("owner/name", None, "train"), ("owner/name", "easy", "validation")]
    with pytest.raises(UsageError, match="no split 'test'; expected one of train, validation"):
        open_hub("owner/name:test")


@pytest.mark.parametrize(
    ("cause", "expected", "line"),
    [
        (ConnectionError("offline"), VifError, r"the hub cannot be reached \(offline\); expected a network"),
        (FileNotFoundError("no such id"), UsageError, r"cannot be loaded \(FileNotFoundError: no such id\)"),
    ],
    ids=["no network", "no such id"],
)
def test_what_cannot_be_loaded_is_one_line(monkeypatch, cause, expected, line):
    def refuse(*_):
        raise cause

    monkeypatch.setattr(datasets, "get_dataset_split_names", refuse)
    with pytest.raises(expected, match=line) as caught:
        open_hub("owner/name")
    assert type(caught.value) is expected
    assert "\n" not in str(caught.value)
