"""The files that an analysis leaves for its reader: figures, summary.csv and index.html."""

from __future__ import annotations

from typing import Any

from vif_core.errors import VifError
from vifscope import page
from vifscope.figures.frames import has_videos
from vifscope.figures.gallery import Gallery
from vifscope.figures.lights import has_spotlights
from vifscope.figures.theme import DARK, render
from vifscope.runs import RunStore
from vifscope.runs.disk import make_folders, write_file
from vifscope.summary import summary_dict, written_files

CAPTIONS = {
    "attenuation": "Visual ratio and ratio lift by decoder layer, with 95 % intervals. Dashed: uniform attention.",
    "focus": "Relative entropy of visual attention and box lift, with 95 % intervals. Dashed: uniform attention.",
    "shares": "Where each layer's attention goes.",
    "violins": "Weight of every single visual token (violins, log axis; bar: middle half, dot: median), each sample "
    "counted the same, and the visual ratio over it.",
    "maps": "Visual attention over the image for a few samples: the first of each of the most frequent kinds.",
    "spotlights": "VIF's spotlights in its last layer from the question alone and with the answer, for the ambiguous "
    "questions in which the answer changes them most. Ellipses: one spread.",
    "video": "Visual ratio and entropy by frame of the videos and layer, mean over samples.",
}
WIDE = ("violins", "maps")


def write_report(run: RunStore, gallery: Gallery | None = None) -> dict[str, Any]:
    """Writes figures/NAME.png and .pdf, summary.csv and index.html into the run, and returns its `summary_dict`.

    gallery: the run's figures, if at hand. A figure that the run has nothing for, or whose maps or pictures cannot
    be read, is left out, and index.html says why.
    Raises UsageError if no sample of the run was measured, VifError where the disk refuses.
    """
    gallery = gallery or Gallery(run)
    summary = summary_dict(run, frame=gallery.summary)
    make_folders(run.path / "figures")
    shown = []
    for name, caption in CAPTIONS.items():
        if (name == "spotlights" and not has_spotlights(run)) or (name == "video" and not has_videos(run)):
            continue
        try:
            light = gallery.figure(name)
        except VifError as error:
            shown.append(page.note(str(error)))
            continue
        for suffix in ("png", "pdf"):
            write_file(run.path / "figures" / f"{name}.{suffix}", render(light, suffix))
        dark = gallery.figure(name, DARK)
        shown.append(page.figure(render(light, "svg"), render(dark, "svg"), caption, wide=name in WIDE))
    write_file(run.path / "summary.csv", gallery.summary.to_csv(index=False).encode())
    samples = run.samples().dropna(subset="error")
    failed = list(zip(samples["sample_id"], samples["error"], strict=True))
    summary["files"] = [file for file in written_files(run, gallery.summary) if file != "index.html"]
    write_file(run.path / "index.html", page.page(summary, run.manifest, failed, shown).encode())
    return summary | {"files": written_files(run, gallery.summary)}
