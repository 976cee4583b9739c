"""Writing a run: create or resume its folder, commit shards, finish."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from vif_core.errors import UsageError, VifError
from vifscope.runs import parts
from vifscope.runs.configuration import configuration_hash, differences, plain
from vifscope.runs.disk import disk_errors, lock, make_folders, write_file
from vifscope.runs.manifest import MANIFEST, SCHEMA_VERSION, read_manifest
from vifscope.runs.maps import maps_file
from vifscope.runs.records import SampleRecord
from vifscope.runs.tables import heads_table, layers_table, rows_table, samples_table

_LOCK = ".lock"


class RunWriter:
    """A run that is being written. `RunWriter.open` makes one; it holds the run until `finish`, `close` or the end of
    a `with` block.

    done: ids of the samples that are measured and committed. A failed sample is not among them: it is written with its
          error and tried again whenever the run is resumed; its newest record stands.
    """

    def __init__(self, path: Path, manifest: dict[str, Any], lock_file: IO[str]) -> None:
        self.path = path
        self.manifest = manifest
        self._lock = lock_file
        self._numbers: dict[int, int] = {}  # worker -> its next part
        self._entries, unreadable = parts.read_entries(path)
        with disk_errors(path):
            for part in unreadable:  # no marker, no commit: its samples are measured again
                parts.part_file(path, "layers", part).unlink()
            parts.collect_orphans(path, self._entries)
        parts.write_index(path, self._entries)
        self.done = {entry.sample_id for entry in self._entries if entry.done}

    @classmethod
    def open(
        cls, path: str | Path, config: dict[str, Any], info: dict[str, Any] | None = None, *, overwrite: bool = False
    ) -> RunWriter:
        """Creates the run at `path`, or resumes it where its configuration is the same.

        config: JSON values that decide the numbers; n, batch size, device and workers are not among them.
        info:   further fields of the manifest (model, dataset, versions, device), replaced on resume.
        Raises UsageError for another configuration (unless `overwrite`, which starts the run anew), for a folder that
        is no run and for a run that another process is writing; VifError where the disk refuses.
        """
        path, config = Path(path), plain(config)
        stored = read_manifest(path) if any(path.glob("[!.]*")) else None
        make_folders(path)
        with contextlib.ExitStack() as on_error:
            lock_file = on_error.enter_context(lock(path / _LOCK, f"run {path}"))
            if stored and not overwrite and stored["configuration"] != config:
                raise UsageError(
                    f"run {path} has another configuration: {'; '.join(differences(stored['configuration'], config))}",
                    expected="the same configuration to resume it",
                    next_step="Add --overwrite to start it anew, or name another run folder",
                )
            if stored and overwrite:
                _clear(path)
                stored = None
            manifest = {
                "schema_version": SCHEMA_VERSION,
                "configuration": config,
                "configuration_hash": configuration_hash(config),
                **(info or {}),
                "status": "running",
                "counts": stored["counts"] if stored else {},
                "sessions": stored["sessions"] + 1 if stored else 1,
                "created": stored["created"] if stored else _now(),
                "updated": _now(),
            }
            _write_manifest(path, manifest)
            make_folders(*(path / folder for folder in (*parts.FILES, "images")))
            writer = cls(path, manifest, lock_file)
            on_error.pop_all()
        return writer

    def write(self, records: Sequence[SampleRecord], worker: int = 0) -> str | None:
        """Commits one shard and returns its name; None for no records. Whole or absent after a crash.

        Raises VifError where the disk refuses; the run stays resumable.
        """
        if not records:
            return None
        number = self._numbers.get(worker, 0)
        part = f"{self.manifest['sessions']:04d}-{worker:03d}-{number:06d}"
        images = [[self._write_image(picture) for picture in record.pictures] for record in records]
        entries = [
            parts.Entry(record.sample_id, part, bool(record.flows), tuple(paths))
            for record, paths in zip(records, images, strict=True)
        ]
        siblings: dict[str, bytes | memoryview] = {
            "maps": maps_file(records),
            "rows": parts.parquet_bytes(rows_table(records)),
            "heads": parts.parquet_bytes(heads_table(records)),
            "samples": parts.parquet_bytes(samples_table(records, images)),
        }
        try:
            parts.commit(self.path, part, siblings, layers_table(records), entries)
        except VifError:
            for folder in siblings:  # gives their space back
                with contextlib.suppress(OSError):
                    parts.part_file(self.path, folder, part).unlink()
            raise
        self._numbers[worker] = number + 1
        self._entries += entries
        self.done |= {entry.sample_id for entry in entries if entry.done}
        return part

    def finish(self, status: str, counts: dict[str, Any]) -> None:
        """Compacts the index, writes status and counts into the manifest and lets go of the run."""
        parts.write_index(self.path, self._entries)
        self.manifest |= {"status": status, "counts": counts, "updated": _now()}
        _write_manifest(self.path, self.manifest)
        self.close()

    def close(self) -> None:
        """Lets go of the run; what is committed stays."""
        self._lock.close()

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write_image(self, picture: bytes) -> str:
        name = f"images/{hashlib.sha256(picture).hexdigest()}.png"
        if not (self.path / name).exists():
            write_file(self.path / name, picture)
        return name


def _clear(path: Path) -> None:
    """Empties a run: index, markers, the rest, manifest; a crash on the way leaves a run that merely has less."""
    order = [parts.INDEX, "layers"]
    rest = sorted(entry.name for entry in path.glob("[!.]*") if entry.name not in (*order, MANIFEST))
    with disk_errors(path):
        for entry in (path / name for name in (*order, *rest, MANIFEST)):
            if entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink(missing_ok=True)


def _write_manifest(path: Path, manifest: dict[str, Any]) -> None:
    write_file(path / MANIFEST, json.dumps(manifest, indent=2).encode())


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
