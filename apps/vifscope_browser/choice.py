"""A control that chooses one of a few options."""

from __future__ import annotations

from dash import dcc, html


def choice(name: str, options: dict[str, str], value: str, label: str, *, hidden: bool = False) -> html.Label:
    """options: what is shown, by its value.      label: for screen readers, and shown where the pointer rests."""
    shown = [{"label": text, "value": key} for key, text in options.items()]
    return html.Label(
        [
            html.Span(label, className="hidden"),
            dcc.Dropdown(id=name, options=shown, value=value, clearable=False, searchable=False),
        ],
        title=label,
        hidden=hidden,
    )
