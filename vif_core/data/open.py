"""From what the user writes after --data to a source of samples."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vif_core.data.folder import find_listing, open_listing
from vif_core.data.listed import Listed, read_rows
from vif_core.data.llava import open_llava
from vif_core.data.sample import Source
from vif_core.errors import UsageError


def open_source(data: str | Path) -> Source:
    """A source from "specks", "specks:SPLIT", "hub:OWNER/NAME[:SPLIT]", or the path of a folder or listing.

    Raises UsageError if there is nothing at the path or its format is not known.
    """
    kind, _, rest = str(data).partition(":")
    if kind == "specks":
        from vif_core.data.specks import Specks

        return Specks(split=rest or "test")
    if kind == "hub":
        from vif_core.data.hub import open_hub

        return open_hub(rest)
    path = Path(data).expanduser()
    if not path.exists():
        raise UsageError(
            f"there is no data at {data}",
            expected='"specks", "hub:OWNER/NAME", or the path of a folder, .jsonl or .json file',
            next_step="Check the path",
        )
    if path.is_dir():
        return replace(_open_file(find_listing(path)), name=path.resolve().name)
    return _open_file(path)


def _open_file(path: Path) -> Listed:
    if path.suffix not in (".jsonl", ".json"):
        raise UsageError(f"{path} is not a listing that is known", expected="a .jsonl or .json file")
    rows = read_rows(path)
    if any("conversations" in row.values for row in rows):
        return open_llava(path, rows)
    return open_listing(path, rows)
