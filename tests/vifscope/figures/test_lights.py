"""Spotlights are laid where the run has them, and what the answer changes about them is measured on the patches."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.patches import Ellipse
from PIL import Image

from vif_core.errors import UsageError
from vif_core.vif.gmm import Spotlights, render
from vif_core.vif.turns import grid_places
from vif_core.vlm.layout import ImageGrid
from vifscope.figures.lights import (
    PLACED,
    branch_frame,
    by_layer,
    density,
    has_spotlights,
    light_strip,
    spotlight_frame,
)
from vifscope.figures.strip import of_lights, strip_figure
from vifscope.figures.theme import COLUMN_IN

GRID = {
    "frame": "image",
    "image": 0,
    "rows": 3,
    "cols": 6,
    "offset": 0,
    "stride": 6,
    "rect_px": (10.0, 20.0, 130.0, 80.0),
}


@pytest.fixture(scope="module")
def lit(run_of):
    return run_of(12, model="mini-llava-vif", pairs=((7, 13), (9, 15)))


@pytest.fixture(scope="module")
def stretched(records_run):
    """As `lit`, but of pictures of 384 x 96 pixels, which the processor makes square."""

    def change(records):
        for record in records:
            encoded = io.BytesIO()
            Image.open(io.BytesIO(record.pictures[0])).resize((384, 96)).save(encoded, "PNG")
            record.pictures = [encoded.getvalue()]
            record.sample["images"][0]["rect_px"] = [0.0, 0.0, 384.0, 96.0]
            record.sample["boxes"] = [[4 * x0, y0, 4 * x1, y1] for x0, y0, x1, y1 in record.sample["boxes"]]
        return records

    return records_run(12, model="mini-llava-vif", pairs=((7, 13), (9, 15)), change=change)


def test_spotlights_are_laid_on_the_image_in_pixels():
    light = {"mid": 1, "deep": 3, "branch": "prior", "row": 0.5, "col": 0.25, "spread": 0.1, "weight": 1.0}
    frame = spotlight_frame({"spotlights": [light], "images": [GRID]})
    assert frame[PLACED].iloc[0].tolist() == pytest.approx([40, 50, 12, 12, 1])
    assert spotlight_frame({"spotlights": None, "images": [GRID]}).empty


@pytest.mark.parametrize("frame", ["image", "thumbnail"])
@pytest.mark.parametrize("side_px", [(120, 60), (400, 60), (60, 300)], ids=["square cells", "wide cells", "high cells"])
def test_their_density_on_the_patches_is_the_map_that_is_injected(frame, side_px):
    """Equations 3 and 4: the same as vif_core renders, on a grid that is not square, whatever shape its cells have."""
    rng = np.random.default_rng(0)
    centres, spreads, weights = rng.random((4, 2)), 0.02 + 0.2 * rng.random(4), rng.dirichlet(np.ones(4))
    lights = Spotlights(*(torch.tensor(part[None], dtype=torch.float64) for part in (centres, spreads, weights)))
    laid = GRID | {"frame": frame, "rect_px": (10.0, 20.0, 10.0 + side_px[0], 20.0 + side_px[1])}
    grid = ImageGrid(**laid)
    points, extent = (torch.tensor(part[None]) for part in grid_places([grid], 18))
    wanted = render(lights, points, extent, torch.ones(1, 18, dtype=torch.bool))[0].numpy()
    listed = [
        {"mid": 0, "deep": 1, "branch": "prior", "row": row, "col": col, "spread": spread, "weight": weight}
        for (row, col), spread, weight in zip(centres, spreads, weights, strict=True)
    ]
    x0, y0, x1, y1 = grid.boxes_px.transpose(2, 0, 1)
    found = density(spotlight_frame({"spotlights": listed, "images": [laid]}), (x0 + x1)[0] / 2, (y0 + y1)[:, 0] / 2)
    np.testing.assert_allclose(found.ravel(), wanted, atol=1e-12)


def test_maps_that_know_the_target_have_more_lift_and_less_entropy(lit):
    frame = branch_frame(lit)
    assert len(frame) == 12 * 2 * 2
    means = frame.groupby("branch")[["entropy", "box_lift"]].mean()
    assert means.loc["posterior", "box_lift"] > means.loc["prior", "box_lift"] > 1
    assert means.loc["posterior", "entropy"] < means.loc["prior", "entropy"]


def test_the_broadest_third_is_ambiguous(lit):
    frame = branch_frame(lit)
    prior = frame[frame["branch"] == "prior"].groupby("sample_id").agg({"entropy": "mean", "ambiguous": "first"})
    assert prior["ambiguous"].sum() == 4
    assert prior[prior["ambiguous"]]["entropy"].min() > prior[~prior["ambiguous"]]["entropy"].max()


def test_the_strip_shows_both_branches_of_the_last_pair(lit):
    strip = light_strip(lit)
    assert strip["branch"].tolist() == ["prior", "posterior"] * 4
    for _, row in strip.iterrows():
        assert row["map"].mean() == pytest.approx(1)
        sample = lit.sample(row["sample_id"])
        own = spotlight_frame(sample)
        own = own[(own["deep"] == 15) & (own["branch"] == row["branch"])]
        np.testing.assert_allclose(row["lights"], own[PLACED])


def test_the_map_of_a_stretched_picture_is_the_square_one_s_stretched(lit, stretched):
    for name in ("entropy", "box_lift"):
        np.testing.assert_allclose(branch_frame(stretched)[name], branch_frame(lit)[name], rtol=1e-6)


def test_pages_get_both_radii(stretched):
    for pair in by_layer(stretched.sample("s000")).values():
        for _, _, radius_x, radius_y, _ in (*pair["prior"], *pair["posterior"]):
            assert (radius_x, radius_y) == pytest.approx((0.05 * 384, 0.05 * 96))


@pytest.mark.parametrize("run_name", ["lit", "stretched"])
def test_each_spotlight_is_an_ellipse_of_one_spread(request, run_name, assert_legible):
    lit = request.getfixturevalue(run_name)
    strip = light_strip(lit, lit.sample_ids[:2])
    figure = strip_figure(of_lights(strip), width_in=COLUMN_IN)
    assert [axes.get_title() for axes in figure.axes if axes.get_title()] == [
        "image",
        "question alone",
        "with the answer",
    ]
    drawn = [[patch for patch in axes.patches if isinstance(patch, Ellipse)] for axes in figure.axes if axes.images]
    assert [len(ellipses) for ellipses in drawn] == [0, 2, 2] * 2
    radii = [(ellipse.width / 2, ellipse.height / 2) for panel in drawn for ellipse in panel]
    np.testing.assert_allclose(radii, np.concatenate(strip["lights"].tolist())[:, 2:4])
    (wide, high), size = radii[0], strip["picture"].iloc[0].size
    assert wide / high == pytest.approx(size[0] / size[1]), "as round as the cells are square"
    assert_legible(figure)


def test_samples_without_boxes_are_drawn_too(run_of):
    bare = run_of(6, model="mini-llava-vif", pairs=((7, 13),), boxes=False)
    assert branch_frame(bare)["box_lift"].isna().all()
    assert len(light_strip(bare)) == 2 * 2, "of six samples two are ambiguous"


def test_tiles_and_thumbnail_share_the_image_s_coordinates():
    """Llama 4's tiles hold padding: spotlights are laid by the thumbnail, and places of cells agree with that."""
    tiles = GRID | {"frame": "tile", "rows": 4, "cols": 4, "stride": 2, "rect_px": (0.0, 0.0, 200.0, 100.0)}
    thumbnail = GRID | {
        "frame": "thumbnail",
        "rows": 2,
        "cols": 2,
        "offset": 16,
        "stride": 2,
        "rect_px": (0.0, 0.0, 160.0, 80.0),
    }
    centres, extent = grid_places([ImageGrid(**tiles), ImageGrid(**thumbnail)], 20)
    first, last = ImageGrid(**tiles).index[[0, -1], [0, -1]]
    assert centres[[first, last]].tolist() == [
        pytest.approx([12.5 / 80, 25 / 160]),
        pytest.approx([87.5 / 80, 175 / 160]),
    ]
    assert centres[16].tolist() == [0.25, 0.25]
    assert extent.tolist() == [[0.5, 1.0]] * 20
    light = {"mid": 1, "deep": 3, "branch": "prior", "row": 0.5, "col": 0.25, "spread": 0.1, "weight": 1.0}
    found = spotlight_frame({"spotlights": [light], "images": [tiles, thumbnail]})
    assert found[PLACED].iloc[0].tolist() == pytest.approx([40, 40, 16, 16, 1])


def test_lists_without_a_spotlight_are_none(run_of):
    def dark(records):
        for record in records:
            record.sample["spotlights"] = []
        return records

    assert not has_spotlights(run_of(2, change=dark))


def test_a_run_without_vif_has_none(run):
    assert not has_spotlights(run)
    with pytest.raises(UsageError, match=r"holds no spotlights; expected a run of a model with VIF"):
        branch_frame(run)


def test_a_run_from_before_they_were_kept_opens(run, monkeypatch):
    older = run.samples().drop(columns="spotlights").iloc[0].to_dict()
    assert spotlight_frame(older).empty
    assert isinstance(spotlight_frame(older), pd.DataFrame)
