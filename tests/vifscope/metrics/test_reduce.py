from __future__ import annotations

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

from vif_core.vlm.layout import SEGMENTS, ImageGrid, Layout, box_weights, patch_boxes
from vifscope.metrics.boxes import box_lift, box_mass, pointing_hit
from vifscope.metrics.entropy import relative_entropy, visual_entropy, visual_entropy_mean_of_heads
from vifscope.metrics.ratio import ratio_lift, visual_ratio
from vifscope.metrics.reduce import HEAD_METRICS, LAYER_METRICS, ROW_METRICS, LayerReducer
from vifscope.metrics.tail import top_share

LAYERS, HEADS = 3, 4
ON_VISUAL = {
    "visual_ratio": visual_ratio,
    "visual_entropy": visual_entropy,
    "relative_entropy": relative_entropy,
    "top_share": top_share,
}
ON_BOXES = {"box_mass": box_mass, "box_lift": box_lift, "pointing_hit": pointing_hit}


def layout(length: int, grids: list[ImageGrid], visual_tokens: int, first: int = 3, response: int = 2) -> Layout:
    """bos, template, the visual tokens from `first` on, question, response."""
    segment = np.full(length, SEGMENTS.index("question"), np.int8)
    segment[:first] = SEGMENTS.index("template")
    segment[0] = SEGMENTS.index("bos")
    segment[first : first + visual_tokens] = SEGMENTS.index("visual")
    segment[length - response :] = SEGMENTS.index("response")
    visual = np.arange(first, first + visual_tokens)
    return Layout(np.arange(length), visual, tuple(grids), segment, length - response)


def square(side: int, *, stride: int = 0, rect_px=(0, 0, 60, 60), image: int = 0, offset: int = 0) -> ImageGrid:
    return ImageGrid(image, "image", side, side, offset, stride or side, rect_px)


# A batch of samples that differ in everything: length, grids, newline tokens, boxes, rows; the fourth has no image.
LAYOUTS = (
    layout(40, [square(5)], 25),
    layout(32, [square(4, stride=5)], 20, first=6),
    layout(50, [square(5), square(4, image=1, offset=25)], 41),
    layout(12, [], 0),
    layout(24, [square(3)], 9),
)
LENGTH = 50
PAD = [LENGTH - len(one) for one in LAYOUTS]
ROWS = [np.arange(len(one) - count, len(one)) for one, count in zip(LAYOUTS, (7, 4, 9, 3, 1), strict=True)]
MEASURED = [np.arange(len(at)) >= len(at) - count for at, count in zip(ROWS, (2, 4, 5, 1, 0), strict=True)]
BOXES = (((3.0, 3.0, 20.0, 31.0),), ((0.0, 0.0, 10.0, 60.0), (5.0, 0.0, 30.0, 9.0)), ((1.0, 1.0, 2.0, 2.0),), (), ())


@pytest.fixture(scope="module")
def flows() -> list[torch.Tensor]:
    """A causal random flow a layer, [B H R K], rows repeated to the longest sample's; layer 1 ignores the image."""
    generator = torch.Generator().manual_seed(0)
    longest = max(map(len, ROWS))
    layers = []
    for layer in range(LAYERS):
        scores = 3 * torch.randn(len(ROWS), HEADS, longest, LENGTH, generator=generator)
        for b, (one, left, at) in enumerate(zip(LAYOUTS, PAD, ROWS, strict=True)):
            rows = torch.from_numpy(np.pad(at, (0, longest - len(at)), mode="edge"))
            keys = torch.arange(LENGTH) - left
            scores[b].masked_fill_((keys < 0) | (keys > rows[:, None]), -torch.inf)
            if layer == 1:
                scores[b, ..., torch.from_numpy(left + one.visual)] -= 40
        layers.append(scores.softmax(-1))
    return layers


def reducer(**options) -> LayerReducer:
    return LayerReducer(LAYOUTS, PAD, ROWS, MEASURED, BOXES, num_layers=LAYERS, **options)


@pytest.fixture(scope="module")
def records(flows):
    reduce = reducer()
    return reduce.records([reduce(layer, flow) for layer, flow in enumerate(flows)])


def own_flow(flows, layer: int, b: int) -> torch.Tensor:
    """The flow of sample b without padding, [H R K]."""
    return flows[layer][b, :, : len(ROWS[b]), PAD[b] :]


def plain(flow: torch.Tensor, b: int) -> dict[str, torch.Tensor]:
    """Every metric of HEAD_METRICS by the public functions, on one sample's flow [... R K]."""
    one = LAYOUTS[b]
    visual = torch.zeros(len(one), dtype=torch.bool)
    visual[one.visual] = True
    weights = torch.full((len(one),), torch.nan)
    if BOXES[b]:
        covered = box_weights(one.grids, len(one.visual), BOXES[b])
        covered[np.isnan(patch_boxes(one.grids, len(one.visual))[:, 0])] = np.nan
        weights[one.visual] = torch.from_numpy(covered).float()
    metrics = {name: metric(flow, visual) for name, metric in ON_VISUAL.items()}
    return metrics | {name: metric(flow, weights) for name, metric in ON_BOXES.items()}


@pytest.mark.parametrize("b", range(len(LAYOUTS)))
@pytest.mark.parametrize("layer", range(LAYERS))
def test_a_batch_gives_each_sample_what_the_plain_functions_give_it_alone(flows, records, layer, b):
    flow, record, measured = own_flow(flows, layer, b), records[b], torch.from_numpy(MEASURED[b])
    one = LAYOUTS[b]
    visual = torch.zeros(len(one), dtype=torch.bool)
    visual[one.visual] = True
    rows = plain(flow.mean(0), b) | {"ratio_lift": ratio_lift(flow.mean(0), visual)}
    for name in ("bos", "template", "question", "response"):
        segment = torch.from_numpy(one.segment == SEGMENTS.index(name))
        rows[f"share_{name}"] = visual_ratio(flow.mean(0), segment)
    layers = {name: values[measured].nanmean() for name, values in rows.items()}
    layers["visual_entropy_mean_of_heads"] = visual_entropy_mean_of_heads(flow, visual)[measured].nanmean()
    heads = {name: values[:, measured].nanmean(-1) for name, values in plain(flow, b).items()}
    largest = 0.0
    for kind, expected in (("rows", rows), ("layers", layers), ("heads", heads)):
        got = getattr(record, kind)
        assert set(got) == set(expected)
        for name, values in expected.items():
            np.testing.assert_allclose(got[name][layer], values.numpy(), atol=2e-6, rtol=2e-6, err_msg=f"{kind} {name}")
            largest = max(largest, np.nan_to_num(np.abs(got[name][layer] - values.numpy())).max())
    np.testing.assert_allclose(record.maps[layer], flow.mean(0)[:, one.visual], atol=1e-7)
    if len(one.visual):
        np.testing.assert_allclose(record.head_maps[layer], flow[:, measured][..., one.visual].mean(1), atol=1e-7)
    print(f"largest difference {largest:.1e}")


def test_records_name_every_metric_and_have_the_shapes_of_their_sample(records):
    for record, one, at in zip(records, LAYOUTS, ROWS, strict=True):
        assert (set(record.layers), set(record.heads), set(record.rows)) == (
            set(LAYER_METRICS),
            set(HEAD_METRICS),
            set(ROW_METRICS),
        )
        assert record.maps.shape == (LAYERS, len(at), len(one.visual))
        assert record.maps.dtype == np.float32
        assert record.rows["visual_ratio"].shape == (LAYERS, len(at))
        assert record.heads["visual_ratio"].shape == (LAYERS, HEADS)
        assert record.layers["visual_ratio"].shape == (LAYERS,)


def test_the_shares_and_the_ratio_sum_to_one(records):
    for record in records:
        parts = [record.rows[name] for name in ROW_METRICS if name.startswith("share_") or name == "visual_ratio"]
        np.testing.assert_allclose(np.sum(parts, 0), 1, atol=1e-6)


def test_a_sample_without_measured_rows_has_rows_and_no_layer_metrics(records):
    record = records[4]
    assert np.isfinite(record.rows["visual_ratio"]).all()
    assert np.isnan([record.layers[name] for name in LAYER_METRICS]).all()


def test_a_layer_that_ignores_the_image_has_a_ratio_and_no_distribution(records):
    assert records[0].layers["visual_ratio"][1] < 1e-6
    for name in ("visual_entropy", "relative_entropy", "top_share", "box_mass", "box_lift", "pointing_hit"):
        assert np.isnan(records[0].layers[name][1])
        assert np.isfinite(records[0].layers[name][[0, 2]]).all()


def test_layers_without_attention_are_undefined(flows):
    reduce = reducer()
    record = reduce.records([reduce(0, flows[0]), reduce(2, flows[2])])[0]
    assert np.isnan(record.layers["visual_ratio"]).tolist() == [False, True, False]
    assert np.isnan(record.maps[1]).all()
    assert np.isnan(record.head_maps[1]).all()


@pytest.mark.parametrize(("asked", "kept"), [(None, True), (True, True), (False, False)])
def test_head_maps_are_kept_where_they_are_small_or_asked_for(flows, asked, kept):
    reduce = reducer(head_maps=asked)
    assert all((record.head_maps is not None) is kept for record in reduce.records([reduce(0, flows[0])]))


def test_large_head_maps_are_kept_only_on_request(flows, monkeypatch):
    monkeypatch.setattr("vifscope.metrics.reduce.HEAD_MAPS_BYTES", 2 * LAYERS * HEADS * 25)
    reduce = reducer()
    kept = [record.head_maps is not None for record in reduce.records([reduce(0, flows[0])])]
    assert kept == [False, True, False, True, True]


def test_shapes_are_checked_in_tests():
    with pytest.raises(TypeCheckError):
        visual_ratio(torch.ones(3), torch.ones(4, dtype=torch.bool))
