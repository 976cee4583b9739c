"""An experiment in a terminal: what is being trained and measured, and the table of its arms."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from vif_core.errors import UsageError
from vifscope.ablation.experiment import ANSWERS
from vifscope.ablation.result import MEASURES, SPREAD, Measure
from vifscope.cli.progress import progress_bar

SHORT = {
    "accuracy": "right %",
    "accuracy_tiny": "tiny",
    "accuracy_other": "other",
    "entropy_injected": "H inj",
    "entropy_uninjected": "H uninj",
    "box_lift_injected": "lift",
    "map_box_lift": "map lift",
    "map_entropy": "map H",
    "kl_nats": "KL",
}
"""Headings of the columns."""


def ablation_view(found: dict[str, Any]) -> Group:
    """What `vifscope ablate` prints of an `Ablation.summary_dict`, at most 80 columns wide: an arm in two lines, its
    numbers and below them the differences from the control, with a star where the interval leaves 0 out."""
    samples = found["samples"]
    legend = (
        "Below each number its difference from the control; *: the 95 % interval over seeds and images leaves 0 out, "
        "of two seeds or more. H: visual entropy in nats of injected and of uninjected deep layers; lift: box lift of "
        "the injected ones; map lift: that of the map; spread: of map centres."
    )
    words = f"{samples['answers']} samples of {found['data']}; flow and maps of {samples['flow']}."
    answers, flow = (
        [measure for measure in MEASURES if (measure.part == ANSWERS) is wanted] for wanted in (True, False)
    )
    tables = _table(found["arms"], answers), Text(), _table(found["arms"], flow, spread=True)
    return Group(*tables, Text(), Text(words), Text(legend, style="dim"))


@contextmanager
def progress_lines() -> Iterator[Callable[[str, int, int], None]]:
    """A callback for `ablate`: a line on stderr for each training, whose own bars follow it, and a bar for the rest."""
    console = Console(stderr=True)
    shown = ""
    bar: Callable[[str, int, int], None] = lambda *_: None  # noqa: E731  until the first stage begins
    with ExitStack() as opened:

        def tell(stage: str, done: int, total: int) -> None:
            nonlocal shown, bar
            if stage != shown:
                opened.close()
                shown = stage
                if total:
                    bar = opened.enter_context(progress_bar())
                else:
                    console.print(Text(stage))
            if total:
                bar(stage, done, total)

        yield tell


def read_seeds(text: str) -> list[int]:
    """
    >>> read_seeds("1-3,7")
    [1, 2, 3, 7]
    """
    seeds: list[int] = []
    for part in text.split(","):
        first, to, last = part.strip().partition("-")
        last = last if to else first
        if not (first.isdigit() and last.isdigit() and int(first) <= int(last)):
            raise UsageError(f"--seeds is {text!r}", expected="numbers and ranges, such as 1-5 or 1,3,4")
        seeds += range(int(first), int(last) + 1)
    return list(dict.fromkeys(seeds))


def _table(arms: Sequence[dict[str, Any]], measures: Sequence[Measure], *, spread: bool = False) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False)
    table.add_column("arm", no_wrap=True)
    for heading in (*(SHORT[measure.name] for measure in measures), *["spread"] * spread):
        table.add_column(heading, justify="right", no_wrap=True)
    for arm in arms:
        cells = [_cell(measure, arm.get(measure.name)) for measure in measures]
        if spread:
            moved = arm.get(SPREAD, {}).get("mean")
            cells.append("-" if moved is None else f"{moved:.3f}")
        label = f"{arm['arm']}\n{len(arm['seeds'])} seed{'s' if len(arm['seeds']) > 1 else ''}"
        table.add_row(Text(label), *cells)
    return table


def _cell(measure: Measure, found: dict[str, Any] | None) -> str:
    if found is None:
        return "-"
    if found["difference"] is None:
        return measure.shown(found["mean"])
    low, high = found["difference_low"], found["difference_high"]
    sure = found["control_seeds"] > 1 and low is not None and (low > 0 or high < 0)
    return f"{measure.shown(found['mean'])}\n{measure.shown(found['difference'], sign=True)}{'*' if sure else ' '}"
