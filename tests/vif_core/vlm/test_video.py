"""Videos as frames: tokens, pixels and positions are those of transformers' own processors, and every cell lies on its
frame."""

from __future__ import annotations

import ast
import json
import math
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from vif_core.errors import GridMismatch, SampleError, UnsupportedModel, UsageError
from vif_core.load import load
from vif_core.vif.config import VIFConfig
from vif_core.vif.model import add_vif
from vif_core.vlm import video
from vif_core.vlm.layout import SEGMENTS
from vif_core.vlm.tiny import ALL_FAMILIES, tiny_model, tiny_samples, tiny_videos
from vif_core.vlm.video import PatchedFrames, reads_videos

READ = {cls.__name__ for cls in (*video.PATCHED, *video.SQUARE)}
FAMILIES = sorted(name for name in ALL_FAMILIES if PROCESSOR_MAPPING_NAMES.get(name) in READ)
SQUARE = ("llava_next_video", "llava_onevision", "video_llava")
ONE_OF_EACH = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", *SQUARE)


@cache
def opened(family):
    """A model that no test changes."""
    return tiny_model(family)


def videos(family, counts=(3, 2, 4)):
    """Of different lengths, or of one where the family needs that."""
    return tiny_videos((3,) * len(counts) if family in SQUARE else counts)


def of_transformers(module: str, name: str, owner: str | None = None):
    """A function of a file of transformers that cannot be imported without torchvision, taken from its source."""
    path = Path(transformers.__file__).parent / "models" / module
    body = ast.parse(path.read_text()).body
    if owner:
        body = next(node for node in body if isinstance(node, ast.ClassDef) and node.name == owner).body
    found = next(node for node in body if isinstance(node, ast.FunctionDef) and node.name == name)
    names = {"math": math, "torch": torch}
    exec(compile(ast.Module([found], []), str(path), "exec"), names)
    return names[name]


def features(vlm, samples):
    """What the decoder gets at the first sample's visual tokens [V, hidden]."""
    taken = {}
    batch = vlm.encode(samples)
    handle = vlm.model.get_decoder().register_forward_pre_hook(
        lambda _module, _args, kwargs: taken.update(kwargs), with_kwargs=True
    )
    with torch.inference_mode():
        vlm.model(**batch.inputs)
    handle.remove()
    return taken["inputs_embeds"][0, batch.pad[0] + batch.layouts[0].visual], batch.layouts[0].grids


@pytest.mark.parametrize("family", FAMILIES)
def test_every_frame_has_a_grid_and_every_visual_token_is_counted(family):
    vlm = opened(family)
    asked = videos(family)
    step, before, after = {"llava_onevision": (1, 0, 1), "video_llava": (1, 1, 0), "llava_next_video": (1, 0, 0)}.get(
        family, (2, 0, 0)
    )
    for sample, layout in zip(asked, vlm.encode(asked).layouts, strict=True):
        assert set(layout.input_ids[layout.visual]) == {vlm.model.config.video_token_id}
        assert (layout.segment[layout.visual] == SEGMENTS.index("visual")).all()
        assert [grid.image for grid in layout.grids] == [*range(0, len(sample.frames), step)]
        assert {grid.frame for grid in layout.grids} == {"frame"}
        cells = np.concatenate([grid.index.ravel() for grid in layout.grids])
        assert len(np.unique(cells)) == len(cells) == len(layout.visual) - before * len(layout.grids) - after
        question = layout.input_ids[layout.segment == SEGMENTS.index("question")].tolist()
        assert vlm.decode(question) == sample.question


def test_the_readme_names_the_families_that_read_videos():
    text = (Path(__file__).parents[3] / "README.md").read_text()
    told = text.split("tests/vif_core/vlm/test_video.py -->\n")[1].split("\n<!-- end of video")[0]
    assert told.replace("\n", " ").rstrip(".").split(", ") == FAMILIES
    models = map(opened, FAMILIES)
    assert all(reads_videos(vlm.model, vlm.processor) for vlm in models)


@pytest.mark.parametrize("size", [(40, 90), (90, 40), (200, 300), (9, 12), (28, 28), (75, 75)])
@pytest.mark.parametrize("n_frames", [2, 3, 5, 8, 9])
def test_frames_are_resized_as_transformers_does(size, n_frames):
    qwen3 = of_transformers("qwen3_vl/video_processing_qwen3_vl.py", "smart_resize")
    pictures = opened("qwen2_5_vl").processor.image_processor
    least, most = 28 * 28, 84 * 84
    assert pictures.size == {"shortest_edge": least, "longest_edge": most}
    expected = smart_resize(*size, factor=14, min_pixels=least, max_pixels=most)
    assert PatchedFrames(pictures, shared=False).resized(n_frames, size) == expected
    expected = qwen3(n_frames, *size, temporal_factor=2, factor=14, min_pixels=least, max_pixels=most)
    assert PatchedFrames(pictures, shared=True).resized(n_frames, size) == expected


@pytest.mark.parametrize("n_frames", [2, 3, 4])
@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def test_patches_of_consecutive_frames_are_laid_out_as_transformers_does(family, n_frames):
    patchify = of_transformers("qwen2_vl/video_processing_qwen2_vl.py", "patchify", "Qwen2VLVideoProcessor")
    vlm = opened(family)
    pictures = vlm.processor.image_processor
    (sample,) = tiny_videos([n_frames])
    inputs = vlm.encode([sample]).inputs
    steps, rows, cols = inputs["video_grid_thw"][0].tolist()
    size = (cols * pictures.patch_size, rows * pictures.patch_size)
    frames = np.stack([np.asarray(frame.resize(size, pictures.resample)) for frame in sample.open_frames()])
    values = (frames / 255 - pictures.image_mean) / pictures.image_std
    whole = torch.tensor(values, dtype=torch.float32).permute(0, 3, 1, 2)[None].contiguous()
    patches, *grid = patchify(None, whole, pictures.patch_size, pictures.merge_size, pictures.temporal_patch_size)
    assert grid == [steps, rows, cols]
    torch.testing.assert_close(inputs["pixel_values_videos"], patches[0], atol=1e-5, rtol=0)


def test_timestamps_stand_before_the_frames_of_qwen3_vl():
    vlm = opened("qwen3_vl")
    (sample,) = tiny_videos([4])
    (layout,) = vlm.encode([replace(sample, fps=1.0)]).layouts
    text = vlm.tokenizer.decode(layout.input_ids.tolist())
    assert "<0.5 seconds>" in text
    assert "<2.5 seconds>" in text
    assert len(np.flatnonzero(np.diff(layout.visual) > 1)) == len(layout.grids) - 1 == 1


@pytest.mark.parametrize("fps", [0.5, 1.0, 2.0])
def test_positions_follow_time_rows_and_columns(fps):
    vlm = opened("qwen2_5_vl")
    batch = vlm.encode([replace(sample, fps=fps) for sample in tiny_videos((3, 4))], [[20], [20, 30, 40]])
    inputs = batch.inputs
    assert inputs["second_per_grid_ts"].tolist() == [2 / fps] * 2
    position_ids, _ = vlm.model.model.get_rope_index(**inputs)
    per_second = vlm.model.config.vision_config.tokens_per_second
    for i, layout in enumerate(batch.layouts):
        assert (inputs["mm_token_type_ids"][i, batch.pad[i] + layout.visual] == 2).all()
        assert int((inputs["mm_token_type_ids"][i] != 0).sum()) == len(layout.visual)
        own = position_ids[:, i, batch.pad[i] + layout.visual]  # [time row column, V]
        time, row, col = own - layout.visual[0]
        for step, grid in enumerate(layout.grids):
            assert grid.to_grid(time).unique().tolist() == [int(step * per_second * 2 / fps)]
            assert grid.to_grid(row).tolist() == np.indices((grid.rows, grid.cols))[0].tolist()
            assert grid.to_grid(col).tolist() == np.indices((grid.rows, grid.cols))[1].tolist()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_changed_cell_of_a_frame_arrives_at_its_own_token(family):
    vlm = opened(family)
    (sample,) = tiny_videos([4])
    before, grids = features(vlm, [sample])
    height, width = np.asarray(sample.frames[0]).shape[:2]
    for number in (0, len(grids) - 1):
        grid = grids[number]
        centre = grid.boxes_px.reshape(grid.rows, grid.cols, 2, 2).mean(2)
        on_frame = np.argwhere(((centre > 0) & (centre < (width, height))).all(-1))
        for row, col in on_frame[[0, len(on_frame) // 2, -1]].tolist():
            x0, y0, x1, y1 = grid.boxes_px[row, col].round().astype(int).clip(0)
            changed = np.array(sample.frames[grid.image])
            changed[y0:y1, x0:x1] = 255 - changed[y0:y1, x0:x1]
            frames = [*sample.frames]
            frames[grid.image] = Image.fromarray(changed)
            change = (features(vlm, [replace(sample, frames=tuple(frames))])[0] - before).norm(dim=-1)
            assert divmod(grid.to_grid(change).argmax().item(), grid.cols) == (row, col), grid
            others = [other.to_grid(change).max() for other in grids if other is not grid]
            assert max(others) < 1e-5, "the other frames' tokens stay as they are"


@pytest.mark.parametrize("family", FAMILIES)
def test_generation_is_greedy_and_padding_does_not_change_it(family):
    vlm = opened(family)
    asked = videos(family)
    together = vlm.generate(asked, 4)
    assert together == [vlm.generate([sample], 4)[0] for sample in asked]
    tokens = []
    for _ in together[0]:
        with torch.inference_mode():
            tokens.append(vlm.model(**vlm.encode(asked[:1], [tokens]).inputs).logits[0, -1].argmax().item())
    assert tokens == together[0]


@pytest.mark.parametrize("family", ONE_OF_EACH)
def test_images_and_videos_share_a_batch(family):
    vlm = opened(family)
    mixed = [*videos(family, (3,)), *tiny_samples(2), *videos(family, (3, 3))[1:]]
    batch = vlm.encode(mixed)
    frames = [{grid.frame for grid in layout.grids} for layout in batch.layouts]
    assert frames[0] == frames[3] == {"frame"}
    assert "frame" not in frames[1] | frames[2]
    with torch.inference_mode():
        together = vlm.model(**batch.inputs).logits[:, -1]
        alone = [vlm.model(**vlm.encode([sample]).inputs).logits[0, -1] for sample in mixed]
    torch.testing.assert_close(together, torch.stack(alone), atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", ["qwen2_5_vl", "llava_onevision"])
def test_vif_attaches_to_a_model_that_is_shown_videos(family):
    vlm = tiny_model(family)
    asked = videos(family)
    plain = vlm.model(**vlm.encode(asked).inputs).logits
    vif = add_vif(vlm, VIFConfig(pairs=((vlm.layers[0].index, vlm.layers[-1].index),), width=8))
    batch = vlm.encode(asked)
    assert not torch.allclose(vif(**batch.inputs).logits[:, -1], plain[:, -1], atol=1e-4)
    assert len(vlm.generate(asked, 3)) == 3
    with pytest.raises(UsageError, match=r"videos of tiny-.* without turns; expected all that VLM.encode returns"):
        vif(**{name: value for name, value in batch.inputs.items() if name != "turns"})


def test_a_checkpoint_s_settings_for_videos_are_read(tmp_path):
    vlm = tiny_model("qwen2_5_vl")
    vlm.model.save_pretrained(tmp_path)
    vlm.processor.save_pretrained(tmp_path)
    (sample,) = tiny_videos([2])
    wide = load(tmp_path).encode([sample]).layouts[0].grids[0]
    assert wide == vlm.encode([sample]).layouts[0].grids[0], "as its pictures are read, where nothing is said"
    settings = {"size": {"shortest_edge": 14 * 14, "longest_edge": 28 * 28}}
    (tmp_path / "video_preprocessor_config.json").write_text(json.dumps(settings))
    again = load(tmp_path)
    small = again.encode([sample]).layouts[0].grids[0]
    again.processor.save_pretrained(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "video_preprocessor_config.json").read_text()) == settings
    assert small.rows * small.cols <= 4 < wide.rows * wide.cols


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl"])
def test_an_older_checkpoint_bounds_its_videos_as_its_pictures(family, tmp_path):
    vlm = tiny_model(family)
    vlm.model.save_pretrained(tmp_path)
    vlm.processor.save_pretrained(tmp_path)
    pictures = json.loads((tmp_path / "processor_config.json").read_text())["image_processor"]
    (tmp_path / "processor_config.json").unlink()
    kept = {
        name: pictures[name] for name in ("patch_size", "temporal_patch_size", "merge_size", "image_mean", "image_std")
    }
    side = kept["patch_size"] * kept["merge_size"]
    bounds = {"min_pixels": side**2, "max_pixels": 4 * side**2, "image_processor_type": "Qwen2VLImageProcessor"}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(kept | bounds))
    (grid,) = load(tmp_path).encode(tiny_videos([2])).layouts[0].grids
    assert grid.rows * grid.cols <= 4


def test_a_family_that_reads_no_videos_says_so():
    line = "videos cannot be read with model family 'llava'; expected a Qwen-VL .* or Video-LLaVA. Choose one"
    with pytest.raises(UnsupportedModel, match=line):
        tiny_model("llava").encode(tiny_videos([2]))


def test_videos_of_different_lengths_do_not_fit_into_one_batch_of_llava():
    with pytest.raises(SampleError, match="videos of 2 and 4 frames in one batch; expected as many frames in each"):
        tiny_model("llava_onevision").encode(tiny_videos((2, 4)))


def test_a_single_frame_is_too_short_for_qwen3_vl():
    with pytest.raises(SampleError, match="a video of 1 frame; expected at least 2"):
        tiny_model("qwen3_vl").encode(tiny_videos([1]))


def test_a_template_without_a_place_for_videos_is_named():
    vlm = tiny_model("qwen2_5_vl")
    vlm.processor.chat_template = "{% for m in messages %}{{ m.content[-1].text }}{% endfor %}"
    with pytest.raises(SampleError, match="the chat template writes no <video> for the video of sample tiny-0"):
        vlm.encode(tiny_videos([2]))


def test_a_video_placeholder_in_the_question_is_refused():
    (sample,) = tiny_videos([2])
    with pytest.raises(SampleError, match="holds the video placeholder <video>; expected words alone"):
        tiny_model("qwen2_5_vl").encode([replace(sample, question="<video> what?")])


def test_tokens_that_do_not_fit_the_frames_are_an_error_with_both_numbers(monkeypatch):
    vlm = tiny_model("llava_onevision")
    monkeypatch.setattr(vlm.processor, "num_image_tokens", 36)
    line = r"grid 2x2 \+ 2x2 has 9 cells but the prompt holds 19 visual tokens; expected equal counts"
    with pytest.raises(GridMismatch, match=line):
        vlm.encode(tiny_videos([2]))
