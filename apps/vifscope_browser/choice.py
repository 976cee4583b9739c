"""A control that chooses one of a few options."""

from __future__ import annotations

from dash import dcc, html


def choice(
    name: str, options: dict[str, str], value: str, label: str, *, hidden: bool = False, kept: bool = False
) -> html.Div:
    """options: what is shown, by its value.      label: for screen readers, and shown where the pointer rests.

    kept: the browser remembers what was chosen, for the next sample and visit.
    """
    shown = [{"label": text, "value": key} for key, text in options.items()]
    dropdown = dcc.Dropdown(id=name, options=shown, value=value, clearable=False, searchable=False, persistence=kept)
    named = {"aria-label": label}  # the dropdown itself is named by its value
    return html.Div(dropdown, title=label, hidden=hidden, className="choice", role="group", **named)
