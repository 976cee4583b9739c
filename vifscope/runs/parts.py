"""Parts: the shards of a run, committed one by one, and the compacted index of what they hold.

A part is one file in each folder of a run, all named SESSION-WORKER-NUMBER. It counts once its file in layers/ stands,
which is written last and whose metadata holds the SHA-256 of the others and the part's samples. The newest part sorts
last. The index only saves the reading of every marker: what it lacks is read from them, what they lack is dropped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from vifscope.runs.disk import TEMPORARY, write_file

FILES = {"maps": "safetensors", "rows": "parquet", "heads": "parquet", "samples": "parquet", "layers": "parquet"}
"""Folder -> file type, in the order of writing; layers/ is the commit marker."""
INDEX = "index.parquet"
_METADATA = b"vifscope"


class CorruptPartError(Exception):
    """A file of a committed part is missing, unreadable or not what was written."""


@dataclass(frozen=True)
class Entry:
    """A sample's place: the part that holds it, whether it was measured (or failed), its images' paths in the run."""

    sample_id: str
    part: str
    done: bool
    image: tuple[str, ...] = ()


def part_file(run: Path, folder: str, part: str) -> Path:
    return run / folder / f"{part}.{FILES[folder]}"


def parquet_bytes(table: pa.Table) -> memoryview:
    """`table` as a Parquet file; its pages carry checksums."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return memoryview(sink.getvalue())


def commit(
    run: Path, part: str, siblings: dict[str, bytes | memoryview], layers: pa.Table, entries: list[Entry]
) -> None:
    """Writes a part: `siblings` (folder -> file) in the order of FILES, then the marker. Raises VifError."""
    for folder in FILES:
        if folder in siblings:
            write_file(part_file(run, folder, part), siblings[folder])
    marker = {
        "sha256": {folder: hashlib.sha256(data).hexdigest() for folder, data in siblings.items()},
        "samples": [[entry.sample_id, entry.done, entry.image] for entry in entries],
    }
    layers = layers.replace_schema_metadata({_METADATA: json.dumps(marker)})
    write_file(part_file(run, "layers", part), parquet_bytes(layers))


def committed(run: Path) -> list[str]:
    """Names of the committed parts, oldest first."""
    return sorted(file.stem for file in (run / "layers").glob("[!.]*.parquet"))


def read_marker(run: Path, part: str) -> dict:
    """The marker's metadata: sha256 of the sibling files by folder, samples. Raises CorruptPartError."""
    try:
        return json.loads(pq.read_schema(part_file(run, "layers", part)).metadata[_METADATA])
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise CorruptPartError(f"layers/{part}.parquet cannot be read ({error})") from error


def read_table(run: Path, folder: str, part: str) -> pa.Table:
    """One table of a part, held against the marker's SHA-256 (layers: its pages' own). Raises CorruptPartError."""
    file = part_file(run, folder, part)
    try:
        if folder == "layers":
            with pq.ParquetFile(file, page_checksum_verification=True) as parquet:
                return parquet.read().replace_schema_metadata()
        data = file.read_bytes()
        if hashlib.sha256(data).hexdigest() != read_marker(run, part)["sha256"][folder]:
            raise CorruptPartError(f"{folder}/{file.name} is not what was written (SHA-256 differs)")
        with pq.ParquetFile(pa.BufferReader(data)) as parquet:
            return parquet.read()
    except (OSError, pa.ArrowException) as error:
        raise CorruptPartError(f"{folder}/{file.name} cannot be read ({error})") from error


def check_part(run: Path, part: str) -> Iterator[str]:
    """One line for every file of a part that is not what was written."""
    try:
        read_table(run, "layers", part)
        for folder, digest in read_marker(run, part)["sha256"].items():
            file = part_file(run, folder, part)
            if not file.exists():
                yield f"{folder}/{file.name} is missing"
            elif file_digest(file) != digest:
                yield f"{folder}/{file.name} is not what was written (SHA-256 differs)"
    except CorruptPartError as error:
        yield str(error)


def file_digest(file: Path) -> str:
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def read_entries(run: Path) -> tuple[list[Entry], dict[str, str]]:
    """Every sample record of the committed parts, oldest part first, and part -> line for those that cannot be read."""
    parts = committed(run)
    known: dict[str, list[Entry]] = {}
    try:
        for row in zip(*(column.to_pylist() for column in pq.read_table(run / INDEX).columns), strict=True):
            known.setdefault(row[1], []).append(Entry(row[0], row[1], row[2], tuple(row[3])))
    except (OSError, pa.ArrowException, IndexError, TypeError):
        known = {}  # absent or broken: the markers say the same
    problems = {}
    for part in parts:
        if part not in known:
            try:
                known[part] = [
                    Entry(i, part, done, tuple(image)) for i, done, image in read_marker(run, part)["samples"]
                ]
            except CorruptPartError as error:
                problems[part] = str(error)
    return [entry for part in parts if part in known for entry in known[part]], problems


def write_index(run: Path, entries: Iterable[Entry]) -> None:
    """Compacts `entries` into the index. Raises VifError."""
    schema = pa.schema(
        {"sample_id": pa.string(), "part": pa.string(), "done": pa.bool_(), "image": pa.list_(pa.string())}
    )
    table = pa.Table.from_pylist([vars(entry) for entry in entries], schema=schema)
    write_file(run / INDEX, parquet_bytes(table))


def newest(entries: Iterable[Entry]) -> dict[str, Entry]:
    """The record that stands for each sample: the newest measured one, else the newest failed one."""
    standing: dict[str, Entry] = {}
    for entry in entries:
        if entry.done or entry.sample_id not in standing or not standing[entry.sample_id].done:
            standing[entry.sample_id] = entry
    return standing


def collect_orphans(run: Path, entries: Iterable[Entry]) -> list[Path]:
    """Removes what no committed part refers to: the rest of writes that were cut short. Returns what it removed."""
    kept = {part_file(run, folder, part) for part in committed(run) for folder in FILES}
    kept |= {run / image for entry in entries for image in entry.image}
    orphans = [file for folder in (*FILES, "images") for file in (run / folder).iterdir() if file not in kept]
    orphans += run.glob(f".*{TEMPORARY}")
    for file in orphans:
        file.unlink()
    return orphans
