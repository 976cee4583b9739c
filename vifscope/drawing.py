"""Every figure of some runs in a folder, and the paper's claims beside them, without Jupyter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from plotly.offline import get_plotlyjs

from vif_core.errors import UsageError
from vifscope.claims import Claim, claims, claims_frame
from vifscope.comparison import Comparison
from vifscope.figures.frames import ATTENUATION, wide
from vifscope.figures.gallery import FIGURES, Gallery
from vifscope.figures.interactive import Track, curves_figure, violins_figure
from vifscope.figures.theme import render
from vifscope.figures.viewer import CURVES, viewer_html
from vifscope.runs import RunStore
from vifscope.runs.disk import make_folders, write_file

FORMATS = ("pdf", "png", "svg", "html")
VIEWED = 24
"""Samples of each run that its samples.html steps through."""


def draw(
    runs: Sequence[RunStore],
    out: Path,
    formats: Sequence[str] = ("pdf", "png"),
    *,
    paper: bool = False,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> tuple[list[str], list[Claim]]:
    """Writes OUT/RUN/NAME.FORMAT for each run's figures, OUT/NAME.FORMAT for those of several runs together, and with
    `paper` OUT/claims.csv. A figure that a run has nothing for is left out.

    In html a run has curves.html and violins.html, which show numbers under the pointer, and samples.html, which steps
    through samples and layers; several runs together have the browser (`vifscope app`).
    Returns the paths in `out`, and with `paper` the claims.
    Raises UsageError for a format that is not known and for runs that cannot be compared, VifError where the disk
    refuses.
    """
    unknown = [each for each in formats if each not in FORMATS]
    if unknown or not formats:
        raise UsageError(f"format {', '.join(unknown) or 'none'} is not known", expected=f"of {', '.join(FORMATS)}")
    drawings: list[tuple[str, Gallery | Comparison, str]] = []
    drawings += [(f"{name}/{figure}", gallery, figure) for name, gallery in _galleries(runs) for figure in FIGURES]
    if len(runs) > 1:
        comparison = Comparison(runs)
        drawings += [(figure, comparison, figure) for figure in comparison.figures]
    written = []
    for done, (path, source, name) in enumerate(drawings):
        progress("drawing", done, len(drawings))
        try:
            figure = source.figure(name)
        except UsageError:
            continue
        make_folders((out / path).parent)
        for suffix in formats:
            if suffix != "html":
                write_file(out / f"{path}.{suffix}", render(figure, suffix))
                written.append(f"{path}.{suffix}")
    if "html" in formats:
        for name, gallery in _galleries(runs):
            make_folders(out / name)
            for file, content in _pages(gallery).items():
                write_file(out / name / file, content.encode())
                written += [f"{name}/{file}"] if file.endswith(".html") else []
    progress("drawing", len(drawings), len(drawings))
    found = claims(runs) if paper else []
    if paper:
        make_folders(out)
        write_file(out / "claims.csv", claims_frame(found).to_csv(index=False).encode())
        written.append("claims.csv")
    return written, found


def _pages(gallery: Gallery) -> dict[str, str]:
    """A run's interactive figures by file, and plotly's script, which they share."""
    run = gallery.run
    name = run.path.resolve().name
    pictured = [sample_id for sample_id in run.sample_ids if run.sample(sample_id)["image"]]
    made: dict[str, Callable[[], str]] = {
        "curves.html": lambda: _page(curves_figure([Track(name, wide(gallery.summary, [*CURVES]))], [*CURVES])),
        "violins.html": lambda: _page(violins_figure([gallery.violins], [wide(gallery.summary, ATTENUATION)], [name])),
        "samples.html": lambda: viewer_html([(run, sample_id) for sample_id in pictured[:VIEWED]]),
    }
    pages = {"plotly.min.js": get_plotlyjs()}
    for file, make in made.items():
        with suppress(UsageError):  # what a run has nothing for is left out
            pages[file] = make()
    return pages


def _page(figure: Any) -> str:
    return figure.to_html(include_plotlyjs="directory")


def _galleries(runs: Sequence[RunStore]) -> list[tuple[str, Gallery]]:
    names: list[str] = []
    for run in runs:
        name = run.path.resolve().name
        names.append(name if name not in names else f"{name}-{len(names) + 1}")
    return [(name, Gallery(run)) for name, run in zip(names, runs, strict=True)]
