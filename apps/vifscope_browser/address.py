"""Addresses of pages: which samples or what of a sample they show stands in the query, so that a link restores it."""

from __future__ import annotations

from urllib.parse import urlencode

from vif_core.errors import UsageError


def address_of(page: str, **asked: object) -> str:
    """
    >>> address_of("sample", sample="a b", layer=3, head=None)
    '/sample?sample=a+b&layer=3'
    """
    kept = {name: value for name, value in asked.items() if value not in (None, "")}
    return f"/{page}?{urlencode(kept)}" if kept else f"/{page}"


def number(asked: dict[str, str], name: str) -> int | None:
    """A whole number of an address; None where it is not there. Raises UsageError for anything else."""
    if not asked.get(name):
        return None
    try:
        return int(asked[name])
    except ValueError as error:
        raise UsageError(f"{name} is {asked[name]!r} in the address", expected="a whole number") from error
