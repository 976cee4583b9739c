"""Half of the samples are about tiny objects, the first of one permutation, whatever their number."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field

import pytest
from PIL import Image

from vif_core.data.sample import Sample, sample_order
from vif_core.data.specks import Specks
from vif_core.errors import UsageError
from vifscope.ablation.samples import Asked, batches_of, find_samples


@dataclass
class Source:
    """50 samples, every fifth about a tiny object, every seventh without an answer."""

    name: str = "fifty"
    fingerprint: str = "1"
    opened: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return 50

    def __getitem__(self, index: int) -> Sample:
        self.opened.append(index)
        size = "tiny" if index % 5 == 0 else ""
        answer = "yes" if index % 7 else None
        return Sample(f"s{index}", (Image.new("RGB", (4, 4), (index, 0, 0)),), "really?", answer, size=size)


def asked(index: int, kind: str = "", length: int = 1) -> Asked:
    return Asked(index, f"s{index}", kind, "", length, f"i{index}")


def test_half_are_about_tiny_objects_in_the_order_of_the_permutation(tmp_path):
    found = find_samples(Source(), 8, tmp_path / "samples.json").chosen(8)
    order = [index for index in sample_order(Source(), 0) if index % 7]
    assert [each.index for each in found[:4]] == [index for index in order if index % 5 == 0][:4]
    assert [each.index for each in found[4:]] == [index for index in order if index % 5][:4]


def test_fewer_samples_are_among_more_and_the_file_spares_looking_again(tmp_path):
    source, path = Source(), tmp_path / "samples.json"
    more = find_samples(source, 10, path)
    source.opened.clear()
    fewer = find_samples(source, 6, path)
    assert not source.opened
    assert {each.index for each in fewer.chosen(6)} < {each.index for each in more.chosen(10)}


def test_where_tiny_objects_run_out_others_stand_in(tmp_path):
    found = find_samples(Source(), 40, tmp_path / "samples.json").chosen(40)
    assert Counter(each.tiny for each in found) == {True: 8, False: 32}
    with pytest.raises(UsageError, match="43 samples of 42 with an answer and a picture"):
        find_samples(Source(), 43, tmp_path / "samples.json").chosen(43)


def test_a_source_without_tiny_objects_is_not_searched_for_them(tmp_path):
    @dataclass
    class Large(Source):
        def __len__(self):
            return 3000

        def __getitem__(self, index):
            self.opened.append(index)
            return Sample(f"s{index}", (Image.new("RGB", (4, 4)),), "really?", "yes")

    source = Large()
    found = find_samples(source, 600, tmp_path / "samples.json")
    assert len(source.opened) == 1000
    assert [each.index for each in found.chosen(600)] == list(sample_order(source, 0)[:600])
    assert not any(each.tiny for each in found.chosen(600))


def test_other_data_is_looked_at_anew(tmp_path):
    path = tmp_path / "samples.json"
    find_samples(Source(), 8, path)
    find_samples(Source(fingerprint="2"), 8, path)
    assert json.loads(path.read_text())["fingerprint"] == "2"


def test_equal_pictures_are_one_image_to_the_bootstrap(tmp_path):
    class Same(Source):
        def __getitem__(self, index):
            return Sample(f"s{index}", (Image.new("RGB", (4, 4)),), "really?", "yes", size="tiny" if index % 2 else "")

    found = find_samples(Same(), 8, tmp_path / "samples.json").chosen(8)
    assert len({each.image for each in found}) == 1


def test_the_first_samples_of_specks_hold_as_many_tiny_ones_as_are_needed(tmp_path):
    found = find_samples(Specks("test"), 200, tmp_path / "samples.json")
    assert len(found.seen) == 1000, "under a third are about tiny objects"
    assert Counter(each.tiny for each in found.chosen(200)) == {True: 100, False: 100}


def test_batches_are_of_one_kind_and_none_is_of_a_single_sample():
    kinds = [asked(i, "a", 9 - i) for i in range(5)] + [asked(9, "b"), asked(10, "c"), asked(11, "c")]
    batches = batches_of(kinds, 3)
    assert [[each.index for each in batch] for batch in batches] == [[4, 3, 2], [1, 0, 9], [10, 11]]
    assert [len(batch) for batch in batches_of([asked(0, "a"), asked(1, "b"), asked(2, "b")], 2)] == [3]
    assert [len(batch) for batch in batches_of([asked(0)], 2)] == [1]
