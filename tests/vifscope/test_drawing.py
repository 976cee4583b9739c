"""`vifscope figures` writes every figure that the runs have, in every format asked for."""

from __future__ import annotations

import pandas as pd
import pytest

from vif_core.errors import UsageError
from vifscope.drawing import draw

MAGIC = {"pdf": b"%PDF", "png": b"\x89PNG", "svg": b"<?xml"}


def test_one_run_gives_its_gallery(run, tmp_path):
    files, _ = draw([run], tmp_path, ["pdf", "png", "svg"])
    name = run.path.resolve().name
    assert {f"{name}/attenuation.pdf", f"{name}/focus.png", f"{name}/violins.svg"} <= set(files)
    for file in files:
        assert (tmp_path / file).read_bytes().startswith(MAGIC[file[-3:]])


def test_several_runs_give_their_comparison_and_claims_as_well(run, tmp_path):
    files, _ = draw([run, run], tmp_path, ["png"], paper=True)
    name = run.path.resolve().name
    assert {f"{name}/focus.png", f"{name}-2/focus.png", "curves.png", "claims.csv"} <= set(files)
    assert pd.read_csv(tmp_path / "claims.csv")["claim"].is_unique


@pytest.mark.parametrize("formats", [["gif"], []])
def test_another_format_is_refused(run, tmp_path, formats):
    with pytest.raises(UsageError, match="expected of pdf, png, svg"):
        draw([run], tmp_path, formats)
    assert not list(tmp_path.iterdir())


def test_html_gives_pages_that_share_one_script(run, tmp_path):
    written, _ = draw([run], tmp_path, ["html"])
    folder = tmp_path / run.path.name
    assert written == [f"{run.path.name}/{name}.html" for name in ("curves", "violins", "samples")]
    assert (folder / "plotly.min.js").stat().st_size > 1e6
    for name in ("curves", "violins"):
        page = (folder / f"{name}.html").read_text()
        assert 'src="plotly.min.js"' in page
        assert len(page) < 2e6


def test_what_a_run_has_nothing_for_is_left_out_of_the_pages(run_of, tmp_path):
    def wordless(records):
        for record in records:
            record.sample["images"], record.flows = [], {}
        return records

    words = run_of(2, change=wordless)
    written, _ = draw([words], tmp_path, ["html"])
    assert not [file for file in written if file.endswith(("curves.html", "violins.html"))]
