from __future__ import annotations

import pytest
from matplotlib.figure import Figure

from vif_core.errors import UsageError
from vifscope.figures.gallery import FIGURES, Gallery


def test_every_name_is_a_figure(run):
    gallery = Gallery(run)
    assert all(isinstance(gallery.figure(name), Figure) for name in FIGURES)


def test_another_name_is_refused_with_the_known_ones(run):
    line = "there is no figure 'pie'; expected one of attenuation, violins, focus, shares, maps."
    with pytest.raises(UsageError) as refused:
        Gallery(run).figure("pie")
    assert str(refused.value) == line
