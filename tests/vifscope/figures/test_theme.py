from __future__ import annotations

import matplotlib as mpl
import pytest
from matplotlib.colors import to_rgb

from vifscope.figures import theme
from vifscope.figures.gallery import Gallery


@pytest.fixture(scope="module")
def gallery(run_of):
    return Gallery(run_of(2))


def luminance(colour):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("colours", [theme.LIGHT, theme.DARK], ids=["light", "dark"])
def test_words_stand_out_from_the_page_and_the_shade(colours):
    for ground in (colours.page, colours.shade):
        assert contrast(colours.ink, ground) > 7
        assert contrast(colours.muted, ground) > 3.9
    assert all(contrast(line, colours.page) > 3 for line in (colours.ratio, colours.lift, colours.focus))


@pytest.mark.parametrize("name", ["attenuation", "violins", "focus", "shares", "maps"])
def test_a_pdf_embeds_type_42_fonts_and_no_type_3(gallery, name):
    pdf = theme.render(gallery.figure(name), "pdf")
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_the_same_figure_gives_the_same_bytes(gallery, suffix):
    first, second = (theme.render(gallery.figure("violins"), suffix) for _ in range(2))
    assert first == second


def test_a_saved_figure_is_in_the_format_of_its_suffix(gallery, tmp_path):
    path = theme.save(gallery.figure("attenuation"), tmp_path / "a.png")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_the_style_ends_with_its_block():
    before = dict(mpl.rcParams)
    with theme.style(theme.DARK):
        assert mpl.rcParams["text.color"] == theme.DARK.ink
    assert dict(mpl.rcParams) == before


def test_a_figure_shows_itself_in_a_notebook_at_its_size():
    data, shown = theme.Drawing(figsize=(3, 2))._repr_png_()
    assert data.startswith(b"\x89PNG")
    assert shown == {"width": 288, "height": 192}
