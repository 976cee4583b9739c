"""Every figure of some runs in a folder, and the paper's claims beside them, without Jupyter."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from contextlib import suppress
from html import escape
from pathlib import Path

from plotly.offline import get_plotlyjs

from vif_core.errors import UsageError, VifError
from vifscope import page
from vifscope.claims import Claim, claims, claims_frame
from vifscope.comparison import Comparison
from vifscope.figures.gallery import Gallery
from vifscope.figures.theme import render
from vifscope.figures.viewer import viewer_html
from vifscope.report import CAPTIONS
from vifscope.runs import RunStore
from vifscope.runs.disk import make_folders, write_file

FORMATS = ("pdf", "png", "svg", "html")
VIEWED = 24
"""Samples of each run that its samples.html steps through."""

_STEP = "Step through samples and layers"
_TOGETHER = "The runs against one another"


def draw(
    runs: Sequence[RunStore],
    out: Path,
    formats: Sequence[str] = ("pdf", "png"),
    *,
    paper: bool = False,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> tuple[list[str], list[Claim]]:
    """Writes OUT/RUN/NAME.FORMAT for each run's figures, OUT/NAME.FORMAT for those of several runs together, and with
    `paper` OUT/claims.csv. A figure that a run has nothing for, or whose maps or pictures cannot be read, is left out;
    `problems` of the runs name such files.

    In html all figures are on one page, OUT/figures.html, which shows numbers under the pointer, and each run has
    OUT/RUN/samples.html, which steps through samples and layers. Each page needs nothing else.
    Returns the paths in `out`, and with `paper` the claims.
    Raises UsageError for a format that is not known, for a run without a measured sample and for runs that cannot be
    compared, VifError where the disk refuses.
    """
    unknown = [each for each in formats if each not in FORMATS]
    if unknown or not formats:
        raise UsageError(f"format {', '.join(unknown) or 'none'} is not known", expected=f"of {', '.join(FORMATS)}")
    galleries = _galleries(runs)
    for gallery in galleries.values():
        gallery.summary  # noqa: B018  raises for a run that nothing was measured of, where a figure would be left out
    sources: dict[str, Gallery | Comparison] = {"": Comparison(runs)} if len(runs) > 1 else {}
    sources |= galleries
    total = sum(len(_captions(source)) for source in sources.values())
    written: list[str] = []
    sections: dict[str, list[str]] = {}

    def write(path: str, content: bytes) -> None:
        make_folders((out / path).parent)
        write_file(out / path, content)
        written.append(path)

    done, suffixes = 0, [each for each in formats if each != "html"]
    for folder, source in sources.items():
        for name, caption in _captions(source).items():
            progress("drawing", done, total)
            done += 1
            try:
                drawn = _drawn(source, name, suffixes)
                shown = _shown(source, name, caption) if "html" in formats else ""
            except VifError:
                continue
            for suffix, content in drawn.items():
                write(f"{folder}/{name}.{suffix}".lstrip("/"), content)
            if shown:
                sections.setdefault(folder, []).append(shown)
    progress("drawing", total, total)
    found = claims(runs) if paper else []
    if paper:
        write("claims.csv", claims_frame(found).to_csv(index=False).encode())
    if "html" in formats:
        for folder, source in sources.items():
            if isinstance(source, Gallery) and (viewer := _viewer(source.run)):
                write(f"{folder}/samples.html", viewer.encode())
                sections.setdefault(folder, []).insert(0, f'<p><a href="{escape(folder)}/samples.html">{_STEP}</a></p>')
        write("figures.html", _page(sections, found).encode())
    return written, found


def _captions(source: Gallery | Comparison) -> dict[str, str]:
    """Of every figure, by its name."""
    return source.figures if isinstance(source, Comparison) else CAPTIONS


def _drawn(source: Gallery | Comparison, name: str, suffixes: Sequence[str]) -> dict[str, bytes]:
    """A figure's file in each format."""
    if not suffixes:
        return {}
    figure = source.figure(name)
    return {suffix: render(figure, suffix) for suffix in suffixes}


def _shown(source: Gallery | Comparison, name: str, caption: str) -> str:
    """A figure of the page, in HTML."""
    settings = {"displaylogo": False, "responsive": True}
    plot = source.interactive(name).to_html(full_html=False, include_plotlyjs=False, config=settings)
    return f'<figure class="wide">{plot}<figcaption>{escape(caption)}</figcaption></figure>'


def _viewer(run: RunStore) -> str:
    """The page of a run's first samples; empty where none has a picture, or one of them cannot be read."""
    pictured = [sample_id for sample_id in run.sample_ids if run.sample(sample_id)["image"]]
    with suppress(VifError):
        return viewer_html([(run, sample_id) for sample_id in pictured[:VIEWED]])
    return ""


def _page(sections: dict[str, list[str]], found: Sequence[Claim]) -> str:
    """figures.html, with plotly's script in it. sections: by folder."""
    told = "".join(f"<p>{escape(claim.sentence)}</p>" for claim in found)
    parts = [f"<h2>The paper's claims</h2>{told}"] if found else []
    parts += [f"<h2>{escape(folder or _TOGETHER)}</h2>{''.join(shown)}" for folder, shown in sections.items()]
    title = " and ".join(escape(folder) for folder in sections if folder)
    return page.fill("figures.html", title=title, plotly=get_plotlyjs(), sections="".join(parts))


def _galleries(runs: Sequence[RunStore]) -> dict[str, Gallery]:
    """By the name of each run's folder, numbered where that is taken."""
    found: dict[str, Gallery] = {}
    for run in runs:
        name = run.path.resolve().name
        names = (f"{name}-{number}" if number > 1 else name for number in itertools.count(1))
        found[next(each for each in names if each not in found)] = Gallery(run)
    return found
