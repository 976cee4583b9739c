"""From what the user writes after --data to a source of samples."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vif_core.data.conversation import Conversations, SingleExchanges
from vif_core.data.folder import find_listing, open_listing
from vif_core.data.listed import fingerprint, read_rows
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
    path = _listing(data)
    rows = read_rows(path)
    told = any("conversations" in row.values for row in rows)
    listed = open_llava(path, rows) if told else open_listing(path, rows)
    folder = Path(data).expanduser()
    return replace(listed, name=folder.resolve().name) if folder.is_dir() else listed


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
        path = _listing(data)
        rows = read_rows(path)
        if any("conversations" in row.values for row in rows):
            return open_conversations(path, rows)
    source = open_source(data)
    return SingleExchanges(source, source.name)


def fingerprint_of(data: str | Path) -> str:
    """Identity of what `open_source` and `open_training` read; files are not gone through for it.

    Raises as they do for what is not there.
    """
    if str(data).partition(":")[0] in ("specks", "hub"):
        return open_source(data).fingerprint
    path = _listing(data)
    try:
        return fingerprint(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error})", expected="a listing in UTF-8") from error


def _listing(data: str | Path) -> Path:
    path = Path(data).expanduser()
    if not path.exists():
        raise UsageError(
            f"there is no data at {data}",
            expected='"specks", "hub:OWNER/NAME", or the path of a folder, .jsonl or .json file',
            next_step="Check the path",
        )
    path = find_listing(path) if path.is_dir() else path
    if path.suffix not in (".jsonl", ".json"):
        raise UsageError(f"{path} is not a listing that is known", expected="a .jsonl or .json file")
    return path
