"""From what the user writes after --data to a source of samples."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vif_core.data.conversation import Conversations, SingleExchanges
from vif_core.data.folder import find_listing, open_listing
from vif_core.data.listed import Listed, Row, read_rows
from vif_core.data.llava import open_conversations, open_llava
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
    path = _existing(data)
    if path.is_dir():
        return replace(_open_file(find_listing(path)), name=path.resolve().name)
    return _open_file(path)


def open_training(data: str | Path) -> Conversations:
    """Conversations to learn from, out of what `open_source` takes.

    LLaVA files and data sets of the hub with a column of conversations give all of their exchanges and their
    text-only rows, other sources one exchange a sample. Raises as `open_source` does.
    """
    kind, _, rest = str(data).partition(":")
    if kind == "hub":
        from vif_core.data.hub import HubConversations, open_hub

        return HubConversations(open_hub(rest))
    if kind != "specks":
        path = _existing(data)
        path = find_listing(path) if path.is_dir() else path
        rows = _rows(path)
        if any("conversations" in row.values for row in rows):
            return open_conversations(path, rows)
    source = open_source(data)
    return SingleExchanges(source, source.name)


def _existing(data: str | Path) -> Path:
    path = Path(data).expanduser()
    if not path.exists():
        raise UsageError(
            f"there is no data at {data}",
            expected='"specks", "hub:OWNER/NAME", or the path of a folder, .jsonl or .json file',
            next_step="Check the path",
        )
    return path


def _rows(path: Path) -> list[Row]:
    if path.suffix not in (".jsonl", ".json"):
        raise UsageError(f"{path} is not a listing that is known", expected="a .jsonl or .json file")
    return read_rows(path)


def _open_file(path: Path) -> Listed:
    rows = _rows(path)
    if any("conversations" in row.values for row in rows):
        return open_llava(path, rows)
    return open_listing(path, rows)
