from __future__ import annotations

import pytest
from matplotlib.figure import Figure

from vif_core.errors import UsageError
from vifscope.figures.gallery import FIGURES, Gallery


def test_every_name_is_a_figure(run_of):
    gallery = Gallery(run_of(6, model="mini-llava-vif", pairs=((7, 13), (9, 15))))
    assert all(isinstance(gallery.figure(name), Figure) for name in FIGURES if name != "video")


def test_only_a_run_of_a_model_with_vif_has_spotlights(run):
    with pytest.raises(UsageError, match="holds no spotlights"):
        Gallery(run).figure("spotlights")


def test_only_a_run_of_videos_has_frames(run):
    with pytest.raises(UsageError, match="holds no measured video; expected samples with frames"):
        Gallery(run).figure("video")


def test_another_name_is_refused_with_the_known_ones(run):
    line = "there is no figure 'pie'; expected one of attenuation, violins, focus, shares, maps, spotlights, video."
    with pytest.raises(UsageError) as refused:
        Gallery(run).figure("pie")
    assert str(refused.value) == line
