from __future__ import annotations

from collections.abc import Callable

import pytest
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox


def beyond(axis: Axis) -> list[Text]:
    """Tick labels that are not drawn: of a hidden axis, and of ticks outside its view."""
    low, high = sorted(axis.get_view_interval()) if axis.get_visible() else (0, -1)
    ticks = [tick for tick in axis.get_major_ticks() if not low - 1e-9 <= tick.get_loc() <= high + 1e-9]
    return [label for tick in ticks for label in (tick.label1, tick.label2)]


@pytest.fixture
def boxes_of_text() -> Callable[[Figure], dict[str, Bbox]]:
    """Every text that a figure shows, with its box in pixels."""

    def find(figure: Figure) -> dict[str, Bbox]:
        figure.set_dpi(100)
        figure.draw_without_rendering()
        drawn = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]
        unseen = {label for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for label in beyond(axis)}
        return {f"{t.get_text()} #{i}": t.get_window_extent() for i, t in enumerate(drawn) if t not in unseen}

    return find


@pytest.fixture
def assert_legible(boxes_of_text) -> Callable[[Figure], None]:
    """Asserts that every text lies inside the figure and that no two overlap."""

    def check(figure: Figure) -> None:
        page = Bbox.from_bounds(0, 0, *(100 * figure.get_size_inches()))
        boxes = boxes_of_text(figure)
        slack = 1.0
        for name, box in boxes.items():
            inside = box.x0 > -slack and box.y0 > -slack and box.x1 < page.x1 + slack and box.y1 < page.y1 + slack
            assert inside, f"{name} is cut: {box}"
        names = list(boxes)
        for i, first in enumerate(names):
            for second in names[i + 1 :]:
                shared = Bbox.intersection(boxes[first], boxes[second])
                area = 0 if shared is None else shared.width * shared.height
                assert area < 2.0, f"{first} lies over {second}"

    return check
