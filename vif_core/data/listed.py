"""Samples listed in one file, JSON or JSON lines: what every format of listing shares."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vif_core.data.sample import Sample
from vif_core.errors import UsageError


@dataclass
class Listed:
    """A source that holds its samples. `skipped` says in words which rows of the listing it left out, and how many."""

    name: str
    fingerprint: str
    samples: Sequence[Sample]
    skipped: str = ""

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]


@dataclass(frozen=True)
class Row:
    """One row of a listing, and where it stands, for the error line."""

    where: str
    values: dict[str, Any]


def read_rows(path: Path) -> list[Row]:
    """Rows of a JSON list or of JSON lines. Raises UsageError that names the line which is not a JSON object."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors put a byte-order mark before it
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read ({error})", expected="a listing in UTF-8") from error
    if path.suffix == ".jsonl":
        lines = text.split("\n")  # str.splitlines would also split at what may stand within JSON, such as U+2028
        numbered = [(f"{path} line {number}", line) for number, line in enumerate(lines, 1) if line.strip()]
        parsed = [(where, _parse(where, line)) for where, line in numbered]
    else:
        values = _parse(str(path), text)
        if not isinstance(values, list):
            raise UsageError(f"{path} holds a JSON {type(values).__name__}", expected="a list of objects")
        parsed = [(f"{path} entry {number}", value) for number, value in enumerate(values, 1)]
    for where, value in parsed:
        if not isinstance(value, dict):
            raise UsageError(f"{where} is not a JSON object", expected='{"image": "a.png", "question": "..."}')
    if not parsed:
        raise UsageError(f"{path} lists no samples", expected="one object a sample")
    return [Row(where, value) for where, value in parsed]


def read_names(value: Any, row: Row, seen: str, example: str) -> list[str]:
    """Names of files from one or a list of them. Raises UsageError for anything else, and for data in place of a name.

    seen, example: what the files are ("image"), and a row that names one, for the error line.
    """
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise UsageError(f"{row.where} names no {seen}", expected=f"a path, as in {example}")
    if any(name.startswith("data:") for name in names):
        raise UsageError(
            f"{row.where} has a data: address as its {seen}",
            expected=f"a path, as in {example}",
            next_step="Save it as a file",
        )
    return names


def fingerprint(path: Path) -> str:
    """Identity of a listing: its bytes. Pictures are left out, so that a mended one can be added to a run."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def unique_ids(raw: Iterable[object]) -> list[str]:
    """One identifier a row, in the characters that a Sample allows; rows without one are numbered, repeats suffixed.

    >>> unique_ids(["a/b.jpg", None, "a/b.jpg"])
    ['a-b.jpg', '000001', 'a-b.jpg-2']
    """
    seen: set[str] = set()
    repeats: dict[str, int] = {}  # next suffix by stem: counting anew for each row would take time squared
    ids = []
    for index, value in enumerate(raw):
        stem = re.sub(r"[^A-Za-z0-9._-]+", "-", str(value)) if value not in (None, "") else f"{index:06d}"
        name = stem
        while name in seen:
            repeats[stem] = repeats.get(stem, 1) + 1
            name = f"{stem}-{repeats[stem]}"
        seen.add(name)
        ids.append(name)
    return ids


def _parse(where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(f"{where} is not JSON ({error})", expected="JSON") from error
