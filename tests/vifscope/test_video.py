"""Videos end to end: exact rows, ratio and entropy by frame, and a run of a folder of frames."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

from vif_core.data.listed import Listed
from vif_core.vlm import video
from vif_core.vlm.tiny import ALL_FAMILIES, tiny_model, tiny_videos
from vifscope import pipeline
from vifscope.figures.frames import map_strip, video_frame
from vifscope.figures.viewer import viewer_html
from vifscope.measure import Reading
from vifscope.metrics.entropy import visual_entropy
from vifscope.runs import RunStore
from vifscope.trace.capture import capture, padded_rows

READ = {cls.__name__ for cls in (*video.PATCHED, *video.SQUARE)}
FAMILIES = sorted(name for name in ALL_FAMILIES if PROCESSOR_MAPPING_NAMES.get(name) in READ)
SQUARE = ("llava_next_video", "llava_onevision", "video_llava")
READING = Reading(rows="text", store_rows="text", max_new_tokens=4)


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_match_eager(family):
    asked = tiny_videos((3, 3, 3) if family in SQUARE else (3, 2, 4))
    responses = [[20, 30], [40], [50, 60, 70, 80]]
    vlm, eager = tiny_model(family), tiny_model(family, attn="eager")
    for each in (vlm, eager):  # in float32 rounding decides which of nearly equal keys a sparse indexer chooses
        each.model.double().set_experts_implementation("eager")
    batch = vlm.encode(asked, responses)
    assert len(set(batch.pad)) == 3, "the batch should need padding"
    rows = [layout.rows("text") for layout in batch.layouts]
    flows = capture(vlm, batch, rows, lambda _, flow: flow)
    with torch.inference_mode():
        weights = eager.model(**eager.encode(asked, responses).inputs, output_attentions=True).attentions
    at = padded_rows(batch, rows)[:, None, :, None]
    pairs = zip(flows, [found for found in weights if found is not None], strict=True)
    difference = max(float((flow - found.take_along_dim(at, dim=2)).abs().max()) for flow, found in pairs)
    print(f"{family}: max difference {difference:.1e}")
    assert difference < 1e-5


@pytest.fixture(scope="module", params=["qwen2_5_vl", "llava_onevision", "video_llava"])
def measured(request, tmp_path_factory):
    """A model, its videos, and a run of them; lengths differ, so that LLaVA's are measured one by one."""
    vlm, asked = tiny_model(request.param), tiny_videos((4, 2, 3))
    path = tmp_path_factory.mktemp("video") / "run"
    pipeline.analyze(vlm, Listed("films", "1", asked), 3, path, READING, batch_size=2)
    return vlm, asked, RunStore.open(path)


def test_ratio_and_entropy_by_frame_are_those_of_its_tokens(measured):
    vlm, asked, run = measured
    assert run.samples()["error"].isna().all()
    frame = video_frame(run).set_index(["sample_id", "frame", "layer"])
    for sample in asked:
        stored = run.sample(sample.sample_id)
        response = stored["input_ids"][np.flatnonzero(np.array(stored["segment"]) == 4)[0] :]
        batch = vlm.encode([sample], [response])
        (layout,) = batch.layouts
        flows = capture(vlm, batch, [layout.rows("text")], lambda _, flow: flow[0].mean(0))  # [R K] a layer
        assert len(frame.loc[sample.sample_id]) == len(layout.grids) * len(flows)
        for grid in layout.grids:
            tokens = torch.zeros(len(layout), dtype=torch.bool)
            tokens[layout.visual[grid.index.ravel()]] = True
            for layer, flow in enumerate(flows):
                found = frame.loc[(sample.sample_id, grid.image, layer)]
                assert found["visual_ratio"] == pytest.approx(float(flow[:, tokens].sum(-1).mean()), rel=2e-3)
                expected = float(visual_entropy(flow, tokens).nanmean())
                assert found["visual_entropy"] == pytest.approx(expected, rel=2e-3, abs=2e-3)


def test_frames_and_the_tokens_between_them_add_up_to_the_visual_ratio(measured):
    vlm, asked, run = measured
    frames = video_frame(run).groupby(["sample_id", "layer"])["visual_ratio"].sum()
    layers = run.layers().set_index(["sample_id", "layer"])["visual_ratio"]
    for sample in asked:
        flow, grids = run.flow(sample.sample_id), run.grids(sample.sample_id)
        placed = sum(grid["rows"] * grid["cols"] for grid in grids)
        between = np.ones(flow.shape[-1], dtype=bool)
        for layout in vlm.encode([sample]).layouts:
            for grid in layout.grids:
                between[grid.index.ravel()] = False
        assert between.sum() == flow.shape[-1] - placed
        assert between.any() == (vlm.family != "qwen2_5_vl")
        rest = flow[..., between].sum(-1).mean(1)
        total = frames.loc[sample.sample_id].to_numpy() + rest
        np.testing.assert_allclose(total, layers.loc[sample.sample_id], rtol=2e-3)


def test_frames_are_kept_as_pictures_and_grids_lie_on_them(measured):
    _, asked, run = measured
    for sample in asked:
        assert len(run.sample(sample.sample_id)["image"]) == len(sample.frames)
        for grid in run.grids(sample.sample_id):
            assert grid["frame"] == "frame"
            kept = run.image(sample.sample_id, grid["image"])
            assert kept.tobytes() == sample.frames[grid["image"]].tobytes()


def test_maps_and_the_viewer_show_the_first_frame(measured):
    _, asked, run = measured
    strip = map_strip(run, [asked[0].sample_id], layers=[0])
    assert strip["picture"][0].tobytes() == asked[0].frames[0].tobytes()
    assert np.isfinite(strip["map"][0]).any()
    assert asked[0].question in viewer_html([(run, asked[0].sample_id)])


def test_entropy_is_undefined_where_a_frame_is_not_looked_at(measured, monkeypatch):
    _, asked, run = measured
    flow = np.zeros_like(run.flow(asked[0].sample_id))
    monkeypatch.setattr(run, "flow", lambda *_: flow)
    monkeypatch.setattr("vifscope.figures.frames.measured_samples", lambda run: [run.sample(asked[0].sample_id)])
    frame = video_frame(run)
    assert (frame["visual_ratio"] == 0).all()
    assert frame["visual_entropy"].isna().all()
