"""What stands after --data opens as samples, or says in one line why not."""

import itertools
import json
import random
import re
import struct
import sys

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from vif_core.data.listed import unique_ids
from vif_core.data.open import open_source, open_training
from vif_core.data.sample import Sample, open_image
from vif_core.errors import SampleError, UsageError

TURNS = [{"from": "human", "value": "Which?"}, {"from": "gpt", "value": "Red."}]
DATA = "data:image/png;base64," + "A" * 5000


@pytest.fixture
def folder(tmp_path):
    Image.new("RGB", (20, 10), "red").save(tmp_path / "red.png")
    (tmp_path / "images").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "images" / "black.png")
    return tmp_path


def write(folder, rows, name="mine.jsonl"):
    path = folder / name
    path.write_text("\n".join(json.dumps(row) for row in rows) if name.endswith("l") else json.dumps(rows))
    return path


def test_a_folder_gives_the_samples_of_its_listing(folder):
    row = {"image": "red.png", "question": "Which colour?", "answer": "red", "boxes": [[0, 0, 5, 5]], "kind": "colour"}
    write(folder, [row, {"id": "a/2", "images": ["red.png", "images/black.png"], "question": "Same?", "answer": 0}])
    source = open_source(folder)
    first, second = source[0], source[1]
    assert (len(source), source.name) == (2, folder.name)
    assert (first.sample_id, first.question, first.answer, first.kind) == ("000000", "Which colour?", "red", "colour")
    assert first.boxes == ((0, 0, 5, 5),)
    assert first.open_images()[0].size == (20, 10)
    assert (second.sample_id, second.answer, len(second.open_images())) == ("a-2", "0", 2)


def test_a_listing_is_named_after_its_file(folder):
    assert open_source(write(folder, [{"image": "red.png", "question": "Which?"}])).name == "mine"


def test_a_listing_opens_as_json_lines_or_as_a_json_list(folder):
    rows = [{"image": "red.png", "question": "Which?"}]
    for name in ("a.jsonl", "b.json"):
        assert open_source(write(folder, rows, name))[0].answer is None


@pytest.mark.parametrize("name", ["a.jsonl", "b.json"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["", "byte-order mark"])
def test_any_character_of_json_is_read_with_either_end_of_lines(folder, name, end, mark):
    asked = ["One\u2028or\u2029two\x85?", "Which?"]
    rows = [json.dumps({"image": "red.png", "question": each}, ensure_ascii=False) for each in asked]
    text = end.join([*rows, ""]) if name == "a.jsonl" else f"[{end}{(',' + end).join(rows)}{end}]"
    (folder / name).write_bytes(mark + text.encode())
    assert [sample.question for sample in open_source(folder / name).samples] == asked


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        (["red", "crimson"], "red"),
        ({"answer": "red"}, "red"),
        (True, "yes"),
        (0, "0"),
        ([], None),
        (" ", None),
        ([""], None),
        ([10, 20.5, 110, 220], "[10, 20.5, 110, 220]"),
    ],
)
def test_an_answer_is_text_whatever_it_is_written_as(folder, given, answer):
    row = {"image": "red.png", "question": "Which?", "answer": given}
    assert open_source(write(folder, [row]))[0].answer == answer


def test_the_fingerprint_changes_with_the_listing_and_not_with_the_pictures(folder):
    path = write(folder, [{"image": "red.png", "question": "Which?"}])
    before = open_source(path).fingerprint
    (folder / "red.png").unlink()
    assert open_source(path).fingerprint == before
    write(folder, [{"image": "red.png", "question": "Where?"}])
    assert open_source(path).fingerprint != before


def test_a_broken_picture_and_an_empty_question_cost_only_their_sample(folder):
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n")
    source = open_source(
        write(
            folder, [{"image": name, "question": "Q?"} for name in ("gone.png", "broken.png")] + [{"image": "red.png"}]
        )
    )
    for index, line in enumerate(("gone.png does not exist", "cannot be read", "empty question")):
        with pytest.raises(SampleError, match=line):
            source[index].open_images()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_upright_once(folder, orientation):
    stored = np.random.default_rng(0).integers(0, 256, (2, 3, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(stored).save(folder / "turned.png", exif=exif)
    path = write(folder, [{"image": "turned.png", "question": "Q?", "answer": "A"}])
    flipped, mirrored = stored[::-1], stored[:, ::-1]
    upright = [stored, mirrored, mirrored[::-1], flipped, *(np.swapaxes(view, 0, 1) for view in (stored, flipped))]
    upright += [np.swapaxes(view, 0, 1) for view in (mirrored[::-1], mirrored)]
    analysed, trained = open_source(path)[0].opened(), open_training(path)[0]
    for (image,) in (analysed.images, analysed.open_images(), trained.open_images()):
        assert np.array_equal(np.asarray(image), upright[orientation - 1])


@pytest.mark.parametrize("exif", [b"Exif\0\0no TIFF", b"Exif\0\0MM\0*\0\0"], ids=["no header", "cut short"])
def test_a_picture_whose_exif_is_broken_is_read_as_it_is_stored(folder, exif):
    stored = Image.new("RGB", (4, 2), "red")
    stored.save(folder / "odd.webp", exif=exif, lossless=True)
    with pytest.raises((SyntaxError, struct.error)), Image.open(folder / "odd.webp") as odd:
        ImageOps.exif_transpose(odd)
    assert np.array_equal(np.asarray(open_image(folder / "odd.webp", "s")), np.asarray(stored))


@pytest.mark.parametrize("name", ["grey.png", "grey.pgm", "grey.tiff", "grey.jp2"])
def test_sixteen_bits_of_grey_become_eight(folder, name):
    Image.fromarray(np.array([[0, 257], [32896, 65535]], dtype=np.uint16)).save(folder / name)
    assert np.array_equal(np.asarray(open_image(folder / name, "s"))[..., 0], [[0, 1], [128, 255]])


@pytest.mark.parametrize("order", ["<", ">"])
def test_sixteen_bits_in_memory_become_eight_in_either_order_of_bytes(order):
    grey = Image.frombytes("I;16B" if order == ">" else "I;16", (2, 1), np.array([514, 65535], order + "u2").tobytes())
    assert np.array_equal(np.asarray(open_image(grey, "s"))[0, :, 0], [2, 255])


@pytest.mark.parametrize(("kind", "mode"), [(np.int32, "I"), (np.float32, "F")])
def test_grey_of_an_unknown_range_is_refused_with_what_it_holds(folder, kind, mode):
    grey = Image.fromarray(np.array([[-3, 70000]], dtype=kind))
    grey.save(folder / "grey.tiff")
    for image, name in ((grey, "its image"), (folder / "grey.tiff", r"image .*grey\.tiff")):
        line = rf"sample s: {name} has grey values from -3(\.0)? to 70000(\.0)?, of mode {mode}; expected 8 or 16 bits"
        with pytest.raises(SampleError, match=line):
            open_image(image, "s")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('{"image": "red.png"', r"mine\.jsonl line 1 is not JSON"),
        ("[1]", r"line 1 is not a JSON object"),
        ("", "lists no samples"),
        ('{"question": "Q?"}', r"line 1 names no image; expected a path"),
        ('{"frames": [], "question": "Q?"}', r"line 1 names no frame; expected a path, as in"),
        ('{"frames": ["a"], "image": "a", "question": "Q?"}', r"line 1 names images and frames; expected one of them"),
        (
            '{"video": "a.mp4", "question": "Q?"}',
            r"names a video file \(a.mp4\); expected its frames .* ffmpeg -i VIDEO",
        ),
        ('{"frames": ["a"], "question": "Q?", "fps": 0}', r"line 1 has the fps 0; expected frames a second"),
        ('{"frames": ["a"], "question": "Q?", "fps": "2"}', r"has the fps '2'; expected frames a second"),
        ('{"image": "a", "question": "Q?", "boxes": [[5, 0, 5, 9]]}', r"x0 < x1"),
        ('{"image": "a", "question": "Q?", "boxes": {"x": 1}}', r"x0 < x1"),
        ('{"image": "a", "question": "Q?", "boxes": [[0, 1, 2]]}', r"x0 < x1"),
    ],
    ids=[
        "cut short",
        "no object",
        "empty",
        "no image",
        "no frame",
        "both",
        "mp4",
        "no fps",
        "fps text",
        "flat box",
        "box object",
        "three numbers",
    ],
)
def test_a_malformed_listing_is_refused_with_the_line_that_is_wrong(folder, text, line):
    (folder / "mine.jsonl").write_text(text)
    with pytest.raises(UsageError, match=line):
        open_source(folder)


def test_an_empty_cell_of_a_table_is_as_if_it_were_not_there(folder):
    rows = [
        {"image": "red.png", "frames": None, "video": None, "fps": None, "question": "Which?"},
        {"frames": ["red.png", "blue.png"], "image": None, "question": "Which?"},
    ]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = open_source(folder / "rows.jsonl")
    assert [(len(source[i].images), len(source[i].frames)) for i in range(2)] == [(1, 0), (0, 2)]


def test_a_video_is_its_frames_in_order(folder):
    Image.new("RGB", (20, 10), "blue").save(folder / "blue.png")
    row = {"frames": ["red.png", "blue.png", "red.png"], "question": "Which?"}
    first, second = open_source(write(folder, [row | {"fps": 0.5}, row]))
    assert [frame.getpixel((0, 0)) for frame in first.open_frames()] == [(255, 0, 0), (0, 0, 255), (255, 0, 0)]
    assert (first.images, first.fps, second.fps) == ((), 0.5, 2.0)
    assert first.opened().pictures == first.opened().frames


def test_frames_of_different_sizes_cost_only_their_sample(folder):
    source = open_source(write(folder, [{"frames": ["red.png", "images/black.png"], "question": "Q?"}]))
    with pytest.raises(SampleError, match="frames of sample 000000 have sizes 8x8 and 20x10; expected frames of one"):
        source[0].open_frames()


def test_images_and_frames_do_not_go_together(folder):
    both = Sample("s", (folder / "red.png",), "Q?", frames=(folder / "red.png",))
    for read in (both.open_images, both.open_frames):
        with pytest.raises(
            SampleError, match="sample s has 1 images and 1 frames of a video; expected images or frames"
        ):
            read()


def test_a_box_alone_may_stand_without_its_list(folder):
    assert open_source(write(folder, [{"image": "a", "question": "Q?", "boxes": [0, 1, 2, 3]}]))[0].boxes == (
        (0, 1, 2, 3),
    )


def test_nothing_at_the_path_is_said_with_what_could_stand_there(tmp_path):
    with pytest.raises(
        UsageError, match=r'there is no data at nowhere; expected "specks", "hub:OWNER/NAME", or the path'
    ):
        open_source("nowhere")
    with pytest.raises(UsageError, match=r"no listing of questions; expected a \.jsonl file"):
        open_source(tmp_path)
    (tmp_path / "a.csv").write_text("image,question")
    with pytest.raises(UsageError, match=r"a\.csv is not a listing that is known"):
        open_source(tmp_path / "a.csv")


def test_two_listings_in_a_folder_ask_for_a_choice(folder):
    for name in ("a.jsonl", "b.jsonl"):
        write(folder, [{"image": "red.png", "question": "Q?"}], name)
    with pytest.raises(UsageError, match=r"2 listings \(a\.jsonl, b\.jsonl\); expected one"):
        open_source(folder)
    assert len(open_source(folder / "a.jsonl")) == 1


def test_llava_rows_give_their_first_exchange_and_text_only_rows_are_counted(folder):
    turns = [
        {"from": "system", "value": "Be brief."},
        {"from": "human", "value": "<image>\nWhich colour?"},
        {"from": "gpt", "value": "Red."},
        {"from": "human", "value": "Sure?"},
        {"from": "gpt", "value": "Yes."},
    ]
    rows = [{"id": 7, "image": "black.png", "conversations": turns}, {"id": 8, "conversations": turns}]
    source = open_source(write(folder, [*rows, rows[0]], "llava.json"))
    sample = source[0]
    assert (sample.system, sample.question, sample.answer) == ("Be brief.", "Which colour?", "Red.")
    assert sample.open_images()[0].size == (8, 8), "found in images/ beside the file"
    assert (len(source), source.skipped) == (2, "1 text-only rows")
    assert [s.sample_id for s in source.samples] == ["7", "7-2"]


@pytest.mark.parametrize("conversation", [None, "text", [{"from": "human", "value": 3}], ["hello"]])
def test_an_unreadable_conversation_is_refused_with_its_row(folder, conversation):
    path = write(folder, [{"image": "red.png", "conversations": conversation}], "llava.json")
    with pytest.raises(UsageError, match="entry 1 has no readable conversation"):
        open_source(path)


@pytest.mark.parametrize(
    ("row", "line"),
    [
        ({"image": "red.png"}, "has no readable conversation; expected"),
        ({"image": 3, "conversations": TURNS}, "names no image; expected a path, as in"),
        ({"image": ["red.png", 3], "conversations": TURNS}, "names no image; expected a path"),
        ({"image": {"path": "red.png"}, "conversations": TURNS}, "names no image; expected a path"),
        ({"images": [{"path": "red.png"}], "conversations": TURNS}, "names no image; expected a path"),
        ({"image": DATA, "conversations": TURNS}, "has a data: address as its image; expected a path"),
    ],
    ids=["no conversation", "number", "a number among names", "object", "objects", "data"],
)
def test_a_malformed_llava_row_is_refused_or_counted_in_a_short_line(folder, row, line):
    """An analysis asks every row; a training goes on with the others."""
    path = write(folder, [{"image": "red.png", "conversations": TURNS}, row], "llava.json")
    with pytest.raises(UsageError, match=rf"llava\.json entry 2 {line}") as caught:
        open_source(path)
    rows = open_training(path)
    assert len(rows) == 1
    assert re.match(rf"1 rows, the first: .*llava\.json entry 2 {line}", rows.skipped)
    assert max(len(str(caught.value)), len(rows.skipped)) < 500


def test_a_listing_s_picture_as_data_is_refused_in_a_short_line(folder):
    with pytest.raises(UsageError, match="line 1 has a data: address as its image; expected a path, as in") as caught:
        open_source(write(folder, [{"image": DATA, "question": "Q?"}]))
    assert len(str(caught.value)) < 500


def test_a_name_that_is_too_long_for_a_file_costs_only_its_sample(folder):
    source = open_source(write(folder, [{"image": "a" * 300, "conversations": TURNS}], "llava.json"))
    with pytest.raises(SampleError, match="cannot be read"):
        source[0].open_images()


def test_a_llava_file_without_any_image_is_refused(folder):
    with pytest.raises(UsageError, match="none of the 1 rows"):
        open_source(write(folder, [{"conversations": []}], "llava.json"))


def test_ids_are_unique_and_made_of_safe_characters():
    assert unique_ids(["a b", "a/b", "", None, "a-b"]) == ["a-b", "a-b-2", "000002", "000003", "a-b-3"]


def test_repeats_are_counted_on_past_ids_that_look_like_theirs():
    def first_free(raw):
        found = []
        for stem in raw:
            names = itertools.chain([stem], (f"{stem}-{i}" for i in itertools.count(2)))
            found.append(next(name for name in names if name not in found))
        return found

    drawn = random.Random(0)
    for _ in range(200):
        raw = drawn.choices(["a", "a-2", "a-2-2", "a-3", "b"], k=12)
        assert unique_ids(raw) == first_free(raw)


def test_many_equal_ids_take_a_like_number_of_steps_each():
    assert unique_ids(["a"] * 20_000) == ["a", *(f"a-{i}" for i in range(2, 20_001))]

    def steps(rows):
        taken = 0

        def count(*_):
            nonlocal taken
            taken += 1
            return count

        before = sys.gettrace()
        sys.settrace(count)
        try:
            unique_ids(["a"] * rows)
        finally:
            sys.settrace(before)
        return taken

    assert steps(400) < 2.5 * steps(200)


def test_specks_opens_by_name_and_split():
    source = open_source("specks:val")
    assert source.name == "specks-val"
    assert source[3].question == open_source("specks:val")[3].question
    assert open_source("specks").name == "specks-test"
    with pytest.raises(UsageError, match="specks has no split 'nope'"):
        open_source("specks:nope")


def test_the_hub_without_its_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(Exception, match=r"pip install 'vifscope\[hub\]'"):
        open_source("hub:owner/name")
