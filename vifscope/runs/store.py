"""Reading a run: its manifest, its tables as DataFrames, maps and images of single samples."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
from PIL import Image
from safetensors import SafetensorError, safe_open

from vif_core.errors import UsageError, VifError
from vifscope.runs import parts
from vifscope.runs.manifest import read_manifest
from vifscope.runs.maps import key, unscaled
from vifscope.runs.tables import SAMPLES

_OPEN_SHARDS = 16
T = TypeVar("T")


class RunStore:
    """A run as it stands on disk when it is opened, read-only; a run that is still being written opens too.

    Samples are in the order of their ids. Of a sample that was tried more than once, the newest measured record stands,
    else the newest failed one.

    problems: a line for each file found corrupt so far. Its shard is left out of the table that was read (of samples
              and layers alike), and the rest is given. `verify` reads every file.
    """

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        self.manifest = manifest
        entries, unreadable = parts.read_entries(path)
        self._standing = parts.newest(entries)
        self._order = {sample_id: place for place, sample_id in enumerate(sorted(self._standing))}
        self._parts = sorted({entry.part for entry in entries})
        self._crowded = {entry.part for entry in entries if self._standing[entry.sample_id] is not entry}
        self._problems = {self._line(part, problem) for part, problem in unreadable.items()}
        self._shard = lru_cache(_OPEN_SHARDS)(self._open_shard)
        self._sample_rows = lru_cache(_OPEN_SHARDS)(self._read_sample_rows)

    @classmethod
    def open(cls, path: str | Path) -> RunStore:
        """Opens the run at `path`. Raises UsageError where it is no run."""
        return cls(Path(path), read_manifest(Path(path)))

    @property
    def problems(self) -> list[str]:
        return sorted(self._problems)

    @property
    def sample_ids(self) -> list[str]:
        """Ids of the measured samples, in the order of the tables."""
        return [sample_id for sample_id in self._order if self._standing[sample_id].done]

    def samples(self) -> pd.DataFrame:
        """A row a sample, measured or failed (then `error` is set). Columns: vifscope.runs.tables.SAMPLES."""
        return self._samples_and_layers[0].copy()

    def layers(self) -> pd.DataFrame:
        """A row a sample, map kind and layer: each metric's mean over the measured rows."""
        return self._samples_and_layers[1].copy()

    def heads(self) -> pd.DataFrame:
        """A row a sample, map kind, layer and head: each metric's mean over the measured rows."""
        return self._frame("heads", {part: self._table("heads", part) for part in self._parts})

    def rows(self, sample_id: str | None = None) -> pd.DataFrame:
        """A row a sample, map kind, layer and stored query row, head mean; of one sample where it is named."""
        wanted = self._parts if sample_id is None else [self._measured(sample_id).part]
        frame = self._frame("rows", {part: self._table("rows", part) for part in wanted})
        return frame if sample_id is None else frame[frame.sample_id == sample_id].reset_index(drop=True)

    def flow(self, sample_id: str, kind: str = "raw", layer: int | None = None) -> np.ndarray:
        """Head-mean flow on visual tokens, float32 [L, R, V] or one layer's [R, V]; within 2^-11 of each row's maximum.

        Raises UsageError for an unknown or failed sample and for a kind that it lacks; VifError for a corrupt shard.
        """
        return self._map(sample_id, key(sample_id, kind), layer)

    def head_flow(self, sample_id: str, kind: str = "raw", layer: int | None = None) -> np.ndarray:
        """Each head's flow on visual tokens, mean over the measured rows: float32 [L, H, V] or one layer's [H, V].

        Raises like `flow`; UsageError too where the run keeps no head maps.
        """
        return self._map(sample_id, key(sample_id, kind, per_head=True), layer)

    def image(self, sample_id: str, i: int = 0) -> Image.Image:
        """Image `i` of a sample, RGB. Raises UsageError where there is none, VifError where its file is broken."""
        return self._read_image(sample_id, i, lambda image: image.convert("RGB"))

    def png(self, sample_id: str, i: int = 0) -> bytes:
        """Image `i` of a sample as it is stored. Raises like `image`."""
        self._read_image(sample_id, i, Image.Image.verify)
        return (self.path / self._entry(sample_id).image[i]).read_bytes()

    def image_size(self, sample_id: str, i: int = 0) -> tuple[int, int]:
        """Width and height of image `i` in pixels, without decoding it. Raises like `image`."""
        return self._read_image(sample_id, i, lambda image: image.size)

    def sample(self, sample_id: str) -> dict[str, Any]:
        """One sample's row of samples/, as plain Python values, without reading the others."""
        rows = self._sample_rows(self._entry(sample_id).part)
        if sample_id not in rows:
            raise VifError(f"run {self.path} was made anew and sample {sample_id} moved", next_step="Open it again")
        return rows[sample_id]

    def grids(self, sample_id: str) -> list[dict[str, Any]]:
        """The sample's grids: frame, image, rows, cols, offset, stride, rect_px; empty where its tokens have none."""
        return self.sample(sample_id)["images"] or []

    def verify(self) -> list[str]:
        """Reads every committed file and image: a line for each that is not what was written. Empty = all is well."""
        problems = [
            self._line(part, problem)
            for part in parts.committed(self.path)
            for problem in parts.check_part(self.path, part)
        ]
        for image, part in {image: e.part for e in self._standing.values() for image in e.image}.items():
            file = self.path / image
            if not file.exists():
                problems.append(self._line(part, f"{image} is missing"))
            elif parts.file_digest(file) != file.stem:
                problems.append(self._line(part, f"{image} is not what was written (SHA-256 differs)"))
        return problems

    @cached_property
    def _samples_and_layers(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        tables = {part: (self._table("samples", part), self._table("layers", part)) for part in self._parts}
        whole = {part: pair for part, pair in tables.items() if None not in pair}
        samples = self._frame("samples", {part: pair[0] for part, pair in whole.items()})
        return samples, self._frame("layers", {part: pair[1] for part, pair in whole.items()})

    def _table(self, folder: str, part: str) -> pa.Table | None:
        """A table of one part, its superseded rows left out; None, and a line in `problems`, where it is corrupt."""
        try:
            table = parts.read_table(self.path, folder, part)
        except parts.CorruptPartError as error:
            self._problems.add(self._line(part, str(error)))
            return None
        if part in self._crowded:
            standing = [self._standing[i].part == part for i in table["sample_id"].to_pylist()]
            table = table.filter(pa.array(standing, pa.bool_()))
        return table

    def _frame(self, folder: str, tables: dict[str, pa.Table | None]) -> pd.DataFrame:
        whole = [table for table in tables.values() if table is not None]
        schema = SAMPLES if folder == "samples" else pa.schema({"sample_id": pa.string(), "map": pa.string()})
        table = pa.concat_tables([schema.empty_table(), *whole], promote_options="default")
        places = np.array([self._order[sample_id] for sample_id in table["sample_id"].to_pylist()], dtype=np.int64)
        table = table.take(pa.array(np.argsort(places, kind="stable")))
        return table.to_pandas(types_mapper={pa.bool_(): pd.BooleanDtype()}.get if folder == "samples" else None)

    def _read_sample_rows(self, part: str) -> dict[str, dict[str, Any]]:
        try:
            return {row["sample_id"]: row for row in parts.read_table(self.path, "samples", part).to_pylist()}
        except parts.CorruptPartError as error:
            raise VifError(self._line(part, str(error))) from error

    def _read_image(self, sample_id: str, i: int, read: Callable[[Image.Image], T]) -> T:
        images = self._entry(sample_id).image
        if not 0 <= i < len(images):
            raise UsageError(f"sample {sample_id} has {len(images)} images, not image {i}", next_step="Count from 0")
        try:
            with Image.open(self.path / images[i]) as image:
                return read(image)
        except (OSError, SyntaxError) as error:
            line = self._line(self._entry(sample_id).part, f"{images[i]} cannot be read ({error})")
            self._problems.add(line)
            raise VifError(line) from error

    def _open_shard(self, part: str) -> tuple[Any, frozenset[str]]:
        shard = safe_open(parts.part_file(self.path, "maps", part), framework="numpy")
        return shard, frozenset(shard.keys())

    def _map(self, sample_id: str, name: str, layer: int | None) -> np.ndarray:
        part = self._measured(sample_id).part
        try:
            shard, names = self._shard(part)
            if name not in names:
                start = key(sample_id, "")
                kept = sorted(n.removeprefix(start) for n in names if n.startswith(start) and not n.endswith("/scale"))
                raise UsageError(
                    f"run {self.path} keeps no map {name.removeprefix(start)} of sample {sample_id}",
                    expected=f"one of {', '.join(kept)}",
                )
            values, scale = shard.get_slice(name), shard.get_slice(f"{name}/scale")
            if layer is not None and not 0 <= layer < (depth := values.get_shape()[0]):
                raise UsageError(f"run {self.path} has no layer {layer}", expected=f"a layer from 0 to {depth - 1}")
            index = slice(None) if layer is None else layer
            return unscaled(values[index], scale[index])
        except (OSError, SafetensorError) as error:
            line = self._line(part, f"maps/{part}.safetensors cannot be read ({error})")
            self._problems.add(line)
            raise VifError(line) from error

    def _entry(self, sample_id: str) -> parts.Entry:
        if sample_id not in self._standing:
            raise UsageError(f"run {self.path} has no sample {sample_id}", expected="an id of its samples")
        return self._standing[sample_id]

    def _measured(self, sample_id: str) -> parts.Entry:
        entry = self._entry(sample_id)
        if not entry.done:
            raise UsageError(f"sample {sample_id} of run {self.path} failed: {self.sample(sample_id)['error']}")
        return entry

    def _line(self, part: str, problem: str) -> str:
        remedy = (
            f"Delete that file and layers/{part}.parquet, then run the same command again to measure its samples anew"
        )
        return str(VifError(f"run {self.path}: {problem}", next_step=remedy))
